"""Self-ensemble: the mean over eight flips and rotations.

Timofte, Rothe and Van Gool, "Seven ways to improve example-based single image super resolution",
CVPR 2016, section 3.6; with this name in Lim et al. (EDSR), CVPR Workshops 2017, section 3.4.
"""

import numpy as np


def self_ensemble(function):
    """Returns a function that averages `function` over eight views of its input.

    Both map images `[B, H, W, C]` to `[B, sH, sW, D]`; the mean is float32, not rounded or clipped.
    """

    def averaged(images):
        images = np.asarray(images)
        total = 0
        for turns in range(4):
            for mirror in (False, True):
                view = images[:, :, ::-1] if mirror else images
                view = np.ascontiguousarray(np.rot90(view, turns, axes=(1, 2)))
                result = np.asarray(function(view), np.float32)
                result = np.rot90(result, -turns, axes=(1, 2))
                total = total + (result[:, :, ::-1] if mirror else result)
        return total / np.float32(8)

    return averaged
