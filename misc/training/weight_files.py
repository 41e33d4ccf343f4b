"""Weights alone, without optimizers, as one HDF5 file such as `ava.h5`.

The layout is Keras' classic one (`layer_names` and, for each layer, `weight_names` in attributes),
so that `load_weights` of the same network built with Keras reads it, and files by Keras 2 and
tf.keras can be read here. Methods with several networks have one such group for each of them.
Names that end with .weights.h5 are files in Keras 3's own layout. Reading never runs code.
"""

import io
import json
import math
import pathlib
import re

import h5py
import keras
import numpy as np
from absl import logging
from keras.src.legacy.saving import legacy_h5_format
from keras.src.saving import saving_lib

from misc.images import files
from misc.training import hdf5_files

SUFFIX = ".h5"
KERAS_SUFFIX = ".weights.h5"
LISTED_PROBLEMS = 8
# Attribute of files that tell what their network is: flags of the run, as JSON.
ARGUMENTS = "arguments"


def is_weight_file(path):
    """Returns whether a path names a weight file, by its extension."""
    return str(path).endswith(SUFFIX)


def stem(path):
    """Returns the name of a weight file without its extension."""
    name = pathlib.Path(path).name
    return name.removesuffix(KERAS_SUFFIX if name.endswith(KERAS_SUFFIX) else SUFFIX)


def check_name(name):
    """Raises ValueError for what cannot be the name of a weight file in a run's folder."""
    if not is_weight_file(name) or not stem(name) or pathlib.Path(name).name != name:
        raise ValueError(
            f"--weight_filename is a name such as ava.h5, without folder. Received: {name}"
        )


def write(path, networks, step=0, dtype=None, arguments=None):
    """Writes the weights of {name: keras.Model} and their training step atomically.

    Files .weights.h5, of Keras 3's layout, hold a single network: several are a ValueError.

    Args:
        path: weight file.
        networks: {name: network}.
        step: number of the training step.
        dtype: number format of the weights in the classic layout, such as "float16"; `None`: as
            they are. A weight beyond its range is a ValueError.
        arguments: {flag: JSON value} that `read_arguments` gives back, or `None`.
    """
    # In memory first: a disk that is full while HDF5 writes to it ends the whole process.
    content = io.BytesIO()
    if str(path).endswith(KERAS_SUFFIX):
        store = saving_lib.H5IOStore(content, mode="w")
        # What `save_weights` does, which takes paths alone.
        saving_lib._save_state(_only(path, networks), store, None, "", set())
        store.close()
    else:
        with h5py.File(content, "w") as file:
            file.attrs["step"] = int(step)
            for name, network in networks.items():
                group = file if len(networks) == 1 else file.create_group(name)
                legacy_h5_format.save_weights_to_hdf5_group(group, network)
            if arguments is not None:
                file.attrs[ARGUMENTS] = json.dumps(arguments, default=list)
        if dtype is not None:
            content = _with_dtype(content, np.dtype(dtype))
    with files.write_atomically(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def _with_dtype(content, dtype):
    """Returns an HDF5 file in memory as another one, whose floating-point arrays have the dtype."""
    narrow = io.BytesIO()

    def copy(source, target):
        target.attrs.update(source.attrs)
        for name, item in source.items():
            if isinstance(item, h5py.Group):
                copy(item, target.create_group(name))
                continue
            values = item[()]
            if values.dtype.kind == "f":
                if values.size and np.abs(values).max() > np.finfo(dtype).max:
                    raise ValueError(f"{name} holds values that {dtype} cannot")
                values = values.astype(dtype)
            target.create_dataset(name, data=values)

    with h5py.File(content, "r") as source, h5py.File(narrow, "w") as target:
        copy(source, target)
    return narrow


def read_arguments(path):
    """Returns {flag: value} of the run that a weight file is of, {} where it does not say."""
    with hdf5_files.open_file(path) as file, hdf5_files.naming(path):
        found = json.loads(file.attrs.get(ARGUMENTS, "{}"))
        if not isinstance(found, dict):
            raise OSError(f"its {ARGUMENTS} are none")
        return found


def restore(path, networks, partly=False, part_of=lambda name: None):
    """Assigns the weights in a file to {name: keras.Model}.

    Weights are found by their names. Where those differ, as in files by other programs, the order
    decides, provided that all shapes fit.

    Args:
        path: weight file.
        networks: {name: network}: all of the file's, or some of several.
        partly: whether the file may hold more layers than a network, such as another head.
        part_of: function of a variable's name: which part of a network it belongs to that either
            side may lack, else `None`; see `describe_lacking`.

    Returns:
        The training step of the weights, 0 if the file does not say.

    Raises:
        ValueError: for a file that cannot be read, or does not fit; lists what is missing, too
            much or of another shape. Nothing is read of the weights then, and none is assigned.
    """
    path = pathlib.Path(path)
    with hdf5_files.open_file(path) as file:
        with hdf5_files.naming(path):
            step = int(file.attrs.get("step", 0))
            is_keras_layout = "_layer_checkpoint_dependencies" in file or "layers" in file
            if is_keras_layout and not _has_names(file, "layer_names"):
                stored = None
                _check_sizes(file, _only(path, networks))
            else:
                stored = {name: _read_network(file, name) for name in networks}
        if stored is not None:
            pairs = _match_all(path, stored, networks, partly, part_of)
            with hdf5_files.naming(path):
                assignments = [(variable, np.asarray(dataset)) for variable, dataset in pairs]
    if stored is None:
        _load_with_keras(path, _only(path, networks))
        return step
    for variable, value in assignments:
        variable.assign(value)
    for network in networks.values():
        finalize(network)
    return step


def _check_sizes(file, network):
    """Raises OSError for arrays in a file of Keras that are larger than any of the network's."""
    largest = max((math.prod(variable.shape) for variable in network.variables), default=0)

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            hdf5_files.check_dataset(item, name)
            if item.size > largest:
                raise OSError(
                    f"{name} has the shape {list(item.shape)}, larger than any of this model's "
                    "weights"
                )

    file.visititems(visit)


def _load_with_keras(path, network):
    try:
        network.load_weights(str(path))
    except Exception as error:  # Keras raises several kinds
        reason = " ".join(str(error).partition("List of objects")[0].split())
        raise ValueError(f"The weight file {path} does not fit this model: {reason}") from error


def misfits(name, shape, variable):
    """Returns a list with what keeps a stored shape from a variable, if anything does."""
    if shape is None:
        return [f"{name} is missing"]
    if list(shape) != list(variable.shape):
        return [f"{name} has shape {list(shape)}, the model's is {list(variable.shape)}"]
    return []


def describe_lacking(path, parts):
    """Tells which parts of a network start at random because the weights of a path lack them."""
    if parts:
        names = " and ".join(dict.fromkeys(parts))
        logging.info("Starts at random, because %s lacks it: %s", path, names)


def listed(problems):
    """Returns the first problems, each in a line, and how many there are more."""
    more = len(problems) - LISTED_PROBLEMS
    shown = problems[:LISTED_PROBLEMS] + ([f"and {more} more"] if more > 0 else [])
    return "".join(f"\n  {line}" for line in shown)


def finalize(network):
    """Lets layers that compute with copies of their variables take them over.

    Keras' Normalization, the first layer of EfficientNet, is one.
    """
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def _only(path, networks):
    if len(networks) != 1:
        raise ValueError(
            f"{path} has Keras' layout, which holds one network. Received: {', '.join(networks)}"
        )
    return next(iter(networks.values()))


def _layers(network):
    """Returns [(layer's name, variables)] of the outermost layers that have any, in order."""
    return [(layer.name, layer.weights) for layer in network.layers if layer.weights]


def _read_network(file, name):
    """Returns [(layer's name, [(weight's name, `h5py.Dataset`)])] of one network."""
    group = file
    if not _has_names(file, "layer_names"):
        if "model_weights" in file:  # a whole model saved by Keras 2
            group = file["model_weights"]
        elif name in file:
            group = file[name]
        else:
            raise OSError(f"it holds no weights of {name}")
    layers = []
    read_names = legacy_h5_format.load_attributes_from_hdf5_group
    for layer_name in read_names(group, "layer_names"):
        layer = _get(group, layer_name)
        names = read_names(layer, "weight_names")
        if names:
            layers.append((layer_name, [(key, _dataset(layer, key)) for key in names]))
    return layers


def _match_all(path, stored, networks, partly, part_of):
    """Returns [(variable, dataset)] for all variables, or raises ValueError with all problems."""
    problems, pairs, lacking = [], [], []
    for name, network in networks.items():
        found, of_network, parts = _match(stored[name], network, partly, part_of)
        lacking += parts
        prefix = "" if len(networks) == 1 else f"{name}/"
        problems += [prefix + problem for problem in found]
        pairs += of_network
    if problems:
        raise ValueError(
            f"The weight file {path} does not fit this model:{listed(problems)}\n"
            "Check the model's flags (sizes, number of scores)."
        )
    describe_lacking(path, lacking)
    return pairs


def _match(stored, network, partly, part_of):
    """Returns a list of problems, [(variable, dataset)] of the network, and what the file lacks."""
    variables = {_plain(v.path): v for _, layer in _layers(network) for v in layer}
    arrays = {_plain(name): array for _, layer in stored for name, array in layer}
    if partly:
        arrays = {name: array for name, array in arrays.items() if name in variables}
    same_names = variables.keys() == arrays.keys()
    if not same_names and not partly:
        shapes = [[tuple(v.shape) for v in layer] for _, layer in _layers(network)]
        if shapes == [[array.shape for _, array in layer] for _, layer in stored]:
            return (
                [],
                [
                    (variable, array)
                    for (_, ours), (_, theirs) in zip(_layers(network), stored, strict=True)
                    for variable, (_, array) in zip(ours, theirs, strict=True)
                ],
                [],
            )
    lacking = {name: part_of(name) for name in variables if name not in arrays}
    variables = {name: v for name, v in variables.items() if not lacking.get(name)}
    arrays = {name: a for name, a in arrays.items() if name in variables or not part_of(name)}
    problems = []
    for name, variable in variables.items():
        problems += misfits(name, arrays[name].shape if name in arrays else None, variable)
    problems += [f"{name} is in the file alone" for name in arrays if name not in variables]
    pairs = [(variable, arrays.get(name)) for name, variable in variables.items()]
    return problems, pairs, [part for part in lacking.values() if part]


def _plain(name):
    # Keras 2 numbers outputs (":0"), and calls the kernels of depthwise convolutions otherwise.
    return re.sub(r"(?:^|(?<=/))depthwise_kernel$", "kernel", name.partition(":")[0])


def _dataset(layer, name):
    found = _get(layer, name)
    hdf5_files.check_dataset(found, name)
    return found


def _get(group, name):
    """Returns an item of a group; links, which may lead to other files, are not followed."""
    for part in name.split("/"):
        if isinstance(group.get(part, getlink=True), h5py.ExternalLink | h5py.SoftLink):
            raise OSError(f"{name} is a link, perhaps to another file")
        group = group[part]
    return group


def _has_names(group, key):
    return key in group.attrs or f"{key}0" in group.attrs
