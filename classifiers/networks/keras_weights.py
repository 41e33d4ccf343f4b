"""Reads the weight files that Keras wrote, and puts them into these networks."""

import dataclasses
import io
import pathlib
import zipfile

import h5py
import numpy as np

from classifiers.networks import pytorch_weights
from misc.images import archives
from misc.training import hdf5_files

SUFFIXES = (".weights.h5", ".h5", ".keras")


def read(path):
    """Returns {"LAYER/NUMBER": `Stored`} of the variables in a .weights.h5 or .keras file.

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
                hdf5_files.check_dataset(item, name)
                tensors[f"{layer}/{name.rsplit('/', 1)[1]}"] = Stored(path, item)

    with hdf5_files.naming(path):
        content = _unpacked(path) if path.suffix == ".keras" else None
    # It stays open as long as there are arrays that lie in it.
    file = hdf5_files.open_file(path, content)
    with hdf5_files.naming(path):
        file.visititems(visit)
    if not tensors:
        raise ValueError(f"{path} holds no weights in the layout of Keras 3.")
    return tensors


@dataclasses.dataclass(frozen=True)
class Stored:
    """An array in a file; `numpy.asarray` reads it."""

    path: pathlib.Path
    dataset: h5py.Dataset

    @property
    def shape(self):
        """The array's shape."""
        return self.dataset.shape

    def __array__(self, dtype=None, copy=None):
        with hdf5_files.naming(self.path):
            return np.asarray(self.dataset, dtype)


def _unpacked(path):
    with zipfile.ZipFile(path) as archive:
        return io.BytesIO(archives.read_member(archive, "model.weights.h5"))


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
    shape = getattr(tensors.get(f"{head}/0"), "shape", ())
    return shape[-1] if shape else None
