"""Frost: windows of photos at each size, and the textures that stand in for photos."""

import numpy as np
import PIL.Image
import pytest

import degradations
from degradations import frost_texture, severity

# Mean and deviation of what the authors' photos add to black images, over their random windows:
# measured on the files of Hendrycks & Dietterich's repository, scaled by OpenCV as in their code.
PHOTOS = {
    (32, 1): (31.9, 9.9),
    (32, 5): (72.3, 22.2),
    (64, 1): (47.9, 14.5),
    (64, 5): (88.2, 26.6),
    (224, 1): (65.4, 19.4),
    (224, 5): (123.0, 36.3),
}


def test_textures_are_fixed_and_differ():
    first = frost_texture.frost_textures(2, 96)
    frost_texture.frost_textures.cache_clear()
    second = frost_texture.frost_textures(2, 96)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (first[0] != first[1]).any()


def test_textures_have_the_looks_of_photos_and_the_bright_lines_of_frost():
    textures = frost_texture.frost_textures(6, 256)
    for texture, (means, deviations) in zip(textures, frost_texture.LOOKS, strict=False):
        assert texture.shape == (256, 256, 3)
        assert texture.dtype == np.uint8
        np.testing.assert_allclose(texture.mean(axis=(0, 1)), means, atol=2)
        np.testing.assert_allclose(texture.std(axis=(0, 1)), deviations, atol=4)
        # Ice is brighter than the glass, and covers less of it: the values lean to the right.
        grey = texture.mean(axis=-1)
        assert np.mean((grey - grey.mean()) ** 3) > 0


@pytest.mark.parametrize(("size", "step"), PHOTOS)
def test_textures_add_what_photos_add(size, step):
    layer = degradations.parse(f"frost@{step}", size=size)
    added = np.asarray(layer(np.zeros([1500, 32, 32, 3], "float32"), seed=2))
    mean, deviation = PHOTOS[size, step]
    assert added.mean() == pytest.approx(mean, rel=0.04)
    assert added.std() == pytest.approx(deviation, rel=0.08)


@pytest.mark.parametrize(("size", "scale"), [(32, 0.2), (64, 0.3)])
def test_photos_are_scaled_without_smoothing(size, scale, tmp_path):
    height, width = round(40 / scale), round(45 / scale)
    if size == 64:
        height, width = round(68 / scale), round(70 / scale)
    photo = np.random.default_rng(size).integers(0, 256, [height, width, 3], np.uint8)
    PIL.Image.fromarray(photo).save(tmp_path / "frost.png")
    # Bilinear: the two pixels around the place that each pixel's centre comes from.
    small = photo.astype(np.float64)
    for axis, side in ((0, height), (1, width)):
        place = (np.arange(round(side * scale)) + 0.5) / scale - 0.5
        below = np.floor(place).astype(int)
        share = (place - below).reshape([-1, 1, 1] if axis == 0 else [1, -1, 1])
        first, second = (np.take(small, below + i, axis, mode="clip") for i in (0, 1))
        small = first * (1 - share) + second * share
    weight = severity.table("frost", size)[2, 1]
    layer = degradations.parse(f'frost@3:folder="{tmp_path}"', size=size)
    for found in np.asarray(layer(np.zeros([3, size, size, 3], "float32"), seed=1)):
        differences = [
            np.abs(found - weight * small[y : y + size, x : x + size]).max()
            for y in range(small.shape[0] - size)
            for x in range(small.shape[1] - size)
        ]
        assert min(differences) < 1.5
