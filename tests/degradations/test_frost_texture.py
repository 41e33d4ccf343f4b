"""The textures that stand in for photos of frost."""

import numpy as np

from degradations import frost_texture


def test_textures_are_fixed_and_differ():
    first = frost_texture.frost_textures(2, 96)
    frost_texture.frost_textures.cache_clear()
    second = frost_texture.frost_textures(2, 96)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (first[0] != first[1]).any()


def test_textures_have_the_brightness_and_the_bright_lines_of_frost():
    texture = frost_texture.frost_textures(1, 256)[0]
    assert texture.shape == (256, 256, 3)
    assert texture.dtype == np.uint8
    grey = texture.mean(axis=-1)
    assert abs(grey.mean() - frost_texture.MEAN) < 10
    assert abs(grey.std() - frost_texture.DEVIATION) < 12
    # Ice is brighter than the glass, and covers less of it: the distribution leans to the right.
    assert np.mean((grey - grey.mean()) ** 3) > 0
