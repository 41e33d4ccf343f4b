"""The random corruptions in distribution: noise by formula, the others beside ImageNet-C's code."""

import os

import cv2
import numpy as np
import pytest
import scipy.ndimage
import skimage.data
from PIL import Image
from scipy import stats

import degradations
from benchmarks import imagecorruptions_peer
from degradations import random, severity
from tests.degradations.test_stored_references import summary

# One grey value per channel: dark, middling, bright.
GREYS = np.float32([30, 128, 230])
VALUES = np.arange(256)

# Standard errors that a mean or variance may be off; about one in two million is, by chance.
ERRORS = 5


def level_of(name, step):
    return severity.table(name)[step - 1].item()


def truncated_normal(mean, deviation):
    """Returns the probability of each grey level of a normal variable, cut and truncated."""
    # Everything below 1 becomes 0, everything from 255 on 255.
    ends = stats.norm.cdf(np.arange(1, 256), mean, max(deviation, 1e-9))
    return np.diff(ends, prepend=0, append=1)


def poisson(mean, photons):
    counts = np.arange(1000)
    greys = np.floor(np.minimum(counts / photons, 1) * 255 + 1e-3).astype(int)
    shares = stats.poisson.pmf(counts, mean / 255 * photons)
    return np.bincount(greys, weights=shares, minlength=256)


def replaced(mean, low, high):
    shares = np.zeros(256)
    shares[[0, int(mean), 255]] = low, 1 - low - high, high
    return shares


def gaussian_noise(mean, step):
    return truncated_normal(mean, 255 * level_of("gaussian_noise", step))


def speckle_noise(mean, step):
    return truncated_normal(mean, mean * level_of("speckle_noise", step))


def shot_noise(mean, step):
    return poisson(mean, level_of("shot_noise", step))


def impulse_noise(mean, step):
    share = level_of("impulse_noise", step)
    return replaced(mean, share / 2, share / 2)


def check_noise(text, shares_of):
    """Compares mean, variance and neighbours' correlation over 64 images with a formula."""
    batch = np.broadcast_to(GREYS, (64, 32, 32, 3))
    result = np.asarray(degradations.parse(text)(batch, seed=11)).astype(float)
    count = result[..., 0].size
    for channel, grey in enumerate(GREYS):
        shares = shares_of(grey)
        assert shares.sum() == pytest.approx(1)
        mean = shares @ VALUES
        variance, fourth = (shares @ (VALUES - mean) ** power for power in (2, 4))
        plane = result[..., channel]
        assert abs(plane.mean() - mean) < ERRORS * np.sqrt(variance / count)
        spread = np.sqrt((fourth - variance**2) / count)
        assert abs(plane.var() - variance) < ERRORS * spread
        centred = plane - plane.mean()
        # White: no correlation with the pixel below, the one to the right, the next channel.
        others = result[..., (channel + 1) % 3]
        products = (
            centred[:, 1:] * centred[:, :-1],
            centred[:, :, 1:] * centred[:, :, :-1],
            centred * (others - others.mean()),
        )
        for product in products:
            assert abs(product.mean()) < ERRORS * product.std() / np.sqrt(product.size)


@pytest.mark.parametrize("step", [1, 3, 5])
@pytest.mark.parametrize("formula", [gaussian_noise, shot_noise, impulse_noise, speckle_noise])
def test_noise_of_imagenet_c(formula, step):
    check_noise(f"{formula.__name__}@{step}", lambda grey: formula(grey, step))


def test_noise_and_saltpepper():
    check_noise("noise:25", lambda grey: truncated_normal(grey, 25))
    # Salt is drawn after pepper and covers it.
    check_noise("saltpepper:0.2", lambda grey: replaced(grey, 0.1 * 0.9, 0.1))


@pytest.mark.parametrize(("strength", "deviation", "shift"), [(60, 20, 5), (6, 2, 1), (0, 0, 6)])
def test_elastic_transform_equals_scipy_for_the_same_displacements(strength, deviation, shift):
    layer = degradations.parse(
        f"elastic_transform:strength={strength},deviation={deviation},shift={shift}"
    )
    photo = np.asarray(Image.fromarray(skimage.data.astronaut()).resize((64, 64)), np.float32)
    batch = np.stack([photo, photo[::-1]])
    seed = random.make_seed(5)
    levels = np.float32([[strength, deviation, shift]] * 2)
    result = np.asarray(layer.apply(batch, levels, seed))
    moves = np.asarray(random.uniform([2, 3, 2], random.fold_in(seed, 0), -1.0, 1.0))
    fields = np.asarray(random.uniform([2, 64, 64, 2], random.fold_in(seed, 1), -1.0, 1.0))
    y, x = np.mgrid[:64, :64].astype(float)
    points = 32 + 21 * np.float64([[1, 1], [1, -1], [-1, -1]])
    for image, move, field, ours in zip(batch, moves, fields, result, strict=True):
        # The map from the moved points back to the points, in homogeneous coordinates.
        after = np.c_[points + shift * move, np.ones(3)]
        back = np.linalg.solve(after, points)
        place = np.stack([x, y, np.ones_like(x)], axis=-1) @ back
        smooth = [
            strength * scipy.ndimage.gaussian_filter(field[..., i].astype(float), deviation,
                                                     mode="reflect", truncate=3)
            for i in range(2)
        ]  # fmt: skip
        for channel in range(3):
            bent = scipy.ndimage.map_coordinates(
                image[..., channel].astype(float),
                [place[..., 1], place[..., 0]],
                order=1,
                mode="mirror",
            )
            expected = scipy.ndimage.map_coordinates(
                bent, [y + smooth[1], x + smooth[0]], order=1, mode="reflect"
            )
            np.testing.assert_allclose(ours[..., channel], expected, atol=0.05)


def draws_of(text, images, seed=7):
    """Returns the result of a layer, its levels, and the seed that `apply` draws from."""
    layer = degradations.parse(text, size=len(images[0]))
    levels = severity.table(layer.severity_table, layer.size)[layer.severity - 1]
    return np.asarray(layer(images, seed=seed)), levels, random.fold_in(random.make_seed(seed), 1)


def move(layer, radius, deviation, angle):
    """ImageMagick's motion blur of a plane."""
    taps = np.arange(2 * int(radius) + 1)
    weights = np.exp(-(taps**2) / (2 * deviation**2))
    rows, columns = np.indices(layer.shape)
    total = 0
    for tap, weight in zip(taps, weights / weights.sum(), strict=True):
        down = np.ceil(tap * np.sin(np.deg2rad(angle)) - 0.5).astype(int)
        right = np.ceil(tap * np.cos(np.deg2rad(angle)) - 0.5).astype(int)
        total = total + weight * np.pad(layer, 40, "edge")[rows + down + 40, columns + right + 40]
    return total


def assert_truncated(found, expected, share=2e-3):
    difference = np.abs(found - np.floor(np.clip(expected, 0, 255) + 1e-6))
    assert (difference > 0).mean() < share
    assert (difference > 1).mean() < share / 10


@pytest.mark.parametrize("step", [2, 5])
def test_snow_equals_a_float64_reference_for_the_same_flakes(step):
    images = np.float32(skimage.data.astronaut()[None, 60:124, 80:144])
    found, levels, seed = draws_of(f"snow@{step}", images)
    mean, spread, zoom, threshold, radius, deviation, weight = levels
    crop = int(np.ceil(64 / zoom))
    flakes = np.asarray(random.normal([1, crop, crop], random.fold_in(seed, 0)))[0]
    flakes = scipy.ndimage.zoom(flakes * spread + mean, zoom, order=1)
    first = (len(flakes) - 64) // 2
    flakes = flakes[first : first + 64, first : first + 64]
    flakes = np.floor(255 * np.clip(np.where(flakes < threshold, 0, flakes), 0, 1))
    angle = np.asarray(random.uniform([1], random.fold_in(seed, 1), -135.0, -45.0))[0]
    streaks = np.floor(move(flakes, radius, deviation, angle) + 1e-6)[..., None]
    grey = images[0] @ np.array([0.299, 0.587, 0.114])
    bleached = np.maximum(images[0], 1.5 * grey[..., None] + 127.5)
    expected = weight * images[0] + (1 - weight) * bleached + streaks + streaks[::-1, ::-1]
    assert_truncated(found[0], expected)


@pytest.mark.parametrize("step", [1, 3])
def test_water_equals_opencv_for_the_same_drops(step):
    images = np.float32(skimage.data.astronaut()[None, 60:124, 80:144])
    found, levels, seed = draws_of(f"spatter@{step}", images)
    mean, spread, deviation, threshold, strength, _ = levels
    drops = np.asarray(random.normal([1, 64, 64], seed))[0] * spread + mean
    drops = scipy.ndimage.gaussian_filter(drops.astype(float), deviation, mode="nearest")
    drops = np.uint8(255 * np.clip(np.where(drops < threshold, 0, drops), 0, 1))
    depth = cv2.distanceTransform(255 - cv2.Canny(drops, 50, 150), cv2.DIST_L2, 5)
    depth = np.uint8(cv2.blur(np.minimum(depth, 20), (3, 3)))
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    depth = cv2.blur(cv2.filter2D(cv2.equalizeHist(depth), cv2.CV_8U, emboss), (3, 3))
    mask = np.float64(drops) * depth
    mask = strength * mask[..., None] / mask.max()
    assert_truncated(found[0], images[0] + mask * np.array([175, 238, 238]))


ORACLE = os.environ.get("IMAGECORRUPTIONS_FOLDER")


@pytest.mark.skipif(
    not imagecorruptions_peer.is_installed(ORACLE),
    reason="imagecorruptions is not installed; IMAGECORRUPTIONS_FOLDER may name its folder",
)
@pytest.mark.parametrize(
    "text",
    [
        *(f"{name}@{step}" for name in ("fog", "snow", "motion_blur") for step in (1, 3, 5)),
        # The peer visits pixel after pixel in Python: half a minute.
        *(pytest.param(f"glass_blur@{step}", marks=pytest.mark.slow) for step in (2, 3)),
        *(f"spatter@{step}" for step in (1, 4, 5)),
        *("gaussian_noise@3", "shot_noise@3", "impulse_noise@3", "speckle_noise@3"),
    ],
)
def test_mean_variance_and_spectrum_are_those_of_imagecorruptions(text):
    name, step = text.split("@")
    peer = getattr(imagecorruptions_peer.load(ORACLE), name)
    photo = Image.fromarray(skimage.data.astronaut()).resize((64, 64))
    count = 100
    batch = np.repeat(np.float32(photo)[None], count, axis=0)
    ours = np.stack([summary(x) for x in np.asarray(degradations.parse(text)(batch, seed=2))])
    np.random.seed(1)  # noqa: NPY002 - the peer draws from the global generator
    theirs = np.stack([summary(np.uint8(peer(photo, int(step)))) for _ in range(count)])
    error = np.sqrt((ours.var(axis=0) + theirs.var(axis=0)) / count)
    # Where nothing varies, one grey level by rounding, and its effect on variance and spectrum.
    slack = np.r_[np.full(3, 0.1), 0.002 * theirs.mean(axis=0)[3:6], np.full(3, 0.02)]
    assert (np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) < ERRORS * error + slack).all()
    # The spread between seeds agrees too, roughly: a fixed angle or fractal would show.
    ratio = (ours.std(axis=0) + 1e-2) / (theirs.std(axis=0) + 1e-2)
    assert ((ratio > 0.6) & (ratio < 1.7)).all()
