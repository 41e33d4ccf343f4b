"""The embedded sample data: scikit-image's photographs, which need no download."""

import pathlib

import numpy as np
import PIL.Image
import skimage

# The colour photographs inside scikit-image's wheel, without its diagrams, its microscope slide
# and its retina scan. The motorcycle was taken by two cameras side by side: both pictures stay on
# the same side of the split. Only astronaut, both motorcycles, rocket, hubble_deep_field and
# coffee have 384 pixels on both sides, as 48-pixel patches at x8 need; chelsea has 300.
PHOTOS = {
    "train": (
        "astronaut.png",
        "hubble_deep_field.jpg",
        "motorcycle_left.png",
        "motorcycle_right.png",
        "rocket.jpg",
    ),
    "validation": ("chelsea.png", "coffee.png"),
}


def sample_photos(split):
    """Returns the sample photographs of a split.

    The split is fixed: photographs of `'validation'` are of an ordinary kind (an animal, a table)
    and never among those of `'train'`.

    Args:
        split: `'train'` or `'validation'`.

    Returns:
        List of `(name, image)`; the image is uint8 RGB `[H, W, 3]`, 300 to 1000 pixels a side.

    Raises:
        ValueError: if the split is unknown.
    """
    if split not in PHOTOS:
        raise ValueError(f"split must be one of {sorted(PHOTOS)}. Received: {split!r}")
    folder = pathlib.Path(skimage.__file__).parent / "data"
    return [(pathlib.Path(name).stem, _read(folder / name)) for name in PHOTOS[split]]


def _read(path):
    with PIL.Image.open(path) as photo:
        return np.array(photo.convert("RGB"))
