"""The work of making a stored set: which pieces there are, what one does, what they add up to.

A piece is a shard: some images of one split. Shards share nothing, so that any number of threads,
processes and hosts that see the same folders may work on them, in any order. What is done is noted
image by image in a file of the shard's own, after the image has its name: a run that was killed
goes on behind the last one, and what was not noted is made again.
"""

import collections
import dataclasses
import functools
import hashlib
import importlib.metadata
import inspect
import pathlib
import shutil
import socket

import degradations
from degradations.sized import SizedDegradation
from misc.images import degraded_copies, files, image_files, resizing, shard_records, stored_sets
from misc.images.shard_records import Record
from misc.images.stored_sets import STREAM, Manifest

RECORD_FOLDER = ".dataset_preprocessing"
STATISTICS = "statistics.json"
SPLITS = ("train", "val", "validation", "test")
# Of a slow codec a shard takes seconds, of a fast one it is longer than what starting it costs.
SHARD_SIZE = 32
# What all images depend on, whatever the codec.
PACKAGES = ("pillow", "opencv-python-headless")


@dataclasses.dataclass(frozen=True)
class Job:
    """What the shards of a set have in common.

    Attributes:
        input_path: folder of the images, text.
        output_path: folder of the set, text.
        manifest: the set's `Manifest`.
        skip_broken: whether images that cannot be read are left out instead of raised.
    """

    input_path: str
    output_path: str
    manifest: Manifest
    skip_broken: bool = False


@dataclasses.dataclass(frozen=True)
class Shard:
    """A piece of work.

    Attributes:
        split: name of the split, "" without splits.
        number: the shard's number in the split.
        names: names of its images below the split's folder.
    """

    split: str
    number: int
    names: tuple

    def records(self, output_path):
        """Returns the path of the file that notes what is done."""
        return pathlib.Path(output_path, RECORD_FOLDER, self.split, f"{self.number:06d}.jsonl")


def find_splits(input_path, wanted=None):
    """Returns {split: list of the names of its images}, in the order of classes and names.

    Args:
        input_path: folder of splits (`SPLITS`) with folders of classes, or of folders of classes;
            the only split is then called "".
        wanted: names of the splits to take; `None`: all that are there.

    Raises:
        ValueError: if there is no such folder, split or image.
    """
    folder = pathlib.Path(input_path)
    if not folder.is_dir():
        raise ValueError(f"--input_path is a folder of classes or splits. Received: {input_path}")
    there = [name for name in SPLITS if (folder / name).is_dir() and _folders(folder / name)]
    missing = sorted(set(wanted or ()) - set(there))
    if missing:
        raise ValueError(
            f"--splits={','.join(missing)}: there is no such folder of classes in {input_path}. "
            f"Found: {', '.join(there) or 'none'}"
        )
    found = {name: _find_images(folder / name) for name in wanted or there or ("",)}
    for name, names in found.items():
        stems = collections.Counter(str(pathlib.PurePosixPath(n).with_suffix("")) for n in names)
        if len(stems) < len(names):
            twice = stems.most_common(1)[0][0]
            raise ValueError(
                f"Several images in {folder / name} are called {twice} but for their extension: "
                "they would become one file."
            )
        if not names:
            raise ValueError(
                f"{folder / name} holds no images in folders of classes "
                f"({', '.join(image_files.EXTENSIONS)})."
            )
    return found


def _find_images(folder):
    return [
        path.relative_to(folder).as_posix()
        for name in _folders(folder)
        for path in image_files.find_images(folder / name)
    ]


def _folders(folder):
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def create_manifest(
    splits,
    degradation,
    store="decoded",
    output_format="ppm",
    resize=256,
    crop=224,
    size=224,
    interpolation="bicubic",
    upright=True,
    seed=0,
):
    """Returns the `Manifest` of a set that this machine would make.

    Args:
        splits: see `find_splits`.
        degradation: text for `degradations.parse`, "" for none.
        store: one of `stored_sets.STORES`.
        output_format: format of decoded images.
        resize: see `Manifest`, as the following.
        crop: see there.
        size: see there.
        interpolation: see there.
        upright: see there.
        seed: see there.

    Raises:
        ValueError: if the degradation cannot be read, or has no bit streams to store.
    """
    codec = describe_codec(degradation)
    if store == "bitstreams" and not isinstance(parse(degradation), SizedDegradation):
        raise ValueError(
            "--store=bitstreams needs one codec, such as --degradations=bpg:51; other degradations "
            f"are stored as decoded images. Received: --degradations={degradation}"
        )
    return Manifest(
        degradation=degradation,
        **codec,
        store=store,
        format=output_format,
        resize=resize,
        crop=crop,
        size=size,
        interpolation=interpolation,
        upright=upright,
        seed=seed,
        splits={
            name: {"images": len(names), "list": stored_sets.digest(names)}
            for name, names in splits.items()
        },
    )


@functools.cache
def describe_codec(degradation):
    """Returns what a degradation is on this machine: {"codec", "options", "versions"}.

    They are those of `Manifest`; a degradation that cannot be read is a ValueError.
    """
    layer = parse(degradation)
    codec = layer.codec if isinstance(layer, SizedDegradation) else None
    parameters = inspect.signature(type(codec)).parameters if codec else {}
    packages = {*PACKAGES, *(codec.packages if codec else ())}
    versions = {name: importlib.metadata.version(name) for name in sorted(packages)}
    program = shutil.which("bpgenc") if getattr(codec, "program", None) == "bpgenc" else None
    if program:
        versions["bpgenc"] = hashlib.sha256(pathlib.Path(program).read_bytes()).hexdigest()[:12]
    return {
        "codec": getattr(codec or layer, "codec_name", None),
        # The codec's own come first: it may stand in for another one.
        "options": {
            name: getattr(codec, name, getattr(layer, name, parameter.default))
            for name, parameter in parameters.items()
        },
        "versions": versions,
    }


@functools.cache
def parse(degradation):
    """Returns the layer that a text describes, `None` for ""."""
    return degradations.parse(degradation) if degradation else None


def forget(output_path):
    """Removes what says that anything in a set is done; its images are then replaced one by one."""
    folder = pathlib.Path(output_path)
    for name in (stored_sets.MANIFEST, STATISTICS):
        (folder / name).unlink(missing_ok=True)
    for index in [*folder.glob(stored_sets.INDEX), *folder.glob(f"*/{stored_sets.INDEX}")]:
        index.unlink()
    shutil.rmtree(folder / RECORD_FOLDER, ignore_errors=True)


def prepare(output_path, manifest):
    """Writes the manifest of a set, or finds that the one that is there is the same.

    Args:
        output_path: folder of the set.
        manifest: its `Manifest`. Splits that the set has besides are kept.

    Returns:
        The `Manifest` of the whole set.

    Raises:
        ValueError: if the folder holds a set of other settings or images, or a damaged manifest.
    """
    folder = pathlib.Path(output_path)
    if (folder / stored_sets.MANIFEST).exists():
        before = stored_sets.read_manifest(folder)
        # A split may come later; those that are there stay as they are.
        expected = dataclasses.replace(before, splits=manifest.splits | before.splits)
        splits = dict(sorted((before.splits | manifest.splits).items()))
        manifest = dataclasses.replace(manifest, splits=splits)
        others = manifest.differences(expected)
        if "" in manifest.splits and len(manifest.splits) > 1:
            others.append("it has splits, or gets some")
        if others:
            raise ValueError(
                f"--output_path={output_path} holds a set of other settings or images "
                f"({'; '.join(others)}): give another --output_path, or --overwrite."
            )
    manifest.write(folder)
    return manifest


def plan(splits):
    """Returns the list of `Shard` of the splits of `find_splits`."""
    return [
        Shard(split, first // SHARD_SIZE, tuple(names[first : first + SHARD_SIZE]))
        for split, names in splits.items()
        for first in range(0, len(names), SHARD_SIZE)
    ]


def work(job, shard):
    """Makes the images of a shard that are not there; returns (made, present, broken messages).

    Raises:
        ValueError: for a broken image, unless they are skipped; names it.
        DiskFullError: when the disk takes no more.
    """
    _check_here(job.manifest)
    path = shard.records(job.output_path)
    records = shard_records.read(path)
    source, target = (pathlib.Path(p, shard.split) for p in (job.input_path, job.output_path))
    made, present, broken = 0, 0, []
    with files.open_writer(job.output_path) as write:
        for name in shard.names:
            if shard_records.is_done(records.get(name), target):
                present += 1
                continue
            try:
                pixels = _read(source / name, job.manifest)
                data, suffix, size = degrade(pixels, name, job.manifest)
                file = pathlib.PurePosixPath(name).with_suffix(suffix).as_posix()
                write(target / file, data)
                made += 1
            except ValueError as error:
                if not job.skip_broken:
                    raise
                broken.append(str(error))
                file, size, data = "", 0, b""
            shard_records.add(path, Record(name, file, size, len(data)))
    return made, present, broken


def _check_here(manifest):
    """Raises OSError if a host of a cluster has other codecs than the one that began the set."""
    here = dataclasses.replace(manifest, **describe_codec(manifest.degradation))
    others = here.differences(manifest)
    if others:
        raise OSError(
            f"{socket.gethostname()} would make other images than the set's manifest tells: "
            f"{'; '.join(others)}. All hosts need the same packages."
        )


def _read(path, manifest):
    names = ("resize", "crop", "interpolation", "size")
    shape = {name: getattr(manifest, name) for name in names}
    return resizing.read_and_crop(path, manifest.upright, **shape)


def degrade(pixels, name, manifest):
    """Returns (bytes of the file to store, its extension, size of the bit stream) of an image.

    Args:
        pixels: uint8 RGB `[size, size, 3]`.
        name: name of the image, which its draws depend on.
        manifest: `Manifest` of the set.
    """
    layer, size = parse(manifest.degradation), 0
    seed = degraded_copies.make_seed(manifest.seed, name, manifest.degradation)
    if isinstance(layer, SizedDegradation):
        level = layer.draw_level(seed)
        if level is None and manifest.store == "bitstreams":
            return degraded_copies.encode(pixels), ".png", 0
        if level is not None:
            if manifest.store == "bitstreams":
                stream = layer.codec.encode(pixels, level)
                return stream, STREAM, len(stream)
            pixels, size = layer.codec.round_trip(pixels, level)
    elif layer is not None:
        variant = degraded_copies.Variant(manifest.degradation, None, layer)
        pixels, size = _degrader(manifest.size)(variant, pixels, seed)
    if manifest.format == "png":
        return degraded_copies.encode(pixels), ".png", size or 0
    return stored_sets.encode_ppm(pixels), ".ppm", size or 0


@functools.cache
def _degrader(size):
    return degraded_copies.Degrader((size, size))


def finish(job, splits, shards):
    """Writes the indices of the splits that are complete; returns rows of statistics.

    Args:
        job: the `Job`.
        splits: see `find_splits`.
        shards: list of all shards of these splits.

    Returns:
        A list of {name: value}, one per split; "complete" says whether all of its images are there
        or known to be broken.
    """
    rows = []
    for split, names in splits.items():
        records = {}
        for shard in shards:
            if shard.split == split:
                records |= shard_records.read(shard.records(job.output_path))
        found = [records[name] for name in names if name in records]
        rows.append(_summarize(split, found, len(names), job.manifest))
        if rows[-1]["complete"]:
            index = [(record.image, record.file, record.bytes) for record in found]
            folder = pathlib.Path(job.output_path, split)
            stored_sets.write_index(folder, index)
    files.sweep([job.output_path])
    return rows


def _summarize(split, records, count, manifest):
    """Returns a row; images that went through no codec are in no mean of sizes."""
    stored = [record for record in records if record.file]
    coded = [record.bytes for record in stored if record.bytes]
    mean = sum(coded) / len(coded) if coded else None
    return {
        "split": split,
        "degradation": manifest.degradation,
        "codec": manifest.codec,
        "images": count,
        "stored": len(stored),
        "broken": len(records) - len(stored),
        "coded": len(coded),
        "mean_bytes": mean,
        "bits_per_pixel": None if mean is None else 8 * mean / manifest.size**2,
        "mean_file_bytes": sum(r.file_bytes for r in stored) / len(stored) if stored else None,
        "complete": len(records) == count,
    }
