"""Checks tensors from files against a network, and reads the files that Keras wrote."""

import io
import pathlib
import zipfile

import h5py
import numpy as np

KERAS_SUFFIXES = (".weights.h5", ".h5", ".keras")
SHOWN = 20


def check(expected, found, network, source):
    """Compares the tensors that a network needs with those that there are.

    Args:
        expected: {name: shape}.
        found: {name: array}.
        network: name of the network, for the message.
        source: what the tensors come from, for the message.

    Raises:
        ValueError: lists the tensors that are missing, extra, or have another shape.
    """
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    other = [
        f"{name} has the shape {tuple(found[name].shape)} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name].shape) != tuple(shape)
    ]
    if not (missing or extra or other):
        return
    lines = [f"{source} does not fit {network}:"]
    for title, names in (("missing", missing), ("extra", extra), ("other shape", other)):
        if names:
            shown = names[:SHOWN] + ([f"and {len(names) - SHOWN} more"] * (len(names) > SHOWN))
            lines.append(f"  {title} ({len(names)}): {', '.join(shown)}")
    raise ValueError("\n".join(lines))


def read_keras(path):
    """Returns {(layer's name, number of the variable): array} of a .weights.h5 or .keras file.

    Only the weights of a .keras file are read, nothing in it is run.

    Raises:
        ValueError: when the file is broken or was not written by Keras 3.
        FileNotFoundError: when there is no such file.
    """
    path = pathlib.Path(path)
    arrays = {}

    def visit(name, item):
        # Keras 3 keeps each variable as GROUP/vars/NUMBER, and the layer's name beside it.
        if isinstance(item, h5py.Dataset) and "/seed_generator/" not in name:
            layer = item.parent.attrs.get("name")
            if item.parent.name.endswith("/vars") and layer is not None:
                arrays[str(layer), int(name.rsplit("/", 1)[1])] = np.array(item)

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
    if not arrays:
        raise ValueError(f"{path} holds no weights in the layout of Keras 3.")
    return arrays


def assign_keras(model, arrays, source, head=None):
    """Assigns what `read_keras` returned to the variables of a network; all of them, or none.

    Args:
        model: network of `classifiers.networks.build`.
        arrays: result of `read_keras`.
        source: what they come from, for messages.
        head: name of the classifying layer if its weights are to be left out; else `None`.

    Raises:
        ValueError: when weights are missing, or extra, or have another shape; names all of them.
    """
    stores = {}
    for layer in model.layers:
        if layer.weights and layer.name != head:
            stores[layer.name] = {}
            layer.save_own_variables(stores[layer.name])
    expected = {
        f"{name}/{number}": np.shape(value)
        for name, store in stores.items()
        for number, value in store.items()
    }
    found = {f"{name}/{number}": value for (name, number), value in arrays.items() if name != head}
    check(expected, found, model.name, source)
    for name, store in stores.items():
        values = {number: found[f"{name}/{number}"] for number in store}
        model.get_layer(name).load_own_variables(values)


def count_classes(arrays, head):
    """Returns the number of classes of a classifying layer in a file, `None` if it has none."""
    weight = arrays.get((head, 0))
    return None if weight is None else weight.shape[-1]
