"""Trained methods as files that run without this project's code, and such files as methods.

Four formats: a frozen TensorFlow graph (.pb), a SavedModel folder, and one ONNX and one TFLite file
per scale. Each file is read back and compared with the method before it gets its name, and carries
a description of itself, so that tools know its scales and how much tiles have to overlap.
"""

import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib

import numpy as np
import tensorflow as tf

from misc.export import (
    frozen_graph,
    frozen_onnx,
    frozen_saved_model,
    frozen_tflite,
    graph_probe,
)
from misc.images import files
from misc.training import registry

# Part of the largest output value: 0.01 grey levels for images in 0-255. Float32 sums in another
# order differ by about a tenth of that.
TOLERANCE = 4e-5
EXTRA = "degraded-vision[deploy]"


@dataclasses.dataclass(frozen=True)
class Format:
    """One kind of file: how it is called, written and read, and what that needs.

    Its module has `write(method, description, path)`, `read(path)`, which returns the text of the
    description or `None` and what `open_model(read, description, threads)` makes a function of
    images and scale, which returns {name: array}.
    """

    suffix: str
    module: object
    packages: tuple = ()
    one_per_scale: bool = False


FORMATS = {
    "pb": Format(".pb", frozen_graph),
    "saved_model": Format("_saved_model", frozen_saved_model),
    "onnx": Format(".onnx", frozen_onnx, ("onnx", "tf2onnx", "onnxruntime"), True),
    "tflite": Format(".tflite", frozen_tflite, ("ai_edge_litert",), True),
}


@dataclasses.dataclass(frozen=True)
class Description:
    """What a frozen file says about itself.

    Attributes:
        images: name of the input for images, float32 `[batch, height, width, 3]` in 0-255, or what
            the two fields `input_...` make of them.
        scale: name of the input for the scale, a float32 scalar; `None` if there is none.
        outputs: {name in `Method.predict`: name in the file}.
        scales: scales that the file serves; `(None,)` for a method without.
        radius: for each scale, the receptive radius in input pixels, `None` if unknown.
        factor: for each scale, the output's size divided by the input's.
        step: training step of the weights, `None` if unknown.
        input_offset: what is subtracted from the images before they are given to the file.
        input_divisor: what they are divided by then.
        metadata: {name: value} of what the method says beyond this, see `Method.metadata`.
    """

    images: str
    scale: str | None
    outputs: dict
    scales: tuple
    radius: tuple
    factor: tuple
    step: int | None = None
    input_offset: float = 0.0
    input_divisor: float = 1.0
    metadata: dict = dataclasses.field(default_factory=dict)

    def to_json(self):
        """Returns the description as text."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text):
        """Returns the description in a text of `to_json`; another text is a ValueError."""
        try:
            values = json.loads(text)
            lists = {name: tuple(values[name]) for name in ("scales", "radius", "factor")}
            found = cls(**values | lists)
            found._check()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"its description is damaged: {error}") from error
        return found

    def _check(self):
        whole = (int, type(None))
        right = (
            isinstance(self.images, str)
            and isinstance(self.scale, str | None)
            and isinstance(self.metadata, dict)
            and all(isinstance(n, str) for pair in self.outputs.items() for n in pair)
            and all(isinstance(n, whole) for n in (*self.scales, *self.radius, *self.factor))
            and len(self.scales) == len(self.radius) == len(self.factor)
            and isinstance(self.input_offset, int | float)
            and isinstance(self.input_divisor, int | float)
        )
        if not right:
            raise ValueError(self.to_json())


SUFFIXES = tuple(kind.suffix for kind in FORMATS.values() if kind.suffix.startswith("."))


def describe(method, scale=None):
    """Returns the `Description` of a `Method`'s file, which serves all scales or only one."""
    scales = tuple(method.scales) or (None,)
    names = method.export_names
    if scale is not None:
        scales, names = (scale,), names | {"scale": None}
    return Description(
        **names,
        scales=scales,
        radius=tuple(method.receptive_radius(scale) for scale in scales),
        factor=tuple(method.factor(scale) for scale in scales),
        step=int(method.restored_step),
        input_offset=float(method.export_normalization[0]),
        input_divisor=float(method.export_normalization[1]),
        metadata=dict(method.metadata),
    )


@dataclasses.dataclass
class Result:
    """What became of a file: bytes, largest difference to the method, and why it is missing.

    A file that was `kept` is one of an earlier call.
    """

    path: pathlib.Path
    size: int = 0
    difference: float = float("nan")
    error: str | None = None
    kept: bool = False


def missing_packages(name):
    """Returns the packages that a format needs and that are not installed."""
    return [p for p in FORMATS[name].packages if importlib.util.find_spec(p) is None]


def paths(base, formats, scales):
    """Returns [(format, scale, path)] of the files that `freeze` writes."""
    base = pathlib.Path(base)
    found = []
    for name in formats:
        kind = FORMATS[name]
        for scale in (scales or (None,)) if kind.one_per_scale else (None,):
            suffix = f"_x{scale}{kind.suffix}" if scale else kind.suffix
            found.append((name, scale, base.with_name(base.name + suffix)))
    return found


def freeze(method, base, formats=("pb",), overwrite=False):
    """Writes a method's `predict` to files, each checked against the method.

    Args:
        method: `Method` with float32 networks; its `export_names` name inputs and outputs.
        base: path without extension: runs/model becomes runs/model.pb, runs/model_saved_model,
            runs/model_x2.onnx and so on.
        formats: names in `FORMATS`.
        overwrite: whether to replace existing files. Otherwise those that are what would be
            written now, as after a call that was stopped, are kept.

    Yields:
        `Result` of each file, as soon as it is done. A file that cannot be converted, or whose
        outputs differ by more than `TOLERANCE`, is not left behind.

    Raises:
        ValueError: for an unknown format, networks of other types, or a format whose packages are
            missing; before any file is written.
        FileExistsError: when another file exists, without `overwrite`; before any is written.
        DiskFullError: when the disk takes no more.
    """
    _check_formats(formats)
    _check_float32(method)
    planned = paths(base, formats, method.scales)
    files.sweep({path.parent for *_, path in planned})
    references = {}
    kept = {} if overwrite else _find_kept(method, planned, references)
    for name, scale, path in planned:
        if path in kept:
            yield kept[path]
            continue
        try:
            description = describe(method, scale)
            yield _write_checked(method, FORMATS[name].module, description, path, references)
        except files.DiskFullError:
            raise
        except Exception as error:  # converters raise anything; the other files are still wanted
            yield Result(path, error=f"{type(error).__name__}: {error}")


def load(path, threads=0):
    """Returns the `FrozenMethod` in a .pb, .onnx or .tflite file or a SavedModel folder.

    Args:
        path: file or folder.
        threads: threads to run ONNX and TFLite files with, 0 for the library's choice; TensorFlow
            has one setting for the whole process.

    Raises:
        ValueError: for an unknown kind of file, one that cannot be read, or when the package that
            runs such files is missing; says how to install it.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise ValueError(f"There is no frozen model {path}")
    name = "saved_model" if path.is_dir() else path.suffix.lower().lstrip(".")
    if name not in FORMATS:
        raise ValueError(
            f"{path} is no frozen model. Allowed: .pb, .onnx, .tflite, or a SavedModel folder"
        )
    _check_packages(name)
    module = FORMATS[name].module
    with naming(path):
        text, found = module.read(path)
    if text is None and name != "pb":
        raise ValueError(f"{path} holds no description: it was not written by freeze.py")
    if text is None:
        description = _original_description(path, found)
    else:
        with naming(path):
            description = Description.from_json(text)
    with naming(path):
        run = module.open_model(found, description, threads)
    return FrozenMethod(path, description, run)


@contextlib.contextmanager
def naming(path, what="frozen model"):
    """Turns what opening or running a file raises into a ValueError of one line that names it."""
    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError):
        raise
    except Exception as error:  # the libraries that run files have no common base
        reason = (str(error) or type(error).__name__).strip().partition("\n")[0]
        raise ValueError(
            f"The {what} {path} cannot be used (if it is damaged, copy it again): {reason}"
        ) from error


def _original_description(path, graph):
    # They carry none; each package knows the names of its original's, and the rest is tried out.
    nodes = {node.name for node in graph.node}
    originals = [Description(**module.GRAPH) for module in registry.load_parts("original_graph")]
    for description in originals:
        if {description.images, *description.outputs.values()} <= nodes:
            if description.scale not in nodes:
                description = dataclasses.replace(description, scale=None)
            if description.radius:
                return description
            return dataclasses.replace(description, **graph_probe.measure(path, graph, description))
    known = "; or ".join(", ".join([d.images, *d.outputs.values()]) for d in originals)
    raise ValueError(
        f"{path} was not written by freeze.py, and has not the nodes of the original project "
        f"either: {known}"
    )


class FrozenMethod:
    """A frozen file, used like a `Method`: `scales`, `predict`, `receptive_radius`, `factor`."""

    def __init__(self, path, description, run):
        """Takes the path, for messages, the `Description` and the function of a file."""
        self.path = path
        self.description = description
        self.scales = tuple(scale for scale in description.scales if scale is not None)
        self.export_names = {
            "images": description.images,
            "scale": description.scale,
            "outputs": description.outputs,
        }
        self.metadata = description.metadata
        self._run = run

    def predict(self, images, scale=None):
        """Returns {name: array} for float32 RGB images `[batch, height, width, 3]` in 0-255.

        What the file takes instead of 0-255, this makes. TensorFlow's formats return tensors, work
        inside a `tf.function` and, in files that take no scale, pass gradients on. A scale that the
        file does not serve is a ValueError.
        """
        scale = self.description.scales[self._find(scale)]
        offset, divisor = self.description.input_offset, self.description.input_divisor
        if (offset, divisor) != (0.0, 1.0):
            is_tensor = tf.is_tensor(images)
            images = tf.cast(images, "float32") if is_tensor else np.asarray(images, np.float32)
            images = (images - np.float32(offset)) / np.float32(divisor)
        with naming(self.path):
            return self._run(images, scale)

    __call__ = predict

    def compiled(self, output, scale=None):
        """Returns a function of images that gives an output of `predict`."""
        return lambda images: self.predict(images, scale)[output]

    def receptive_radius(self, scale=None):
        """Returns the reach of an output in input pixels, or `None` if the file does not say."""
        return self.description.radius[self._find(scale)]

    def output_bytes(self, scale=None):
        """Returns `None`: files do not tell how much memory they need."""

    def factor(self, scale=None):
        """Returns the output's size divided by the input's."""
        return self.description.factor[self._find(scale)]

    def _find(self, scale):
        if scale is None and len(self.description.scales) == 1:
            return 0
        if scale not in self.description.scales:
            raise ValueError(
                f"{self.path} serves scales {list(self.scales) or '(none)'}. Received: {scale}"
            )
        return self.description.scales.index(scale)


def largest_difference(method, model, scale, references):
    """Returns how far a model's outputs are from a method's, at most, and the tolerated distance.

    Both are those of the output that comes closest to what is tolerated of it, or exceeds it most.
    The method's outputs are kept in `references`.
    """
    largest, tolerated = 0.0, TOLERANCE
    for size in method.export_check_sizes:
        images = np.random.default_rng(0).uniform(0, 255, (*size, 3)).astype(np.float32)
        if (size, scale) not in references:
            outputs = method.predict(images, scale)
            references[size, scale] = {k: np.asarray(outputs[k]) for k in outputs}
        actual = model.predict(images, scale)
        for name in model.description.outputs:
            expected = references[size, scale][name]
            if actual[name].shape != expected.shape:
                raise ValueError(
                    f"{name} has shape {list(actual[name].shape)} instead of {list(expected.shape)}"
                )
            difference = np.max(np.abs(np.asarray(actual[name], np.float64) - expected))
            of_output = TOLERANCE * max(1.0, float(np.max(np.abs(expected))))
            if not difference / of_output <= largest / tolerated:  # also takes NaN, and keeps it
                largest, tolerated = float(difference), of_output
    return largest, tolerated


def _find_kept(method, planned, references):
    """Returns {path: `Result`} of the files that are there; FileExistsError where one is another.

    It is not only read: were the weights others, so would be what it gives.
    """
    kept = {}
    for _, scale, path in planned:
        if not path.exists():
            continue
        try:
            model, description = load(path), describe(method, scale)
            if model.description.step != description.step:
                raise ValueError(f"of step {model.description.step}, not {description.step}")
            if model.description.to_json() != description.to_json():
                raise ValueError("of another model")
            difference = _check(method, model, references)
        except Exception as error:  # of whatever bears that name
            raise FileExistsError(
                f"{path} exists and is not what would be written now ({error}): give another "
                "--output_path, or --overwrite."
            ) from error
        kept[path] = Result(path, _size(path), difference, kept=True)
    return kept


def _write_checked(method, module, description, path, references):
    with files.write_atomically(path) as temporary:
        module.write(method, description, temporary)
        largest = _check(method, load(temporary), references)
        if path.is_dir():
            # A kill leaves it whole or not there. What lies beside the temporary file is removed.
            os.replace(path, temporary.with_name("replaced"))
    return Result(path, _size(path), largest)


def _check(method, model, references):
    """Returns how far a loaded file's outputs are from the method's; a ValueError if too far."""
    largest = 0.0
    for scale in model.description.scales:
        difference, tolerated = largest_difference(method, model, scale, references)
        if not difference <= tolerated:
            raise ValueError(
                f"differs by {difference:.3g} at scale {scale}, more than {tolerated:.3g}"
            )
        largest = max(largest, difference)
    return largest


def _size(path):
    found = [path, *path.rglob("*")]
    return sum(file.stat().st_size for file in found if file.is_file())


def _check_formats(formats):
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise ValueError(f"--formats takes some of {', '.join(FORMATS)}. Received: {formats}")
    for name in formats:
        _check_packages(name)


def _check_packages(name):
    missing = missing_packages(name)
    if missing:
        raise ValueError(
            f"{name} files need the package {' and '.join(missing)}: pip install {EXTRA}"
        )


def _check_float32(method):
    for name, network in method.networks.items():
        for layer in network._flatten_layers():
            if layer.compute_dtype != "float32":
                raise ValueError(
                    f"Only float32 networks are frozen. Received: {name} computes in "
                    f"{layer.compute_dtype} (layer {layer.name})"
                )
