import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from eusr import network
from eusr.network import Generator


@pytest.mark.parametrize(("scale", "count"), [(2, 3_256_835), (4, 3_699_971), (8, 4_143_107)])
def test_published_parameter_counts(scale, count):
    assert Generator(scales=(scale,)).count_params() == count


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_output_has_scale_times_the_size(scale):
    generator = Generator((scale,), features=4, shared_blocks=1)
    output = generator(np.zeros((2, 5, 7, 3), "float32"), scale=scale)
    assert output.shape == (2, 5 * scale, 7 * scale, 3)


def test_follows_the_formula_in_float64():
    generator = Generator(scales=(2,), features=3, shared_blocks=1, residual_factor=1.0)
    image = np.random.default_rng(0).uniform(0, 255, (1, 6, 5, 3)).astype("float32")
    weights = {v.path: v.numpy().astype("float64") for v in generator.variables}

    def convolve(x, name):
        kernel, bias = weights[f"{name}/kernel"], weights[f"{name}/bias"]
        reach = kernel.shape[0] // 2
        padded = np.pad(x, ((reach, reach), (reach, reach), (0, 0)))
        height, width = x.shape[:2]
        return bias + sum(
            padded[i : i + height, j : j + width] @ kernel[i, j]
            for i in range(kernel.shape[0])
            for j in range(kernel.shape[1])
        )

    def block(x, name):
        return x + convolve(
            np.maximum(convolve(x, f"{name}_convolution1"), 0), f"{name}_convolution2"
        )

    def module(x, name):
        return x + convolve(block(x, f"{name}block1"), f"{name}convolution")

    mean = np.array(network.RGB_MEAN)
    x = convolve(image[0] - mean, "first_convolution")
    x = block(block(x, "before_x2_block1"), "before_x2_block2")
    x = module(x, "shared_")
    large = np.zeros((12, 10, 3))
    for position in range(4):
        x = module(x, f"upscaling_x2_stage1_module{position + 1}_")
        large[position // 2 :: 2, position % 2 :: 2] = x
    expected = convolve(large, "upscaling_x2_last_convolution") + mean
    np.testing.assert_allclose(generator(image, scale=2)[0], expected, rtol=1e-4, atol=1e-3)


def test_only_the_branch_of_the_scale_takes_part():
    generator = Generator(features=4, shared_blocks=1, residual_factor=1.0)
    image = np.random.default_rng(1).uniform(0, 255, (1, 6, 6, 3)).astype("float32")
    before = np.array(generator(image, scale=2))
    for variable in generator.variables:
        if "x4" in variable.path or "x8" in variable.path:
            variable.assign(variable + 1)
    np.testing.assert_array_equal(before, np.array(generator(image, scale=2)))
    assert np.abs(before - np.array(generator(image, scale=4))[:, ::2, ::2]).max() > 1


def test_residual_blocks_start_with_the_published_variance():
    generator = Generator(features=64, shared_blocks=2)
    # R = 2 blocks x 3 scales + 2 shared + (1 + 2 + 3) stages x 4 modules
    assert generator.count_residual_blocks() == 6 + 2 + 24
    kernels = [
        v.numpy() for v in generator.variables if "block" in v.path and v.path.endswith("kernel")
    ]
    for kernel in kernels:
        fan_in = np.prod(kernel.shape[:3])
        expected = np.sqrt(1e-4 / 32 / fan_in)
        assert abs(kernel.std() / expected - 1) < 0.03
        # A truncated normal of that deviation was cut at two deviations of the wider normal.
        assert np.abs(kernel).max() <= 2 * expected / 0.8796 * 1.001


@pytest.mark.parametrize("scale", [1, 2, 8])
def test_receptive_radius_bounds_what_an_output_depends_on(scale):
    keras.utils.set_random_seed(0)
    generator = Generator(scales=(scale,), features=8, shared_blocks=1, residual_factor=1.0)
    for variable in generator.variables:
        if "last_convolution/kernel" in variable.path:
            variable.assign(keras.random.normal(variable.shape))  # zeros at scale 1
    radius = generator.receptive_radius(scale)
    image = np.random.default_rng(2).uniform(0, 255, (1, 2 * radius + 3, 5, 3)).astype("float32")
    changed = image.copy()
    changed[0, 0] += 50
    difference = np.abs(np.array(generator(image, scale=scale) - generator(changed, scale=scale)))
    reached = np.flatnonzero(difference.max(axis=(0, 2, 3)))
    assert reached.max() < (radius + 1) * scale
    assert reached.max() >= (radius - 1) * scale


def test_ends_stay_in_float32_under_mixed_precision():
    kept = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        generator = Generator(scales=(2,), features=8, shared_blocks=2, residual_factor=0.1)
    finally:
        keras.config.set_dtype_policy(kept)
    image = np.random.default_rng(3).uniform(0, 255, (1, 16, 16, 3)).astype("float32")
    exact = Generator(scales=(2,), features=8, shared_blocks=2)
    exact.set_weights(generator.get_weights())
    output = np.array(generator(image, scale=2))
    assert output.dtype == np.float32
    expected = np.array(exact(image, scale=2))
    difference = np.abs(output - expected)
    assert 0 < difference.mean() < 0.02 * expected.std()  # 8 significant bits inside


@pytest.mark.parametrize(
    "arguments",
    [
        {"scales": (3,)},
        {"scales": ()},
        {"scales": (2, 2)},
        {"scales": (0, 2)},
        {"features": 0},
        {"features": 2**30},
        {"shared_blocks": 2**30},
        {"rgb_mean": (1, 2)},
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ValueError, match="Received"):
        Generator(**{"features": 2, "shared_blocks": 1} | arguments)


def test_unknown_scale_is_an_error():
    generator = Generator(scales=(2, 4), features=2, shared_blocks=1)
    with pytest.raises(ValueError, match=r"scales \[2, 4\]. Received: 8"):
        generator(np.zeros((1, 4, 4, 3), "float32"), scale=8)


def test_configuration_round_trip():
    generator = Generator(scales=(4, 2), features=3, shared_blocks=1, residual_factor=0.5)
    again = Generator.from_config(generator.get_config())
    again.set_weights(generator.get_weights())
    image = np.ones((1, 4, 4, 3), "float32")
    np.testing.assert_array_equal(generator(image, scale=4), again(image, scale=4))


def test_runs_on_jax():
    pytest.importorskip("jax", reason="JAX is an optional second backend")
    code = (
        "import numpy as np; from eusr.network import Generator; from eusr import losses;"
        "x = Generator(features=4, shared_blocks=1)(np.ones((1, 4, 4, 3), 'float32'), scale=8);"
        "assert x.shape == (1, 32, 32, 3); print(float(losses.reconstruction(x, x)));"
        "from eusr.discriminator import Discriminator; logits = Discriminator(2)(x);"
        "assert logits.shape == (1, 1, 1, 1); assert losses.discrimination(logits, logits) > 0;"
        "assert losses.adversarial(logits) > 0; scores = np.eye(10, dtype='float32');"
        "assert abs(losses.score(scores, scores) - 0.9) < 1e-6;"
        "assert losses.representation(x, x) == 0"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "0.0"
