"""Random flips, shifts and Cutout, drawn per image, the same for several copies of an image.

All functions take float32 images `[B, H, W, C]`, H and W known, or lists of copies of them, and
return the same. They draw from a seed alone, an integer or an integer tensor of shape [2]; image i
of a batch depends on the seed and on i, not on the batch size.
"""

from keras import ops

from degradations import random
from degradations.base import choose


def flip(images, seed):
    """Mirrors each image left-right with probability one half."""
    mirrored = random.uniform([ops.shape(images)[0]], random.make_seed(seed)) < 0.5
    return choose(mirrored, ops.flip(images, axis=2), images)


def crop_pair(copies, padding, seed):
    """Shifts each image by up to `padding` pixels; what comes in from outside is 0.

    It pads with zeros on all sides and cuts out a random window of the old size (He et al., "Deep
    Residual Learning for Image Recognition", CVPR 2016, section 4.2). All copies of an image are
    shifted by the same amount.
    """
    if not padding:
        return list(copies)
    batch_size = ops.shape(copies[0])[0]
    height, width, channels = copies[0].shape[1:]
    seed = random.make_seed(seed)
    top = random.integers([batch_size, 1, 1], random.fold_in(seed, 0), 0, 2 * padding + 1)
    left = random.integers([batch_size, 1, 1], random.fold_in(seed, 1), 0, 2 * padding + 1)
    rows = top + ops.reshape(ops.arange(height), [1, -1, 1])
    columns = left + ops.reshape(ops.arange(width), [1, 1, -1])
    padded_height, padded_width = height + 2 * padding, width + 2 * padding
    image = ops.reshape(ops.arange(batch_size), [-1, 1, 1])
    places = (image * padded_height + rows) * padded_width + columns
    border = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    return [
        random.look_up(ops.reshape(ops.pad(copy, border), [-1, channels]), places)
        for copy in copies
    ]


def cutout(copies, length, fill, seed):
    """Covers one square of each image, the same in all of its copies.

    DeVries & Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017:
    the centre is uniform over all pixels, so that a part of the square may lie outside.

    Args:
        copies: list of images of the same shape.
        length: side of the square in pixels.
        fill: what covers it, one value per channel: the mean, where the original works on
            normalised images and writes 0.
        seed: see above.
    """
    if not length:
        return list(copies)
    batch_size = ops.shape(copies[0])[0]
    height, width = copies[0].shape[1:3]
    seed = random.make_seed(seed)

    def covered(side, draw):
        centre = random.integers([batch_size, 1], random.fold_in(seed, draw), 0, side)
        offset = ops.arange(side) - centre
        return ops.logical_and(offset >= -(length // 2), offset < length - length // 2)

    rows, columns = covered(height, 0), covered(width, 1)
    square = ops.logical_and(ops.expand_dims(rows, 2), ops.expand_dims(columns, 1))
    square = ops.expand_dims(ops.cast(square, "float32"), -1)
    fill = ops.convert_to_tensor(fill, "float32")
    return [copy * (1.0 - square) + fill * square for copy in copies]
