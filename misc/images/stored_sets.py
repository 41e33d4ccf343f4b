"""Stored sets: the images of a data set, resized and degraded once, to be read many times.

A set is a folder that `misc.dataset_preprocessing` writes:

    manifest.json           what all images were made with, and of which images
    SPLIT/index.csv         for each image its file and the bytes of its bit stream; comes last
    SPLIT/CLASS/NAME.ppm    the images: PPM, PNG or bit streams

Without splits, the classes lie in the set's folder itself.
"""

import csv
import dataclasses
import hashlib
import io
import pathlib

import numpy as np

import degradations
from misc.images import files, image_files

MANIFEST = "manifest.json"
INDEX = "index.csv"
COLUMNS = ("image", "file", "bytes")
STORES = ("decoded", "bitstreams")
# Of bit streams the file's name does not tell the codec: what decodes them is in the manifest.
STREAM = ".bitstream"
SUFFIXES = {"ppm": ".ppm", "png": ".png"}
COMMAND = "python -m misc.dataset_preprocessing"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What all images of a set are made with.

    Attributes:
        degradation: text for `degradations.parse`; "" for none.
        codec: name of the codec that ran, `None` without one.
        options: {name: value} that the codec was made with.
        versions: {package: version} of what the pixels depend on.
        store: one of `STORES`.
        format: of decoded images: a key of `SUFFIXES`.
        resize: length that the shorter side was resized to, or `None`.
        crop: side of the central square that was cut out.
        size: side of the stored images, which the square was then resized to.
        interpolation: one of `resizing.INTERPOLATIONS`.
        upright: whether images were turned as their EXIF orientation says.
        seed: seed of all draws.
        splits: {name: {"images": their number, "list": digest of their names}}; the name is "" for
            a folder of classes without splits.
    """

    degradation: str
    codec: str | None
    options: dict
    versions: dict
    store: str
    format: str
    resize: int | None
    crop: int
    size: int
    interpolation: str
    upright: bool
    seed: int
    splits: dict

    def write(self, folder):
        """Writes the manifest of the set in a folder."""
        files.write_json(pathlib.Path(folder, MANIFEST), dataclasses.asdict(self))

    def differences(self, other):
        """Returns a list of texts: what was otherwise in another manifest."""
        found = []
        for field in dataclasses.fields(self):
            own, others = getattr(self, field.name), getattr(other, field.name)
            if not isinstance(own, dict):
                own, others = {field.name: own}, {field.name: others}
            for key in sorted({*own, *others}):
                before, now = others.get(key), own.get(key)
                if before != now and field.name == "splits":
                    found.append(
                        f"{key or 'the folder'} had {before['images']} images, has "
                        f"{now['images']}, of other names"
                    )
                elif before != now:
                    found.append(f"{key} was {before!r}, is {now!r}")
        return found


def read_manifest(folder):
    """Returns the `Manifest` of the set in a folder.

    Raises:
        FileNotFoundError: if the folder holds none.
        ValueError: if it is damaged, or of another version of this project.
    """
    path = pathlib.Path(folder, MANIFEST)
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no set of `{COMMAND}`: {path} is missing.")
    content = files.read_json(path)
    known = {field.name: field.type for field in dataclasses.fields(Manifest)}
    try:
        right = set(content) == set(known) and all(
            isinstance(content[name], kind) and isinstance(content[name], bool) == (kind is bool)
            for name, kind in known.items()
        )
        right = right and content["store"] in STORES and content["format"] in SUFFIXES
        right = right and min(content["size"], content["crop"]) > 0
        for split in content["splits"].values() if right else ():
            right = right and isinstance(split["images"], int) and isinstance(split["list"], str)
    except (TypeError, KeyError):
        right = False
    if not right:
        raise ValueError(
            f"{path} is damaged, or of another version of this project: take another copy of it, "
            f"or make the set again (`{COMMAND} --overwrite`)."
        )
    return Manifest(**content)


def digest(names):
    """Returns the digest of a list of names, as manifests have it."""
    return hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()


def write_index(folder, rows):
    """Writes the index of a split.

    Args:
        folder: the split's folder.
        rows: list of (image, file, bytes): names below the split's folders, those of broken images
            with an empty file; bytes of the bit stream, 0 without one.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    with files.write_atomically(pathlib.Path(folder, INDEX)) as temporary:
        # Names of files need not be text.
        temporary.write_bytes(text.getvalue().encode(errors="surrogateescape"))


class StoredSet:
    """A set, opened for reading.

    Attributes:
        manifest: its `Manifest`.
    """

    def __init__(self, folder):
        """Opens the set in a folder.

        Raises:
            FileNotFoundError: if the folder holds no set.
            ValueError: if its manifest is damaged, or its bit streams cannot be decoded here.
        """
        self._folder = pathlib.Path(folder)
        self.manifest = read_manifest(folder)
        self._codec = _codec(self.manifest, folder) if self.manifest.store == "bitstreams" else None

    def find(self, folder, names):
        """Returns (list of stored files, bytes of their bit streams int32 [N]) of images.

        Args:
            folder: folder of classes that the images lie in: a split that the set was made of, by
                its name.
            names: their names below that folder; of all its images.

        Raises:
            ValueError: unless they are those that the set was made of, and it is finished.
        """
        split, name = self._split(folder)
        path = split / INDEX
        if not path.is_file():
            raise ValueError(
                f"{path} is missing: the set is not finished. The command that began it "
                f"(`{COMMAND} ...`) goes on there."
            )
        index = _read_index(path)
        expected = self.manifest.splits[name]
        if len(index) != expected["images"] or digest(index) != expected["list"]:
            raise ValueError(
                f"{path} does not fit the set's manifest, which tells of {expected['images']} "
                f"images. It has {len(index)}. {files.FETCH_AGAIN}"
            )
        missing = [one for one in names if one not in index]
        unknown = len(index) + len(missing) - len(names)
        if missing or unknown:
            example = f", such as {missing[0]}" if missing else ""
            raise ValueError(
                f"{split} was made of other images than those in {folder}: {len(missing)} of these "
                f"are not in the set{example}, and {unknown} of the set not there."
            )
        found = [index[one] for one in names]
        # A broken image keeps its place; reading it says so.
        stored = [
            split / file if file else self._folder / f"{one} (broken)"
            for one, (file, _) in zip(names, found, strict=True)
        ]
        return stored, np.array([size for _, size in found], np.int32)

    def read(self, path):
        """Returns the stored image in a file, uint8 RGB `[size, size, 3]`.

        Raises:
            ValueError: if the file is missing or damaged; names it.
        """
        size = self.manifest.size
        if path.suffix == ".ppm":
            return read_ppm(path, size)
        if path.suffix == STREAM:
            try:
                pixels = self._codec.decode(path.read_bytes())
            except MemoryError:
                raise
            except Exception as error:  # each library has errors of its own
                raise ValueError(f"Cannot decode {path}: {error}") from error
            if pixels.shape[-1] == 1:
                pixels = np.repeat(pixels, 3, axis=-1)
        else:
            pixels = image_files.read_rgb(path)
        if pixels.shape != (size, size, 3):
            raise ValueError(
                f"{path} should hold {size}x{size} pixels. Received: "
                f"{pixels.shape[0]}x{pixels.shape[1]}"
            )
        return pixels

    def _split(self, folder):
        splits = self.manifest.splits
        name = "" if set(splits) == {""} else pathlib.Path(folder).resolve().name
        if name not in splits:
            raise ValueError(
                f"{self._folder} holds {', '.join(splits)}, and nothing of {folder}, whose last "
                "part should be one of these."
            )
        return self._folder / name, name


def read_ppm(path, size):
    """Returns the image in a PPM file of `encode_ppm`, uint8 RGB `[size, size, 3]`.

    Raises:
        ValueError: if the file is missing, damaged, or of another size; names it.
    """
    header = _ppm_header(size)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"Cannot read {path}: {error.strerror}") from error
    if len(data) != len(header) + 3 * size * size or not data.startswith(header):
        raise ValueError(f"{path} is damaged: it should be a PPM file of {size}x{size} pixels")
    return np.frombuffer(data, np.uint8, offset=len(header)).reshape(size, size, 3)


def encode_ppm(image):
    """Returns the PPM file of a square uint8 RGB image."""
    return _ppm_header(len(image)) + image.tobytes()


def _ppm_header(size):
    return b"P6\n%d %d\n255\n" % (size, size)


def _codec(manifest, folder):
    """Returns the codec that decodes the set's bit streams."""
    text = manifest.degradation
    try:
        codec = type(degradations.parse(text).codec)(**manifest.options)
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        raise ValueError(
            f"{folder} holds bit streams of {manifest.codec} ({text}), which cannot be decoded "
            f"here: {error}"
        ) from error
    if codec.codec_name != manifest.codec:
        raise ValueError(
            f"{folder} holds bit streams of {manifest.codec}. {text} is {codec.codec_name} here."
        )
    return codec


def _read_index(path):
    """Returns {image: (file, bytes)} of an index, in its order."""
    text = files.read_text(path, errors="surrogateescape")
    try:
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        if tuple(next(rows)) != COLUMNS:
            raise ValueError(f"its columns should be {', '.join(COLUMNS)}")
        index = {image: (file, int(size)) for image, file, size in rows}
        if min((size for _, size in index.values()), default=0) < 0:
            raise ValueError("bytes are below 0")
    except (ValueError, StopIteration, csv.Error) as error:
        raise ValueError(f"{path} is damaged: {error}. {files.FETCH_AGAIN}") from error
    return index
