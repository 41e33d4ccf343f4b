"""Puts the tensors of PyTorch checkpoints into these networks.

A layer's name is the name of its PyTorch module, so `layer1.0.conv1` takes its kernel from
`layer1.0.conv1.weight`. Layouts differ: PyTorch keeps the kernel of a convolution as (outputs,
inputs, height, width) and that of a linear layer as (outputs, inputs).
"""

import re

import keras
import numpy as np

# Counts of training steps, which batch normalisation here does without.
IGNORED = r"(^|.*\.)num_batches_tracked"
NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
SHOWN = 20


def tensor_names(model):
    """Returns {name of the PyTorch tensor: (variable, axes)} for all weights of a network.

    `axes` is the order in which the variable takes the axes of the PyTorch tensor.
    """
    return {
        name: (variable, axes)
        for layer in model.layers
        for name, variable, axes in _layer_tensors(layer)
    }


def rename(tensors, patterns):
    """Returns tensors with {regular expression: replacement} applied to their names."""
    for pattern, replacement in patterns.items():
        tensors = {re.sub(pattern, replacement, name): value for name, value in tensors.items()}
    return tensors


def assign(model, tensors, source, head=None, ignored=()):
    """Assigns PyTorch tensors to the variables of a network; all of them, or none.

    Args:
        model: network of `classifiers.networks.build`.
        tensors: {name: array} in PyTorch's layout, or what has a shape and becomes one.
        source: what the tensors come from, for messages.
        head: name of the classifying layer if its tensors are to be left out; else `None`.
        ignored: regular expressions of names that a file may hold in addition.

    Raises:
        ValueError: when tensors are missing, or extra, or have another shape; names all of them.
    """
    targets = tensor_names(model)
    ignored = re.compile("|".join((IGNORED, *ignored)))
    found = {name: value for name, value in tensors.items() if not ignored.fullmatch(name)}
    if head is not None:
        names = {name for name, _, _ in _layer_tensors(model.get_layer(head))}
        targets = {name: target for name, target in targets.items() if name not in names}
        found = {name: value for name, value in found.items() if name not in names}
    assign_all(targets, found, model.name, source)


def assign_all(targets, found, network, source):
    """Assigns {name: array} to the targets of `tensor_names`, if all fit.

    What still lies in a file is read only if its shape is right.

    Raises:
        ValueError: names the network and the source, and lists the tensors that are missing, extra,
            or have another shape.
    """
    shapes = {name: _stored_shape(*target) for name, target in targets.items()}
    problems = {
        "missing": [name for name in targets if name not in found],
        "extra": [name for name in found if name not in targets],
        "other shape": [
            f"{name} has the shape {found[name].shape} instead of {shape}"
            for name, shape in shapes.items()
            if name in found and found[name].shape != shape
        ],
    }
    lines = [f"{source} does not fit {network}:"]
    for title, names in problems.items():
        if names:
            shown = names[:SHOWN] + ([f"and {len(names) - SHOWN} more"] * (len(names) > SHOWN))
            lines.append(f"  {title} ({len(names)}): {', '.join(shown)}")
    if len(lines) > 1:
        raise ValueError("\n".join(lines))
    values = {name: np.asarray(found[name]) for name in targets}
    for name, (variable, axes) in targets.items():
        variable.assign(np.transpose(values[name], axes).astype("float32"))


def count_classes(tensors, head):
    """Returns the number of classes of a classifying layer in a file, `None` if it has none."""
    shape = getattr(tensors.get(f"{head}.weight"), "shape", ())
    return shape[0] if shape else None


def _layer_tensors(layer):
    """Yields (name of the PyTorch tensor, variable, axes) for each weight of a layer."""
    name = layer.name
    # Attention in PyTorch has `in_proj_weight`, not a module `in_proj`.
    separator = "_" if name.endswith(".in_proj") else "."
    own = getattr(layer, "pytorch_tensors", None)
    if own is not None:
        for suffix, variable in zip(own, layer.weights, strict=True):
            full = suffix[1:] if suffix.startswith("/") else f"{name}.{suffix}".rstrip(".")
            transposed = suffix.endswith("weight")
            yield full, variable, (1, 0) if transposed else tuple(range(len(variable.shape)))
    elif isinstance(layer, keras.layers.BatchNormalization | keras.layers.LayerNormalization):
        for variable in layer.weights:
            yield f"{name}.{NORM[variable.name]}", variable, (0,)
    else:
        axes = (1, 0)
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            axes = (2, 3, 0, 1)
        elif isinstance(layer, keras.layers.Conv2D):
            axes = (2, 3, 1, 0)
        for variable in layer.weights:
            if variable.name == "bias":
                yield f"{name}{separator}bias", variable, (0,)
            else:
                yield f"{name}{separator}weight", variable, axes


def _stored_shape(variable, axes):
    lengths = dict(zip(axes, variable.shape, strict=True))
    return tuple(lengths[axis] for axis in range(len(lengths)))
