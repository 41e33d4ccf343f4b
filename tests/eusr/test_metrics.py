import warnings

import numpy as np
import pytest
import scipy.ndimage

from eusr import metrics


@pytest.fixture
def pair():
    random = np.random.default_rng(0)
    truth = random.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    noise = random.normal(0, 10, truth.shape)
    return np.clip(truth + noise, 0, 255).astype(np.uint8), truth


def test_psnr_and_rmse_follow_their_formulas(pair):
    image, truth = (value.astype(float) for value in pair)
    error = np.mean((image - truth) ** 2)
    assert metrics.rmse(*pair) == pytest.approx(error**0.5)
    assert metrics.psnr(*pair) == pytest.approx(10 * np.log10(255**2 / error))


def test_psnr_of_identical_images_is_infinite_without_a_warning(pair):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = metrics.compare(pair[0], pair[0], scale=2, shave_size=4)
    assert figures["psnr_rgb"] == figures["psnr_y"] == float("inf")
    assert figures["rmse_rgb"] == 0
    assert figures["ssim_y"] == pytest.approx(1)


def test_luma_has_studio_swing():
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]])
    # The table of ITU-R BT.601: 16, 235, and the primaries.
    np.testing.assert_allclose(metrics.luma(colours)[0], [16, 235, 81.481, 144.553, 40.966])


def test_ssim_equals_the_definition(pair):
    x, y = metrics.luma(pair[0]), metrics.luma(pair[1])

    def smooth(image):
        offsets = np.arange(-5, 6)
        window = np.exp(-(offsets**2) / (2 * 1.5**2))
        window /= window.sum()
        for axis in (0, 1):
            image = scipy.ndimage.correlate1d(image, window, axis)
        return image[5:-5, 5:-5]

    mean_x, mean_y = smooth(x), smooth(y)
    var_x, var_y = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    value = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )
    assert metrics.ssim(x, y) == pytest.approx(value.mean(), abs=1e-10)


def test_borders_are_shaved_as_the_papers_do(pair):
    image, truth = pair[0].copy(), pair[1]
    figures = metrics.compare(image, truth, scale=3, shave_size=4)
    image[:3] = 0
    image[:, -3:] = 255
    assert metrics.compare(image, truth, scale=3, shave_size=4) == figures
    image[3] = 0
    changed = metrics.compare(image, truth, scale=3, shave_size=4)
    assert changed["psnr_rgb"] == figures["psnr_rgb"]
    assert changed["psnr_y"] < figures["psnr_y"]


def test_rounds_half_to_even_and_clips():
    image = np.array([-3.0, 0.5, 1.5, 254.6, 300.0])
    assert metrics.to_uint8(image).tolist() == [0, 0, 2, 255, 255]


def test_bad_shapes_are_named(pair):
    with pytest.raises(ValueError, match="differ in shape"):
        metrics.compare(pair[0][1:], pair[1], 2, 4)
    with pytest.raises(ValueError, match="8x9 pixels"):
        metrics.shave(np.zeros((8, 9, 3)), 4)
    with pytest.raises(ValueError, match="11x11"):
        metrics.ssim(np.zeros((10, 30)), np.zeros((10, 30)))


def test_tiny_images_have_no_ssim(pair):
    small = pair[0][:13, :13], pair[1][:13, :13]
    assert np.isnan(metrics.compare(*small, scale=2, shave_size=4)["ssim_y"])
