import numpy as np
import PIL.Image
import pytest
import skimage.data
from hypothesis import given
from hypothesis import strategies as st

from classifiers import random_resized_crop
from classifiers.random_resized_crop import DRAWS, choose_window

UNIFORM = st.lists(st.floats(0, 1, exclude_max=True), min_size=DRAWS, max_size=DRAWS)


@given(st.integers(1, 3000), st.integers(1, 3000), UNIFORM)
def test_windows_lie_in_the_image(height, width, uniform):
    top, left, rows, columns = choose_window(height, width, uniform)
    assert 0 <= top <= height - rows
    assert 0 <= left <= width - columns
    assert min(rows, columns) >= 1


def test_area_proportions_and_places_are_spread_as_published():
    random = np.random.default_rng(0)
    windows = [choose_window(3000, 4000, random.random(DRAWS), (0.08, 0.5)) for _ in range(3000)]
    top, left, rows, columns = np.array(windows, float).T
    # All of these fit at the first try: nothing is distorted by trying again.
    share = rows * columns / (3000 * 4000)
    assert share.min() == pytest.approx(0.08, abs=0.002)
    assert share.max() == pytest.approx(0.5, abs=0.002)
    assert share.mean() == pytest.approx(0.29, abs=0.01)
    proportion = np.log(columns / rows)
    assert np.abs(proportion).max() == pytest.approx(np.log(4 / 3), abs=0.005)
    assert proportion.mean() == pytest.approx(0, abs=0.02)
    assert (top / (3001 - rows)).mean() == pytest.approx(0.5, abs=0.02)
    assert (left / (4001 - columns)).mean() == pytest.approx(0.5, abs=0.02)


def test_images_that_no_window_fits_give_their_middle():
    uniform = [0.9] * DRAWS
    assert choose_window(30, 1000, uniform) == (0, 480, 30, 40)
    assert choose_window(1000, 30, uniform) == (480, 0, 40, 30)


@pytest.mark.parametrize("name", ["photo.png", "photo.jpg"])
def test_pixels_are_those_of_a_cut_and_resized_image(name, tmp_path):
    PIL.Image.fromarray(skimage.data.chelsea()).save(tmp_path / name)
    uniform = np.random.default_rng(3).random(DRAWS)
    with PIL.Image.open(tmp_path / name) as image:
        top, left, rows, columns = choose_window(*image.size[::-1], uniform)
        cut = image.convert("RGB").crop((left, top, left + columns, top + rows))
    resized = np.asarray(cut.resize((224, 224), PIL.Image.Resampling.BILINEAR))
    ours = random_resized_crop.read(tmp_path / name, 224, uniform)
    np.testing.assert_array_equal(ours, resized)
    # A small one comes from a reduced JPEG. Another filter differs by two grey levels.
    resized = np.asarray(cut.resize((32, 32), PIL.Image.Resampling.BILINEAR), float)
    ours = random_resized_crop.read(tmp_path / name, 32, uniform)
    assert ours.shape == (32, 32, 3)
    assert np.abs(ours - resized).mean() < (1e-9 if name.endswith("png") else 1)
