"""Command: degrades a data set once and stores it, for training and evaluation to read many times.

    python -m misc.dataset_preprocessing --input_path=imagenet --output_path=imagenet_bpg51 \\
        --degradations=bpg:51
    python -m misc.dataset_preprocessing ... --store=bitstreams --workers=16
    python -m misc.dataset_preprocessing ... --shard=3/64
    python -m misc.dataset_preprocessing ... --engine=dask --dask_scheduler=tcp://HOST:8786

Marie, Desnos, Morin & Zhang, "Expert Training: Enhancing AI Resilience to Image Coding Artifacts"
(Electronic Imaging 2022): images are resized, cut out, and then distorted. --input_path holds train
and val, with folders of classes, or folders of classes alone. The same command run again goes on
where it was stopped, on any number of machines that see the same folders. Read are the results with
--dataloader=class_folders --data_degraded_path. statistics.json and statistics.csv have the mean
bytes and bits per pixel of each split.
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import functools
import itertools
import os
import pathlib
import re

from absl import flags, logging

from classifiers import class_names
from misc.images import (
    engines,
    files,
    image_files,
    locks,
    preprocessing,
    resizing,
    stored_sets,
    threads,
)
from misc.reports import report
from misc.training import command_line, common_flags

SIZE, RESIZE = 224, 256


def define_flags():
    """Defines the flags of this command."""
    flags.DEFINE_string(
        "input_path",
        None,
        "Folder with train and val, each with a folder of images for each class; or a folder of "
        "such classes.",
    )
    flags.DEFINE_string("output_path", None, "Folder for the results.")
    flags.DEFINE_string(
        "degradations",
        "bpg:51",
        "One degradation, such as bpg:51, 'jpeg:10,subsampling=444' or 'jpeg2000:200,p=0.5'; "
        "empty: none, images are only resized.",
    )
    flags.DEFINE_enum(
        "store",
        stored_sets.STORES[0],
        stored_sets.STORES,
        "What is stored: decoded: images without further loss; bitstreams: the codec's files, "
        "which are decoded each time.",
    )
    flags.DEFINE_enum(
        "format",
        "ppm",
        list(stored_sets.SUFFIXES),
        "Format of decoded images: ppm is read fastest, png is smaller.",
    )
    common_flags.define_names(
        "splits", None, f"Splits to work on; default: {', '.join(preprocessing.SPLITS)}, if there."
    )
    flags.DEFINE_integer(
        "size",
        None,
        f"Side of the stored images, in pixels; default: that of --crop, else {SIZE}.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "resize",
        None,
        "Length that the shorter side is first resized to, 0: as it is; default: 256/224 of "
        "--crop.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "crop",
        None,
        "Side of the central square that is then cut out, which is resized to --size at last; "
        "default: --size, at least 224.",
        lower_bound=1,
    )
    flags.DEFINE_enum(
        "interpolation",
        "bicubic",
        resizing.INTERPOLATIONS,
        "How images are resized: as Pillow does, or with OpenCV's INTER_AREA.",
    )
    common_flags.define_seed_flag("Seed of random draws.")
    common_flags.define_engine_flags(os.cpu_count() or 1, "Shards that are worked on")
    flags.DEFINE_string(
        "shard", "1/1", "Work on one part of many alone: 3/64 is the third of 64, for job arrays."
    )
    flags.DEFINE_bool("overwrite", False, "Make everything again; otherwise it goes on.")
    flags.DEFINE_bool("skip_broken", False, "Go on after images that cannot be read.")


def main(settings):
    """Runs the command; returns its exit status."""
    for name in ("input_path", "output_path"):
        if not settings.get(name):
            raise ValueError(command_line.describe_missing(name))
    part = parse_part(settings.shard)
    if settings.overwrite and part != (1, 1):
        raise ValueError("--overwrite would remove what other --shard have made: use it without.")
    splits = find_splits(settings.input_path, settings.output_path, settings.splits)
    classes = {name.partition("/")[0] for names in splits.values() for name in names}
    manifest = preprocessing.create_manifest(
        splits,
        settings.degradations,
        settings.store,
        settings.format,
        # As evaluations read them: ImageNet's figures are of images that nobody turned.
        upright=not class_names.are_imagenet(classes),
        **_shape(settings),
    )
    counts, rows = preprocess(
        settings.input_path,
        settings.output_path,
        splits,
        manifest,
        part,
        functools.partial(
            engines.open_executor, settings.engine, settings.workers, settings.dask_scheduler
        ),
        overwrite=settings.overwrite,
        skip_broken=settings.skip_broken,
    )
    print(
        f"{counts['made']} images made in {settings.output_path}, {counts['present']} were there "
        f"already, {len(counts['broken'])} skipped"
    )
    for message in counts["broken"]:
        print(f"skipped: {message}")
    for row in rows:
        print(describe(row))
    return 1 if counts["broken"] else 0


def _shape(settings):
    size = settings.size or settings.crop or SIZE
    crop = settings.crop or max(size, SIZE)
    resize = RESIZE * crop // SIZE if settings.resize is None else settings.resize
    if 0 < resize < crop:
        raise ValueError(f"--resize={resize} leaves less than the square of --crop={crop}.")
    return {
        "size": size,
        "crop": crop,
        "resize": resize or None,
        "interpolation": settings.interpolation,
        "seed": settings.seed,
    }


def parse_part(text):
    """Returns (k, n) of a text "k/n", k from 1 to n.

    Raises:
        ValueError: for other texts.
    """
    match = re.fullmatch(r"\s*(\d{1,9})/(\d{1,9})\s*", text)
    part = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= part[0] <= part[1]:
        raise ValueError(f"--shard is a part of all parts, from 1/64 to 64/64. Received: {text!r}")
    return part


def find_splits(input_path, output_path, wanted):
    """Returns `preprocessing.find_splits`, unless results would lie among its images."""
    source, target = (os.path.realpath(path) for path in (input_path, output_path))
    splits = preprocessing.find_splits(input_path, wanted)
    if source == target or any(
        os.path.realpath(pathlib.Path(source, name)) == target
        or image_files.lies_within(target, pathlib.Path(source, name))
        for name in splits
    ):
        raise ValueError(
            f"--output_path={output_path} lies among the images: give one that does not."
        )
    return splits


def preprocess(
    input_path, output_path, splits, manifest, part, open_executor, overwrite, skip_broken
):
    """Makes a stored set, or goes on with it.

    Args:
        input_path: folder of the images.
        output_path: folder of the set.
        splits: see `preprocessing.find_splits`.
        manifest: `Manifest` of the set.
        part: see `preprocessing.plan`.
        open_executor: function that returns the context of an executor.
        overwrite: whether to make everything again.
        skip_broken: whether to leave out images that cannot be read.

    Returns:
        ({"made": number, "present": number, "broken": list of messages}, rows of statistics).

    Raises:
        ValueError: if the folder holds other results, or an image is broken (named).
        OSError: if another process does the same, or the disk takes no more.
    """
    own = pathlib.Path(output_path)
    if part != (1, 1):
        own /= f"{preprocessing.RECORD_FOLDER}/part_{part[0]}_of_{part[1]}"
    with locks.hold(own):
        if overwrite:
            preprocessing.forget(output_path)
        manifest = preprocessing.prepare(output_path, manifest)
        # Hosts of a cluster may work in another folder.
        paths = (os.path.abspath(path) for path in (input_path, output_path))
        job = preprocessing.Job(*paths, manifest, skip_broken)
        shards = preprocessing.plan(splits)
        with open_executor() as executor:
            found, _ = threads.for_each(
                functools.partial(preprocessing.work, job),
                shards[part[0] - 1 :: part[1]],
                "Preprocessing",
                executor=executor,
                count_units=lambda shard: len(shard.names),
            )
        rows = preprocessing.finish(job, splits, shards)
        write_statistics(output_path, rows)
    made, present, broken = zip(*found, strict=True) if found else ((), (), ())
    return {"made": sum(made), "present": sum(present), "broken": [*itertools.chain(*broken)]}, rows


def write_statistics(output_path, rows):
    """Writes the statistics of the splits that are complete, beside those of others."""
    path = pathlib.Path(output_path, preprocessing.STATISTICS)
    known = {row["split"]: row for row in rows if row["complete"]}
    if path.exists():
        try:
            known = {row["split"]: row for row in files.read_json(path)} | known
        except (ValueError, TypeError, KeyError):
            logging.warning("%s is damaged and written again", path)
    if known:
        known = [row for _, row in sorted(known.items())]
        files.write_json(path, known)
        report.write_table(path.with_suffix(".csv"), known)


def describe(row):
    """Returns one row of statistics as a line of text."""
    name = row["split"] or "all"
    if not row["complete"]:
        return f"{name}: {row['stored']} of {row['images']} images so far"
    if row["mean_bytes"] is None:
        return f"{name}: {row['stored']} images, no bit streams"
    return (
        f"{name}: {row['stored']} images, of {row['coded']} bit streams ({row['codec']}): "
        f"{row['mean_bytes']:.1f} bytes, {row['bits_per_pixel']:.4f} bits per pixel"
    )


if __name__ == "__main__":
    define_flags()
    entry_point.run(main, with_model=False)
