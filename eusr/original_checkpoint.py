"""Checkpoints of the original project, tf-perceptual-eusr, read as if they were written here.

The names are those of the authors' public code, whose layers TensorFlow 1 numbers within each part
of a network: conv2d, conv2d_1, ... The layers here are the same ones in the same order.
"""

import collections
import re

import numpy as np

# {name of a layer here: the part of the original's network that it is in}; scales stay as they are,
# stages and modules are counted from 0 there.
PARTS = {
    r"first_convolution": "generator/first_conv/conv2d",
    r"before_x(\d+)_.*": "generator/initial_blocks/x{}/conv2d",
    r"shared_.*": "generator/shared/conv2d",
    r"upscaling_x(\d+)_last_convolution": "generator/upscaling/x{}/conv2d",
    r"upscaling_x(\d+)_stage(\d+)_module(\d+)_.*": "generator/upscaling/x{}/m{}/px{}/conv2d",
    r"convolution(\d+)": "discriminator/conv{}/conv2d",
    r"hidden": "discriminator/fc/dense",
    r"logits": "discriminator/final/dense",
}
# {what Keras' Adam keeps of a variable: the name of TensorFlow 1's}
MOMENTS = {"momentum": "Adam", "velocity": "Adam_1"}
FIRST = "generator/first_conv/conv2d/kernel"


def names(variables):
    """Returns {name: name in the original's checkpoints} for the names of a network's variables."""
    found, layers = {}, collections.defaultdict(dict)
    for name in variables:
        layer, kind = name.split("/")
        part = _part(layer)
        number = layers[part].setdefault(layer, len(layers[part]))
        found[name] = f"{part}_{number}/{kind}" if number else f"{part}/{kind}"
    return found


def _part(layer):
    for pattern, part in PARTS.items():
        match = re.fullmatch(pattern, layer)
        if match:
            first, *others = map(int, match.groups() or (0,))
            return part.format(first, *(number - 1 for number in others))
    raise ValueError(f"The original has no layer like {layer}")


class Checkpoint:
    """An open checkpoint, whose tensors are found by the keys of those that are written here."""

    def __init__(self, reader, path, state, key):
        """Takes what `tf.train.load_checkpoint` returns, its path, and the method that it is for.

        Args:
            reader: the open checkpoint.
            path: its path, which ends with the step: model.ckpt-300000.
            state: {group: {name: variable}} of `Method.state`.
            key: function of group and name.
        """
        self._reader = reader
        number = re.search(r"-(\d+)$", str(path))
        step = np.int64(number[1] if number else 0)
        self._names, self._values = {}, {key("progress", "step"): step}
        for group, variables in state.items():
            kind, _, network = group.partition("/")
            if kind not in ("networks", "optimizers"):
                continue
            found = names(state[f"networks/{network}"])
            if kind == "optimizers":
                # The rate follows from the step; what the original has not stays as it is.
                self._values |= {key(group, n): v.numpy() for n, v in variables.items()}
                self._values[key(group, "adam/iteration")] = step
                found = {
                    f"adam/{name.replace('/', '_')}_{ours}": f"{original}/{theirs}"
                    for name, original in found.items()
                    for ours, theirs in MOMENTS.items()
                }
            self._names |= {key(group, name): original for name, original in found.items()}

    def get_variable_to_shape_map(self):
        """Returns {key: shape}, as the reader of a checkpoint does."""
        stored = self._reader.get_variable_to_shape_map()
        return {key: list(np.shape(value)) for key, value in self._values.items()} | {
            key: _as_convolution(stored[name])
            for key, name in self._names.items()
            if name in stored
        }

    def get_tensor(self, key):
        """Returns an array, as the reader of a checkpoint does."""
        if key not in self._names:
            return self._values[key]
        array = self._reader.get_tensor(self._names[key])
        return array.reshape(_as_convolution(array.shape))


def _as_convolution(shape):
    # Dense layers of the discriminator are convolutions of one pixel here.
    return [1, 1, *shape] if len(shape) == 2 else list(shape)
