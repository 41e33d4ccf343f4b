"""Classifiers in files of any origin, as functions of images in 0-255 that return logits."""

import pathlib

import numpy as np
import tensorflow as tf

from misc.export import foreign_formats, frozen, input_values

SUFFIXES = (".onnx", ".tflite", ".pb", ".keras")
# Of the sum of probabilities, which may come in steps of 1/256.
_TOLERANCE = 0.05


def is_file_of_network(path):
    """Returns whether `load` takes this path: by its ending, or as a SavedModel folder."""
    path = pathlib.Path(path)
    return path.suffix.lower() in SUFFIXES or (path / "saved_model.pb").is_file()


class ForeignModel:
    """A classifier in a file.

    Attributes:
        path: of the file.
        values: `input_values.InputValues` that it is fed with.
        size: (height, width) of the images that it takes, `None` where a side is free.
        layout: of its input.
        gives_probabilities: whether its output are probabilities, `None` before it has run.
        told: whether the file itself says what values it takes.
        class_names: names of the classes that the file carries, or `None`.
    """

    def __init__(self, path, opened, values, layout, told, class_names=None):
        """Takes what `load` has found; see there."""
        self.path, self.values, self.layout, self.told = path, values, layout, told
        self.class_names = class_names
        self.gives_probabilities = None
        self._opened = opened
        self._output = None
        height, width = layout.index("H"), layout.index("W")
        self.size = opened.shape[height], opened.shape[width]

    def __call__(self, images):
        """Returns logits, float32 `[B, K]`, of float32 RGB images `[B, H, W, 3]` in 0-255.

        Of probabilities these are the logarithms, whose softmax they are again.

        Raises:
            ValueError: for images of another size, or when the file gives nothing like `[B, K]`.
        """
        self._check_size(images)
        with frozen.naming(self.path, "model"):
            outputs = self._run(images)
        if self._output is None:
            self._output = _choose(outputs, len(images), self.path)
            self.gives_probabilities = _are_probabilities(outputs[self._output])
        logits = np.asarray(outputs[self._output], np.float32)
        logits = logits.reshape(len(logits), -1)
        if self.gives_probabilities:
            return np.log(np.maximum(logits, np.finfo(np.float32).tiny))
        return logits

    def with_values(self, values):
        """Returns the same model, fed with other `InputValues`."""
        return ForeignModel(
            self.path, self._opened, values, self.layout, self.told, self.class_names
        )

    def _run(self, images):
        opened = self._opened
        if not opened.on_tensors:
            images = np.asarray(images)
        values = input_values.to_layout(self.values.apply(images), self.layout)
        if opened.dtype != "float32":
            if np.dtype(opened.dtype).kind in "iu":
                values = np.rint(values)
            values = tf.cast(values, opened.dtype)
        if not opened.on_tensors:
            values = np.ascontiguousarray(values)
        batch = opened.shape[0]
        if batch is None:
            return opened.run(values)
        # The last ones are filled up by copies.
        parts = []
        for start in range(0, len(values), batch):
            part = np.asarray(values[start : start + batch])
            filled = np.resize(part, (batch, *part.shape[1:]))
            parts.append([np.asarray(one)[: len(part)] for one in opened.run(filled)])
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def _check_size(self, images):
        given = tuple(images.shape[1:3])
        if any(side not in (None, other) for side, other in zip(self.size, given, strict=True)):
            sides = "x".join("any" if side is None else str(side) for side in self.size)
            raise ValueError(
                f"{self.path} takes images of {sides} pixels. Received: {given[0]}x{given[1]}. "
                f"Where the dataloader has it, --data_crop={self.size[0]} gives such images."
            )


def load(path, values=None, layout=None, threads=0):
    """Returns the classifier in a file of any origin as a `ForeignModel`.

    Args:
        path: .onnx, .tflite, .pb, .keras or a SavedModel folder.
        values: `InputValues` that it is fed with, where the file does not tell.
        layout: layout of its input, where the file does not tell.
        threads: threads for ONNX and TFLite files, 0 for the library's choice.

    Raises:
        ValueError: for a file that cannot be read or is no classifier, for a missing package, or
            without `values` or `layout` where they are needed; says what to give.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise ValueError(f"There is no model {path}")
    kind = "saved_model" if path.is_dir() else path.suffix.lower().lstrip(".")
    if kind not in foreign_formats.OPENERS:
        raise ValueError(
            f"{path} is no network that can be used here. Allowed: {', '.join(SUFFIXES)}, or a "
            "SavedModel folder"
        )
    read = None
    if kind in frozen.FORMATS:
        _check_packages(path, kind)
        with frozen.naming(path, "model"):
            text, read = frozen.FORMATS[kind].module.read(path)
        if text is not None:
            return _own(path, frozen.load(path, threads))
    with frozen.naming(path, "model"):
        opened = foreign_formats.OPENERS[kind](path, read, threads)
        if len(opened.shape) != 4:
            raise ValueError(f"its input has the shape {list(opened.shape)}, which is no image's")
    found = input_values.find_layout(opened.shape)
    if found is None and kind != "onnx" and not any(opened.shape[1:]):
        found = "NHWC"  # of TensorFlow
    layout = found or layout
    if layout is None:
        raise ValueError(
            f"{path} does not tell whether its input {list(opened.shape)} has the channels first: "
            f"give --input_layout, one of {', '.join(input_values.LAYOUTS)}."
        )
    if opened.shape[layout.index("C")] not in (3, None):
        raise ValueError(
            f"{path} takes images of {opened.shape[layout.index('C')]} channels, not of 3."
        )
    if opened.normalises:
        own = input_values.InputValues(source="the file: a layer that normalises")
        return ForeignModel(path, opened, own, layout, told=True)
    if values is None:
        raise ValueError(
            f"{path} does not say what values it takes: give --input_preset, one of "
            f"{', '.join(input_values.PRESETS)}, or --input_mean and --input_deviation."
        )
    return ForeignModel(path, opened, values, layout, told=False)


def _own(path, model):
    """Returns a file of freeze.py, which takes images in 0-255 and says all of itself."""
    if "logits" not in model.export_names["outputs"]:
        raise ValueError(
            f"{path} is no classifier: it gives {', '.join(model.export_names['outputs'])}"
        )

    def run(values):
        return [np.asarray(model.predict(values)["logits"])]

    opened = foreign_formats.Opened(run, (None, None, None, 3), on_tensors=True)
    values = input_values.InputValues(source="the file")
    names = model.metadata.get("class_names")
    return ForeignModel(path, opened, values, "NHWC", told=True, class_names=names)


def _check_packages(path, kind):
    # What writes such files is not needed to read them.
    needed = [name for name in frozen.FORMATS[kind].packages if name not in ("onnx", "tf2onnx")]
    missing = [name for name in frozen.missing_packages(kind) if name in needed]
    if missing:
        raise ValueError(
            f"{path} needs the package {' and '.join(missing)}: pip install {frozen.EXTRA}"
        )


def _choose(outputs, count, path):
    """Returns which output holds a value for each image and class."""
    found = [
        number
        for number, output in enumerate(outputs)
        if len(output) == count
        and np.asarray(output).size == count * np.asarray(output).shape[-1]
        and np.asarray(output).shape[-1] > 1
    ]
    if not found:
        shapes = ", ".join(str(list(np.asarray(output).shape)) for output in outputs)
        raise ValueError(
            f"{path} is no classifier: for {count} images it gives {shapes}, and not a value for "
            "each class."
        )
    return found[0]


def _are_probabilities(values):
    values = np.asarray(values, np.float64)
    sums = values.reshape(len(values), -1).sum(axis=1)
    within = values.min() >= 0 and values.max() <= 1
    return bool(within and np.abs(sums - 1).max() <= _TOLERANCE)
