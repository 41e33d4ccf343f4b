"""Every layer: range, seed, per-image draws, configuration, odd sizes, grey."""

import json

import numpy as np
import pytest

import degradations

TEXTS = [
    "noise:0-50",
    "saltpepper:0.1",
    "saltpepper:0-0.25,step=0.01,authors_variant=true",
    "blur:0-5,step=0.1",
    "blur:1.5,authors_variant=true",
    *(
        f"{name}@1-5"
        for name in (
            *degradations.GROUPS["imagenet_c"],
            *degradations.GROUPS["imagenet_c_extra"],
        )
        if name != "jpeg_compression"
    ),
]


def images(shape, seed=0):
    low = np.random.default_rng(seed).uniform(0, 255, (shape[0], 4, 4, shape[3]))
    rows = np.linspace(0, 3, shape[1]).round().astype(int)
    columns = np.linspace(0, 3, shape[2]).round().astype(int)
    return np.floor(low[:, rows][:, :, columns]).astype("float32")


@pytest.mark.parametrize("text", TEXTS)
def test_contract(text):
    layer = degradations.parse(text)
    batch = images((3, 21, 17, 3))
    result = np.asarray(layer(batch, seed=5))
    assert result.shape == batch.shape
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    assert (result == np.floor(result)).all()
    assert result.min() >= 0
    assert result.max() <= 255
    np.testing.assert_array_equal(layer(batch, seed=5), result)
    # Image i depends on the seed and i; sums of other lengths may end a rounding apart.
    np.testing.assert_allclose(layer(batch[:2], seed=5), result[:2], atol=1)
    again = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
    np.testing.assert_array_equal(again(batch, seed=5), result)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 1, 7, 3), (1, 37, 53, 1)])
def test_odd_sizes_and_grey(text, shape):
    layer = degradations.parse(text)
    if text.startswith("pixelate") and shape[1] == 1:
        with pytest.raises(ValueError, match=r"at least 4\.0 pixels"):
            layer(images(shape), seed=1)
        return
    result = np.asarray(layer(images(shape), seed=1))
    assert result.shape == shape
    assert np.isfinite(result).all()


RANDOM = [
    text
    for text in TEXTS
    if not text.startswith(
        ("blur", "gaussian_blur", "defocus", "zoom", "brightness", "contrast", "saturate", "pixel")
    )
]


@pytest.mark.parametrize("text", RANDOM)
def test_equal_images_of_a_batch_are_degraded_differently(text):
    batch = np.repeat(images((1, 32, 32, 3)), 2, 0)
    # A single severity, so that it's the draws that differ; 3 moves glass by more than nothing.
    result = np.asarray(degradations.parse(text.replace("@1-5", "@3"))(batch, seed=3))
    assert (result[0] != result[1]).any()
    other = np.asarray(degradations.parse(text.replace("@1-5", "@3"))(batch, seed=4))
    assert (result != other).any()


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("severity", [1, 5])
def test_severities_of_small_images(size, severity):
    names = [name for name in degradations.GROUPS["imagenet_c"] if name != "jpeg_compression"]
    names += degradations.GROUPS["imagenet_c_extra"]
    batch = np.random.default_rng(1).integers(0, 256, (1, size, size, 3)).astype("float32")
    for layer in degradations.parse_list(names, size=size, severity=severity):
        result = np.asarray(layer(batch, seed=1))
        assert (result != batch).any(), layer.name
