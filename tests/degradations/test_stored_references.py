"""Corruptions beside stored results of the package imagecorruptions, and of these on JAX."""

import functools

import numpy as np
import pytest
import skimage.data

import degradations
from tests import references

DETERMINISTIC = (
    *("defocus_blur", "zoom_blur", "gaussian_blur", "brightness", "saturate", "contrast"),
    "pixelate",
)
RANDOM = (
    *(f"{name}@{level}" for name in ("fog", "snow", "motion_blur") for level in (1, 3, 5)),
    *("glass_blur@2", "spatter@1", "spatter@4", "spatter@5"),
    *("gaussian_noise@3", "shot_noise@3", "impulse_noise@3", "speckle_noise@3"),
)
# Those that JAX makes without long compilation, in addition.
ON_JAX = ("jpeg:10", "blur:1.5", "darken@3")
RANDOM_ON_JAX = ("noise:20", "saltpepper:0.1", "gaussian_noise@3", "sparkles@3", "fog@3")
SIDE = 48
RANDOM_SIDE = 64  # snow is drawn in another way on smaller images
DRAWS = 100
ERRORS = 5  # standard errors that a mean may be off


def photo(side=SIDE):
    """Returns a part of a photo with edges and flat areas, uint8."""
    return skimage.data.astronaut()[20 : 20 + 4 * side : 4, 150 : 150 + 4 * side : 4]


def degrade(text):
    return np.asarray(degradations.parse(text)(np.float32(photo())[None], seed=2))[0]


def draw(text):
    images = np.repeat(np.float32(photo(RANDOM_SIDE))[None], DRAWS, axis=0)
    return np.asarray(degradations.parse(text)(images, seed=2))


def summary(image):
    """Returns mean and variance per channel, and the logarithm of the power in three bands."""
    image = np.asarray(image, float)
    means, variances = image.mean(axis=(0, 1)), image.var(axis=(0, 1))
    power = np.abs(np.fft.fft2(image - means, axes=(0, 1))) ** 2
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(side) for side in image.shape[:2]]))
    bands = [
        np.log(power[(frequency > low) & (frequency <= high)].mean() + 1)
        for low, high in ((0, 0.1), (0.1, 0.25), (0.25, 0.8))
    ]
    return np.concatenate([means, variances, bands])


def statistics(images):
    """Returns the means and variances of the summaries of equal images, degraded differently."""
    summaries = np.stack([summary(image) for image in images])
    return np.stack([summaries.mean(axis=0), summaries.var(axis=0)])


def results():
    """Returns what is stored of a backend."""
    single = [*(f"{name}@3" for name in DETERMINISTIC), *ON_JAX]
    found = {text: degrade(text).astype(np.uint8) for text in single}
    return found | {text: statistics(draw(text)) for text in RANDOM_ON_JAX}


def assert_same_distribution(ours, theirs):
    error = np.sqrt((ours[1] + theirs[1]) / DRAWS)
    # Where nothing varies, one grey level by rounding, and its effect on variance and spectrum.
    slack = np.r_[np.full(3, 0.1), 0.002 * theirs[0, 3:6], np.full(3, 0.02)]
    assert (np.abs(ours[0] - theirs[0]) < ERRORS * error + slack).all()
    # The spread between seeds agrees too, roughly: a fixed angle or fractal would show.
    ratio = (np.sqrt(ours[1]) + 1e-2) / (np.sqrt(theirs[1]) + 1e-2)
    assert ((ratio > 0.6) & (ratio < 1.7)).all()


load = functools.cache(references.load)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_within_one_grey_level_of_imagecorruptions(name):
    for level, expected in enumerate(load("corruptions")[name], start=1):
        assert np.abs(degrade(f"{name}@{level}") - expected).max() <= 1
        assert (np.float32(photo()) != expected).any()


@pytest.mark.parametrize("text", RANDOM)
def test_mean_variance_and_spectrum_are_those_of_imagecorruptions(text):
    assert_same_distribution(statistics(draw(text)), load("corruptions")[text])


@pytest.mark.parametrize("text", [*(f"{name}@3" for name in DETERMINISTIC), *ON_JAX])
def test_pixels_are_those_on_jax(text):
    difference = np.abs(degrade(text) - load("jax")[text])
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 0.01


@pytest.mark.parametrize("text", RANDOM_ON_JAX)
def test_draws_are_distributed_as_on_jax(text):
    assert_same_distribution(statistics(draw(text)), load("jax")[text])
