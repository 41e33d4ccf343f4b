import keras
import numpy as np
import pytest

from eusr.discriminator import Discriminator


def test_published_sizes():
    network = Discriminator()
    layers = network.convolutions
    features = [32, 32, 64, 64, 128, 128, 256, 256, 512, 512]
    assert [layer.filters for layer in layers] == features
    assert [layer.strides[0] for layer in layers] == [1, 2, 1, 2, 1, 2, 1, 2, 1, 2]
    inputs = [3, *features[:-1]]
    expected = sum(9 * i * o + o for i, o in zip(inputs, features, strict=True))
    expected += 512 * 1024 + 1024 + 1024 + 1
    assert network.count_params() == expected


def test_a_patch_of_192_pixels_has_36_logits():
    network = Discriminator(features=2)
    assert network(np.zeros((2, 192, 192, 3), "float32")).shape == (2, 6, 6, 1)
    assert network(np.zeros((1, 50, 33, 3), "float32")).shape == (1, 2, 2, 1)


def test_follows_the_formula_in_float64():
    network = Discriminator(features=2)
    image = np.random.default_rng(0).uniform(0, 255, (1, 40, 33, 3)).astype("float32")
    weights = {v.path: v.numpy().astype("float64") for v in network.variables}

    def leaky(x):
        return np.where(x > 0, x, 0.2 * x)

    x = image[0].astype("float64")
    for index in range(10):
        kernel, bias = (weights[f"convolution{index + 1}/{part}"] for part in ("kernel", "bias"))
        stride = 1 + index % 2
        rows, columns = (-(-length // stride) for length in x.shape[:2])
        # TensorFlow's "same": what is missing is split, the larger half comes last.
        missing = [
            max((count - 1) * stride + 3 - length, 0)
            for count, length in zip((rows, columns), x.shape[:2], strict=True)
        ]
        padded = np.pad(x, [(m // 2, m - m // 2) for m in missing] + [(0, 0)])
        x = leaky(
            bias
            + sum(
                padded[i : i + rows * stride : stride, j : j + columns * stride : stride][
                    :rows, :columns
                ]
                @ kernel[i, j]
                for i in range(3)
                for j in range(3)
            )
        )
    x = leaky(x @ weights["hidden/kernel"][0, 0] + weights["hidden/bias"])
    expected = x @ weights["logits/kernel"][0, 0] + weights["logits/bias"]
    np.testing.assert_allclose(network(image)[0], expected, rtol=1e-3, atol=1e-3)


def test_ends_stay_in_float32_under_mixed_precision():
    kept = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network = Discriminator(features=2)
    finally:
        keras.config.set_dtype_policy(kept)
    types = [layer.compute_dtype for layer in (*network.convolutions, network.hidden)]
    assert types == ["float32"] + ["float16"] * 10
    assert network(np.zeros((1, 32, 32, 3), "float32")).dtype == "float32"


def test_bad_sizes_and_configuration():
    with pytest.raises(ValueError, match=r"at least 1. Received: 0"):
        Discriminator(0)
    network = Discriminator(3)
    assert Discriminator.from_config(network.get_config()).features == 3
