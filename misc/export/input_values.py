"""What networks are fed with: how images in 0-255 become the values that a file expects."""

import dataclasses

import numpy as np
import tensorflow as tf

ORDERS = ("RGB", "BGR")
LAYOUTS = ("NHWC", "NCHW")


@dataclasses.dataclass(frozen=True)
class InputValues:
    """Values are (images - mean) / deviation, in the order of channels that the network takes.

    Attributes:
        mean: of R, G and B, in 0-255.
        deviation: of R, G and B, in 0-255.
        order: one of `ORDERS`.
        source: where this is known from, for people.
    """

    mean: tuple = (0.0, 0.0, 0.0)
    deviation: tuple = (1.0, 1.0, 1.0)
    order: str = ORDERS[0]
    source: str = ""

    def __str__(self):
        numbers = [",".join(f"{value:g}" for value in part) for part in (self.mean, self.deviation)]
        return f"{self.order}, mean {numbers[0]}, deviation {numbers[1]} of 0-255"

    def apply(self, images):
        """Returns what the network takes of RGB images `[B, H, W, 3]` in 0-255, tensor or array."""
        if any(self.mean):
            images = images - np.array(self.mean, np.float32)
        if self.deviation != (1.0, 1.0, 1.0):
            images = images / np.array(self.deviation, np.float32)
        return images[..., ::-1] if self.order == "BGR" else images


def _scaled(values):
    return tuple(255 * value for value in values)


AS_IT_IS = InputValues()
PRESETS = {
    # torchvision's documentation of its weights: images in 0-1, ImageNet's mean and deviation.
    "torchvision": InputValues(
        _scaled((0.485, 0.456, 0.406)), _scaled((0.229, 0.224, 0.225)), source="torchvision"
    ),
    # The networks of keras.applications and keras-hub that normalise in a layer of their own.
    "keras": dataclasses.replace(AS_IT_IS, source="keras"),
    # keras.applications.imagenet_utils, mode "caffe": the means of the Caffe networks.
    "caffe": InputValues((123.68, 116.779, 103.939), order="BGR", source="caffe"),
    "0-1": InputValues(deviation=(255.0,) * 3, source="0-1"),
    "-1-1": InputValues((127.5,) * 3, (127.5,) * 3, source="-1-1"),
}


def to_layout(images, layout):
    """Returns images `[B, H, W, 3]`, tensor or array, in one of `LAYOUTS`."""
    if layout == "NHWC":
        return images
    transpose = tf.transpose if tf.is_tensor(images) else np.transpose
    return transpose(images, (0, 3, 1, 2))


def find_layout(shape):
    """Returns the layout that the shape of an input tells, `None` if it does not.

    Args:
        shape: four sides, `None` where one is free.
    """
    channels = [layout for layout in LAYOUTS if shape[layout.index("C")] == 3]
    if len(channels) == 1:
        return channels[0]
    # 3 pixels in height, or nothing known.
    free = [layout for layout in channels if shape[2] != 3 and None in shape]
    return free[0] if len(free) == 1 else None
