"""The inverted residual block that MobileNet, MnasNet and EfficientNet share.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, section 3;
squeeze and excitation as in Howard et al., "Searching for MobileNetV3", ICCV 2019, section 5.3.
"""

import dataclasses

import keras

from classifiers.networks import layers


@dataclasses.dataclass
class Block:
    """One inverted residual block.

    Attributes:
        expanded: features inside; no expansion if they equal the input's.
        features: features of the result.
        kernel_size: side of the depthwise kernel.
        stride: step of the depthwise convolution.
        names: names of (convolution, normalisation) of the steps "expand", "depthwise" and
            "project", and of the step "squeeze" if there is one: of its two convolutions.
        activation: name of a Keras activation for the inner results.
        squeezed: features to which squeeze and excitation reduces; 0 for none.
        squeeze_activations: activations after its two convolutions.
        drop_rate: probability to drop the branch in training.
        padding: that of the depthwise convolution, see `layers.convolution`.
    """

    expanded: int
    features: int
    kernel_size: int
    stride: int
    names: dict
    activation: str = "relu"
    squeezed: int = 0
    squeeze_activations: tuple = ("relu", "hard_sigmoid")
    drop_rate: float = 0.0
    padding: str | None = None


def unroll(stacks, before):
    """Yields (number of the stack, place in it, features before, shape) of each block.

    Args:
        stacks: rows of expansion, kernel, stride of the first block, features, number of blocks.
        before: features of the first block's input.
    """
    for stack, (expansion, kernel, stride, features, count) in enumerate(stacks):
        for place in range(count):
            shape = {
                "expanded": divisible(before * expansion),
                "features": features,
                "kernel_size": kernel,
                "stride": 1 if place else stride,
            }
            yield stack, place, before, shape
            before = features


def numbered_names(name, expand, squeeze):
    """Returns the names of a `Block` whose steps are the modules 0, 1, ... of `name`."""
    steps = ["expand"] * expand + ["depthwise"] + ["squeeze"] * squeeze + ["project"]
    endings = {"squeeze": ("fc1", "fc2")}
    return {
        step: tuple(f"{name}.{index}.{ending}" for ending in endings.get(step, ("0", "1")))
        for index, step in enumerate(steps)
    }


def apply_stages(x, blocks, norm, stages):
    """Applies blocks, and notes as "stage1", "stage2", ... what each resolution ends with.

    Args:
        x: `[batch, height, width, channels]`.
        blocks: list of `Block`.
        norm: function of a tensor and a name that normalises.
        stages: dict that takes the stages.
    """
    number = 1
    for index, block in enumerate(blocks):
        x = _apply(x, block, norm)
        if index + 1 == len(blocks) or blocks[index + 1].stride > 1:
            stages[f"stage{number}"] = x
            number += 1
    return x


def divisible(features, divisor=8):
    """Rounds to a multiple of `divisor`, up if rounding lost more than 10 % (MobileNet's code)."""
    rounded = max(divisor, int(features + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * features else rounded + divisor


def _apply(inputs, block, norm):
    names, x = block.names, inputs
    settings = {"activation": block.activation, "norm": norm}
    if block.expanded != inputs.shape[-1]:
        x = layers.conv_norm(x, block.expanded, 1, names["expand"], **settings)
    settings |= {"stride": block.stride, "groups": block.expanded, "padding": block.padding}
    x = layers.conv_norm(x, block.expanded, block.kernel_size, names["depthwise"], **settings)
    if block.squeezed:
        x = _squeeze_and_excite(x, block)
    x = layers.conv_norm(x, block.features, 1, names["project"], activation=None, norm=norm)
    if block.stride == 1 and inputs.shape[-1] == block.features:
        x = layers.stochastic_depth(x, block.drop_rate, f"{names['project'][0]}.drop")
        x = keras.layers.Add()([x, inputs])
    return x


def _squeeze_and_excite(x, block):
    names, activations = block.names["squeeze"], block.squeeze_activations
    scale = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    for features, name, activation in zip(
        (block.squeezed, block.expanded), names, activations, strict=True
    ):
        scale = layers.convolution(scale, features, 1, name, bias=True)
        scale = keras.layers.Activation(activation)(scale)
    return keras.layers.Multiply()([x, scale])
