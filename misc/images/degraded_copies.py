"""Degraded copies of image files: which there are, how one is made, and what was measured.

Each copy depends on its own seed alone, which is made from the run's seed, the image's relative
path and the degradation: neither the order nor the number of workers changes a pixel.
"""

import dataclasses
import hashlib
import json
import math
import pathlib
import re
import threading

import cv2
import numpy as np
import tensorflow as tf

import degradations
from degradations import base
from misc.images import files, image_files, result_folder

LAYOUTS = ("imagenet_c", "flat")
FORMATS = ("png", "jpeg")
# ImageNet-C stores its images with this JPEG quality.
JPEG_QUALITY = 85
# Half the time of the default for 3 % more bytes.
PNG_COMPRESSION = 3
RECORD_FOLDER = ".degrade_folder"


@dataclasses.dataclass(frozen=True)
class Variant:
    """One degradation, at one severity or with a level of its own.

    Attributes:
        label: its name in paths and tables.
        severity: 1 to 5, or None where the level is given otherwise.
        layer: the degradation.
    """

    label: str
    severity: float | None
    layer: base.Degradation

    @property
    def name(self):
        """Label and severity, such as fog@3."""
        return self.label if self.severity is None else f"{self.label}@{self.severity:g}"


def parse_severities(text):
    """Returns the severities in a text such as "1-5", "3" or "1,2.5,5".

    Raises:
        ValueError: unless they are different numbers from 1 to 5, or a range of whole ones.
    """
    numbers = []
    for part in str(text).split(","):
        match = re.fullmatch(r"\s*([0-9.]+)(?:-([0-9]+))?\s*", part)
        try:
            first, last = match.group(1), match.group(2)
            numbers += [float(first)] if last is None else range(int(first), int(last) + 1)
        except (AttributeError, ValueError):
            numbers = []
            break
    if not numbers or not all(1 <= n <= 5 for n in numbers) or len(set(numbers)) < len(numbers):
        raise ValueError(
            "--severities must be different numbers from 1 to 5, such as 1-5 or 1,3. "
            f"Received: {text!r}"
        )
    return [int(number) if number == int(number) else number for number in numbers]


def create_variants(texts, severities, size=224):
    """Returns a `Variant` for each degradation, at each severity where its text names no level.

    Args:
        texts: list of texts as `degradations.parse_list` takes them; groups are expanded.
        severities: list of numbers from 1 to 5.
        size: whose table of severities: 224, 64 or 32.

    Raises:
        ValueError: if a text can't be read, or two copies would have the same name.
    """
    variants = []
    for text in degradations.expand(texts):
        levels = severities if _takes_severity(text, size) else [None]
        layers = [degradations.parse(text, size, level or 1) for level in levels]
        label, fixed_severity = _label(text)
        for layer, level in zip(layers, levels, strict=True):
            variants.append(Variant(label, fixed_severity if level is None else level, layer))
    names = [variant.name for variant in variants]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"--degradations holds the same degradation twice: {', '.join(twice)}")
    return variants


def _takes_severity(text, size):
    first, second = (degradations.parse(text, size, severity) for severity in (1, 2))
    return _config(first) != _config(second)


def _config(layer):
    """Returns the layer's settings as text, without the automatic names of its parts."""
    return re.sub(r"'name': '[^']*'", "", repr(layer.get_config()))


def _label(text):
    """Returns (name fit for paths, severity that the text itself gives or None)."""
    text = degradations.label(text)
    simple = re.fullmatch(r"\s*(\w+)(?:@([0-9.]+))?(:[^|/()]*)?\s*", text)
    severity = None
    if simple and simple.group(2):
        text = simple.group(1) + (simple.group(3) or "")
        severity = float(simple.group(2))
    text = text.strip().replace("|", "+").replace("/", "_or_")
    return re.sub(r"[^\w.+-]+", "_", text).strip("_"), severity


@dataclasses.dataclass(frozen=True)
class Copy:
    """One file that is to be made."""

    variant: Variant
    target: pathlib.Path


def plan(found, folder, output_path, variants, layout="imagenet_c", output_format="png"):
    """Returns `(source, copies)` for each image.

    Args:
        found: list of image files.
        folder: the folder that their relative paths start from.
        output_path: folder for the results.
        variants: list of `Variant`.
        layout: "imagenet_c": DEGRADATION/SEVERITY/ and the relative path; "flat": one folder, with
            degradation and severity at the end of the name, and `__` for slashes of the path.
        output_format: "png" or "jpeg".

    Raises:
        ValueError: if two copies would be the same file, or a copy an image.
    """
    output_path, jobs = pathlib.Path(output_path), []
    for source in found:
        relative = source.relative_to(folder)
        copies = [
            Copy(variant, output_path / _place(relative, variant, layout, output_format))
            for variant in variants
        ]
        jobs.append((source, copies))
    image_files.check_targets([(source, copy.target) for source, copies in jobs for copy in copies])
    return jobs


def _place(relative, variant, layout, output_format):
    extension = ".png"
    if output_format == "jpeg":
        is_jpeg = relative.suffix.lower() in (".jpg", ".jpeg")
        extension = relative.suffix if is_jpeg else ".jpg"
    if layout == "flat":
        parts = ["__".join(relative.with_suffix("").parts), variant.label]
        parts += [] if variant.severity is None else [f"{variant.severity:g}"]
        return pathlib.Path("__".join(parts) + extension)
    folder = pathlib.Path(variant.label)
    if variant.severity is not None:
        folder = folder / f"{variant.severity:g}"
    return folder / relative.with_suffix(extension)


def make_seed(run_seed, relative_path, name):
    """Returns the seed of one copy, int32 [2]."""
    text = f"{run_seed}\n{pathlib.PurePath(relative_path).as_posix()}\n{name}"
    encoded = text.encode(errors="surrogateescape")  # not all names of files are UTF-8
    return np.frombuffer(hashlib.sha256(encoded).digest()[:8], "<i4").copy()


class Degrader:
    """Degrades images; safe to call from several threads."""

    def __init__(self, size=None, compiled=True):
        """Prepares nothing yet: a degradation is traced when it is first needed.

        Args:
            size: (height, width) of all images, or None if they differ. Then degradations that need
                a known size to be compiled run without; the pixels are the same.
            compiled: whether to trace; a single image is done faster without.
        """
        self._size = size or (None, None)
        self._compiled = compiled
        self._functions = {}
        self._lock = threading.Lock()

    def __call__(self, variant, image, seed):
        """Returns (uint8 image [H, W, 3], bytes of the codec's stream or None without a codec)."""
        pixels, counts = self._function(variant)(
            tf.constant(image[None], tf.float32), tf.constant(seed, tf.int32)
        )
        count = int(counts[0]) if variant.layer.codec_name else None
        return np.asarray(pixels[0]).astype(np.uint8), count

    def _function(self, variant):
        with self._lock:
            if variant.name not in self._functions:
                self._functions[variant.name] = self._create_function(variant.layer)
            return self._functions[variant.name]

    def _create_function(self, layer):
        def function(batch, seed):
            pixels, counts = layer.call_with_bytes(batch, seed)
            # Layers that keep fractions are stored as 8 bits here.
            return base.to_8_bits(pixels, layer.quantize or "round"), counts

        if not self._compiled:
            return function
        try:
            return tf.function(function, autograph=False).get_concrete_function(
                tf.TensorSpec([1, *self._size, 3], tf.float32), tf.TensorSpec([2], tf.int32)
            )
        except ValueError:
            # It needs a known size; any other reason shows again, in full, without tracing.
            return function


def encode(image, output_format="png", quality=JPEG_QUALITY):
    """Returns the bytes of a PNG or JPEG (4:2:0) file of a uint8 RGB image.

    OpenCV encodes without Python's lock, so that threads work side by side.

    Raises:
        ValueError: if the image is larger than the format allows.
    """
    options = [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION]
    if output_format == "jpeg":
        options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    extension = ".jpg" if output_format == "jpeg" else ".png"
    done, data = cv2.imencode(extension, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ValueError(f"an image of shape {image.shape} cannot be stored as {output_format}")
    return data.tobytes()


def decode(data):
    """Returns the uint8 RGB image of such bytes."""
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), 1), cv2.COLOR_BGR2RGB)


def mean_squared_error(first, second):
    """Returns the mean squared difference of two uint8 images, in grey levels squared."""
    difference = first.astype(np.float32) - second.astype(np.float32)
    return float(np.mean(np.square(difference), dtype=np.float64))


class Records:
    """What was measured of each copy: a file of lines, to which any number of threads append.

    A record is written before its image takes its place, so that every image that is there has one;
    a line that a killed run did not finish, or that is damaged, is left out.
    """

    def __init__(self, output_path, settings, overwrite=False):
        """Opens the records of an output folder.

        Args:
            output_path: the folder of results.
            settings: {name: value} that all images in the folder must share.
            overwrite: whether to begin anew.

        Raises:
            ValueError: if the folder was made with other settings.
        """
        self._output_path = pathlib.Path(output_path)
        self._path = self._output_path / RECORD_FOLDER / "records.jsonl"
        self._lock = threading.Lock()
        if overwrite:
            self._path.unlink(missing_ok=True)
        text = self._path.read_text("utf-8", errors="replace") if self._path.exists() else ""
        found = filter(None, map(_read_record, text.splitlines()))
        self._records = {record["path"]: record for record in found}
        replaced = overwrite or not self._records
        result_folder.keep_settings(self._path.parent, settings, replaced)

    def __contains__(self, target):
        return self._key(target) in self._records

    def add(self, copy, **measured):
        """Appends the record of one copy; `measured` holds numbers and texts."""
        record = {
            "path": self._key(copy.target),
            "degradation": copy.variant.label,
            "severity": copy.variant.severity,
            **measured,
        }
        with self._lock:
            self._records[record["path"]] = record
            # The line break comes first: it ends a line that was cut off.
            with files.naming(self._path), open(self._path, "a") as file:
                file.write("\n" + json.dumps(record))

    def _key(self, target):
        return pathlib.Path(target).relative_to(self._output_path).as_posix()

    def statistics(self):
        """Returns a list of rows, one per degradation and severity.

        Bytes are those of the codec where the degradation has one, else of the stored file. PSNR is
        the mean over the images that differ from their original; None if none does.
        """
        groups = {}
        # In an order that does not depend on which thread was the first.
        for _, record in sorted(self._records.items()):
            groups.setdefault((record["degradation"], record["severity"]), []).append(record)
        by_name = sorted(groups.items(), key=lambda group: (group[0][0], group[0][1] or 0))
        return [_summarize(label, severity, records) for (label, severity), records in by_name]


def _read_record(line):
    """Returns the record in a line, `None` if it holds no whole one."""
    try:
        record = json.loads(line)
        kinds = (
            isinstance(record["path"], str),
            isinstance(record["degradation"], str),
            isinstance(record["severity"], int | None),
            isinstance(record["format"], str),
            isinstance(record["codec"], str | None),
            isinstance(record["codec_bytes"], int | None),
            record["bytes"] > 0 and record["pixels"] > 0 and 0 <= record["mse"] < math.inf,
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return record if all(kinds) else None


def _summarize(label, severity, records):
    counted = [record for record in records if record["codec_bytes"]] or records
    with_codec = bool(counted[0]["codec_bytes"])
    sizes = [record["codec_bytes"] if with_codec else record["bytes"] for record in counted]
    pixels = [record["pixels"] for record in counted]
    changed = [record["mse"] for record in records if record["mse"] > 0]
    ratios = [10 * math.log10(255**2 / error) for error in changed]
    return {
        "degradation": label,
        "severity": severity,
        "images": len(records),
        "unchanged_images": len(records) - len(changed),
        "bytes_of": counted[0]["codec"] if with_codec else f"stored {counted[0]['format']}",
        "mean_bytes": sum(sizes) / len(sizes),
        "bits_per_pixel": 8 * sum(sizes) / sum(pixels),
        "psnr": sum(ratios) / len(ratios) if ratios else None,
    }


def write_copy(copy, source_pixels, degrader, seed, records, output_format, quality):
    """Degrades, encodes, measures and stores one copy."""
    degraded, codec_bytes = degrader(copy.variant, source_pixels, seed)
    data = encode(degraded, output_format, quality)
    if output_format == "jpeg":
        degraded = decode(data)
    records.add(
        copy,
        format=output_format,
        pixels=degraded.shape[0] * degraded.shape[1],
        bytes=len(data),
        codec=copy.variant.layer.codec_name,
        codec_bytes=codec_bytes,
        mse=mean_squared_error(source_pixels, degraded),
    )
    with files.write_atomically(copy.target) as temporary:
        temporary.write_bytes(data)


def measure_copy(copy, source_pixels, records, output_format):
    """Records a result that was there before, made elsewhere.

    Raises:
        ValueError: if it has another size than its source.
    """
    stored = image_files.read_rgb(copy.target)
    if stored.shape != source_pixels.shape:
        raise ValueError(
            f"{copy.target} is there already, but has another size than its original "
            f"({stored.shape[:2]}, not {source_pixels.shape[:2]}): give another --output_path, or "
            "--overwrite."
        )
    records.add(
        copy,
        format=output_format,
        pixels=stored.shape[0] * stored.shape[1],
        bytes=copy.target.stat().st_size,
        codec=None,
        codec_bytes=None,
        mse=mean_squared_error(source_pixels, stored),
    )
