"""The embedded sample data, which need no download: scikit-image's photographs, and digits."""

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
DIGITS_TRAIN = 1437
DIGITS_SIDE = 32


def sample_photos(split):
    """Returns the list of `(name, uint8 RGB [H, W, 3])` of `'train'` or `'validation'`.

    Sides have 300 to 1000 pixels; those for validation are of an ordinary kind (an animal, a
    table). Raises ValueError for another split.
    """
    if split not in PHOTOS:
        raise ValueError(f"split must be one of {sorted(PHOTOS)}. Received: {split!r}")
    folder = pathlib.Path(skimage.__file__).parent / "data"
    return [(pathlib.Path(name).stem, _read(folder / name)) for name in PHOTOS[split]]


def sample_digits(split):
    """Returns scikit-learn's handwritten digits, enlarged to 32x32 pixels.

    Args:
        split: `'train'` (the first 1,437) or `'test'` (the last 360, of other writers).

    Returns:
        `(images, labels)`: uint8 RGB `[N, 32, 32, 3]`, white on black; int32 `[N]`, 0 to 9.

    Raises:
        ValueError: if the split is unknown.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be train or test. Received: {split!r}")
    # Imported where it is needed: it takes a second, and nothing else uses it.
    import sklearn.datasets

    digits = sklearn.datasets.load_digits()
    chosen = slice(None, DIGITS_TRAIN) if split == "train" else slice(DIGITS_TRAIN, None)
    # The 8x8 values are whole numbers from 0 to 16.
    small = np.rint(digits.images[chosen] * (255 / 16)).astype(np.uint8)
    images = [
        PIL.Image.fromarray(image).resize([DIGITS_SIDE] * 2, PIL.Image.Resampling.BICUBIC)
        for image in small
    ]
    grey = np.stack([np.asarray(image) for image in images])
    return np.repeat(grey[..., None], 3, axis=3), digits.target[chosen].astype(np.int32)


def _read(path):
    with PIL.Image.open(path) as photo:
        return np.array(photo.convert("RGB"))
