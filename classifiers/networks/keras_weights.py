"""Reads the weight files that Keras wrote, and puts them into these networks."""

import io
import pathlib
import zipfile

import h5py
import numpy as np

from classifiers.networks import pytorch_weights

SUFFIXES = (".weights.h5", ".h5", ".keras")


def read(path):
    """Returns {"LAYER/NUMBER": array} of the variables in a .weights.h5 or .keras file.

    Only the weights of a .keras file are read, nothing in it is run.

    Raises:
        ValueError: when the file is broken or was not written by Keras 3.
        FileNotFoundError: when there is no such file.
    """
    path = pathlib.Path(path)
    tensors = {}

    def visit(name, item):
        # Keras 3 keeps each variable as GROUP/vars/NUMBER, and the layer's name beside it.
        if isinstance(item, h5py.Dataset) and "/seed_generator/" not in name:
            layer = item.parent.attrs.get("name")
            if item.parent.name.endswith("/vars") and layer is not None:
                tensors[f"{layer}/{name.rsplit('/', 1)[1]}"] = np.array(item)

    try:
        content = path
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                content = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(content, "r") as file:
            file.visititems(visit)
    except FileNotFoundError:
        raise
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"Cannot read the weights of {path}: {error}") from error
    if not tensors:
        raise ValueError(f"{path} holds no weights in the layout of Keras 3.")
    return tensors


def assign(model, tensors, source, head=None):
    """Assigns what `read` returned to a network, as `pytorch_weights.assign` does."""
    targets = {
        f"{layer.name}/{number}": (variable, range(len(variable.shape)))
        for layer in model.layers
        if layer.name != head
        for number, variable in enumerate(layer.weights)
    }
    found = {name: value for name, value in tensors.items() if name.rpartition("/")[0] != head}
    pytorch_weights.assign_all(targets, found, model.name, source)


def count_classes(tensors, head):
    """Returns the number of classes of a classifying layer in a file, `None` if it has none."""
    kernel = tensors.get(f"{head}/0")
    return None if kernel is None else kernel.shape[-1]
