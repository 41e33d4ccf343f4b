import io

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from misc.images import image_files
from score_predictors import windows
from tests.score_predictors import helpers

FORMATS = {
    "420.jpg": {"quality": 80, "subsampling": 2},
    "422.jpg": {"quality": 95, "subsampling": 1},
    "444.jpg": {"quality": 60, "subsampling": 0},
    "411.jpg": {"quality": 80, "subsampling": "4:1:1"},
    "progressive.jpg": {"quality": 80, "progressive": True},
    "restart.jpg": {"quality": 80, "restart_marker_rows": 1},
    "lossless.png": {},
    "plain.bmp": {},
    "image.webp": {"quality": 80},
}


@pytest.mark.parametrize("name", FORMATS)
def test_windows_equal_those_of_the_whole_picture(name, tmp_path):
    path = helpers.save(tmp_path / name, helpers.photo(75, 101), **FORMATS[name])
    check_random_windows(path)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_jpegs_equal_what_pillow_gives(mode, tmp_path):
    path = tmp_path / "image.jpg"
    PIL.Image.fromarray(helpers.photo(75, 101)).convert(mode).save(path)
    check_random_windows(path)


@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8])
def test_turned_jpegs_are_read_upright(orientation, tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = helpers.save(tmp_path / "image.jpg", helpers.photo(40, 70), exif=exif)
    check_random_windows(path)


def check_random_windows(path):
    whole = image_files.read_rgb(path)
    with PIL.Image.open(path) as image:
        if not image.getexif():
            np.testing.assert_array_equal(whole, np.asarray(image.convert("RGB")))
    random = np.random.default_rng(0)
    for _ in range(40):
        rows, columns = (random.integers(1, side + 1) for side in whole.shape[:2])
        top = random.integers(0, whole.shape[0] - rows + 1)
        left = random.integers(0, whole.shape[1] - columns + 1)

        def choose(height, width, window=(top, left, rows, columns)):
            assert (height, width) == whole.shape[:2]
            return window

        np.testing.assert_array_equal(
            windows.read_window(path, choose)[0], whole[top : top + rows, left : left + columns]
        )


def test_broken_and_missing_files_are_named(tmp_path):
    encoded = io.BytesIO()
    PIL.Image.fromarray(helpers.photo(75, 101)).save(encoded, "JPEG")
    contents = {
        "cut.jpg": encoded.getvalue()[:900],
        "header.jpg": encoded.getvalue()[:20],
        "text.jpg": b"no picture",
        "empty.jpg": b"",
    }
    cropping = windows.Cropping(70, square=True, small="resize")
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"Cannot read the image .*{name}"):
            windows.read_patch(tmp_path / name, cropping)
    with pytest.raises(ValueError, match=r"missing\.jpg: No such file"):
        windows.read_patch(tmp_path / "missing.jpg", cropping)


@pytest.mark.parametrize(("height", "width", "patch"), [(5, 9, 3), (9, 5, 5), (6, 6, 4), (4, 7, 6)])
def test_random_windows_have_the_distribution_of_the_two_crops(height, width, patch):
    cropping = windows.Cropping(patch, square=True, small="resize")
    short = min(height, width)
    side = min(short, patch)
    expected = np.zeros((height, width))
    for first in range(max(height, width) - short + 1):
        for row in range(short - side + 1):
            for column in range(short - side + 1):
                top, left = (first, 0) if height > width else (0, first)
                expected[top + row, left + column] += 1
    found = np.zeros((height, width))
    # As many evenly spaced numbers as there are places give each of them once.
    places = [(n + 0.5) / 60 for n in range(60)]
    for first in places:
        for row in places[::5]:
            for column in places[::5]:
                top, left, *size = cropping.window(height, width, [first, row, column, 0, 0])
                assert size == [side, side]
                found[top, left] += 1
    np.testing.assert_allclose(found / found.sum(), expected / expected.sum(), atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.integers(1, 40),
    st.booleans(),
    st.sampled_from(windows.SMALL),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=5, max_size=5),
)
def test_windows_lie_inside_and_patches_have_the_size(height, width, patch, square, small, uniform):
    cropping = windows.Cropping(patch, square, small)
    for numbers in (None, uniform):
        top, left, rows, columns = cropping.window(height, width, numbers)
        assert min(top, left) >= 0
        assert top + rows <= height
        assert left + columns <= width
        assert min(height, patch) >= rows > 0
        fitted = cropping.fit(np.full((rows, columns, 3), 7, np.uint8))
        assert fitted.shape == (patch, patch, 3)
        assert fitted.max() == 7


@pytest.mark.parametrize(("height", "width"), [(40, 31), (31, 40), (20, 20), (12, 33), (33, 12)])
def test_central_patches_equal_tensorflow(height, width, tmp_path):
    pixels = helpers.photo(height, width)
    path = helpers.save(tmp_path / "image.png", pixels)
    patch = 20
    padded = tf.image.resize_with_crop_or_pad(pixels, patch, patch)
    cropping = windows.Cropping(patch, square=False, small="pad")
    np.testing.assert_array_equal(windows.read_patch(path, cropping), padded)

    short = min(height, width)
    square = tf.image.resize_with_crop_or_pad(pixels, short, short)
    enlarged = tf.image.resize(square, [max(short, patch)] * 2)
    expected = tf.image.resize_with_crop_or_pad(enlarged, patch, patch)
    cropping = windows.Cropping(patch, square=True, small="resize")
    np.testing.assert_allclose(windows.read_patch(path, cropping), expected, atol=0.501)


def test_flips(tmp_path):
    path = helpers.save(tmp_path / "image.png", helpers.photo(20, 20))
    cropping = windows.Cropping(20, square=True, small="pad")
    whole = windows.read_patch(path, cropping, [0, 0, 0, 0.4, 0.4])
    mirrored = windows.read_patch(path, cropping, [0, 0, 0, 0.6, 0.4])
    upside_down = windows.read_patch(path, cropping, [0, 0, 0, 0.4, 0.6])
    np.testing.assert_array_equal(mirrored, whole[:, ::-1])
    np.testing.assert_array_equal(upside_down, whole[::-1])


def test_wrong_settings():
    with pytest.raises(ValueError, match="input_patch_size must be positive"):
        windows.Cropping(0, square=True, small="pad")
    with pytest.raises(ValueError, match="'stretch'"):
        windows.Cropping(5, square=True, small="stretch")
