"""Loads the package imagecorruptions, a port of ImageNet-C's code, as a peer to compare with.

It was written for older NumPy, SciPy, scikit-image and setuptools; what it misses is put in place
while it is imported. Snow falls as in ImageNet-C's own code, from which the port departs.
"""

import functools
import importlib
import importlib.util
import pathlib
import sys
import types

import numpy as np
import scipy.ndimage
import skimage.filters


def is_installed(folder=None):
    """Returns whether the package can be found, in `folder` or among the installed ones."""
    if folder is not None:
        return (pathlib.Path(folder) / "imagecorruptions").is_dir()
    return importlib.util.find_spec("imagecorruptions") is not None


@functools.cache
def load(folder=None):
    """Returns the module with one function (image, severity) per corruption.

    Args:
        folder: where the package was installed with pip's --target; None if it's importable.

    Raises:
        ValueError: if it isn't there.
    """
    if not is_installed(folder):
        raise ValueError(
            "the package imagecorruptions is needed: pip install --no-deps --target FOLDER "
            f"imagecorruptions. Received: {folder!r}"
        )
    if folder is not None and str(folder) not in sys.path:
        # At the end, so that it never replaces an installed package.
        sys.path.append(str(folder))
    package = pathlib.Path(importlib.util.find_spec("imagecorruptions").origin).parent
    resources = types.ModuleType("pkg_resources")
    resources.resource_filename = lambda _, name: str(package / name)
    interpolation = types.ModuleType("scipy.ndimage.interpolation")
    interpolation.map_coordinates = scipy.ndimage.map_coordinates
    stand_ins = {"pkg_resources": resources, "scipy.ndimage.interpolation": interpolation}
    replaced = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        module = importlib.import_module("imagecorruptions.corruptions")
    finally:
        for name, old in replaced.items():
            if old is None:
                del sys.modules[name]
            else:
                sys.modules[name] = old
    module.np = _OlderNumpy()
    module.gaussian = _older_gaussian
    module._motion_blur = _truncate_snow(module._motion_blur)
    return module


class _OlderNumpy:
    """NumPy with the names that version 2 dropped."""

    float_ = np.float64

    def __getattr__(self, name):
        return getattr(np, name)


@functools.wraps(skimage.filters.gaussian)
def _older_gaussian(image, sigma=1, multichannel=False, **arguments):
    axis = -1 if multichannel else None
    return skimage.filters.gaussian(image, sigma=sigma, channel_axis=axis, **arguments)


def _truncate_snow(motion_blur):
    """Blurs layers of snow, 0-1, as ImageMagick does: 8-bit values in and out, truncated."""

    @functools.wraps(motion_blur)
    def blur(image, **arguments):
        if image.dtype.kind != "f":
            return motion_blur(image, **arguments)
        blurred = motion_blur(np.floor(255 * image), **arguments)
        return np.floor(blurred + 2.0**-12) / 255

    return blur
