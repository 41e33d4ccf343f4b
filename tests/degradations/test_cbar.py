"""ImageNet-C-bar's layers: contract, places where they run, and the distribution of the draws."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import degradations
from degradations import cbar, random
from tests.degradations.test_cbar_noise import photo

IMAGENET_ONLY = (
    "caustic_refraction",
    "cocentric_sine_waves",
    "perlin_noise",
    "plasma_noise",
    "single_frequency_greyscale",
)
NAMES = sorted(
    {*degradations.GROUPS["imagenet_c_bar"], *degradations.GROUPS["cifar_c_bar"]},
)

# One of each kind: added patterns, random places, warps, sums of many parts.
QUICK = ("plasma_noise", "checkerboard_cutout", "ripple", "sparkles")
KINDS = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]


def run(layer, images, seed=5):
    return ops.convert_to_numpy(layer(images, seed=seed))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 1, 5, 3), (2, 24, 17, 1)])
def test_every_size_gives_8_bit_values(name, shape):
    images = np.random.default_rng(0).integers(0, 256, shape).astype("float32")
    degraded = run(degradations.parse(f"{name}@5"), images)
    assert degraded.shape == shape
    assert degraded.dtype == np.float32
    assert np.isfinite(degraded).all()
    assert degraded.min() >= 0
    assert degraded.max() <= 255
    np.testing.assert_array_equal(degraded, np.floor(degraded))


@pytest.mark.parametrize("name", KINDS)
def test_draws_depend_on_seed_and_image_but_not_on_the_batch(name):
    images = np.repeat(photo(24, 24)[:1], 3, axis=0)
    layer = degradations.parse(f"{name}@5")
    degraded = run(layer, images)
    np.testing.assert_array_equal(degraded, run(layer, images))
    np.testing.assert_allclose(degraded[:1], run(layer, images[:1]), atol=1)
    assert np.mean(degraded[:1] != run(layer, images[:1])) < 0.01
    if name == "circular_motion_blur":  # the one that draws nothing
        np.testing.assert_array_equal(degraded, run(layer, images, seed=6))
    else:
        assert (degraded != run(layer, images, seed=6)).any()
        assert any((degraded[0] != other).any() for other in degraded[1:])


@pytest.mark.parametrize("name", KINDS)
def test_same_pixels_in_a_data_set_of_unknown_sizes(name):
    images = photo(20, 28)
    layer = degradations.parse(f"{name}@1-5")
    eager = run(layer, images)
    signature = tf.TensorSpec([None, None, None, 3], tf.float32)
    dataset = tf.data.Dataset.from_generator(lambda: iter([images]), output_signature=signature)
    dataset = dataset.map(lambda batch: layer(batch, seed=5), num_parallel_calls=2)
    mapped = next(iter(dataset)).numpy()
    np.testing.assert_allclose(eager, mapped, atol=1)
    assert np.mean(eager != mapped) < 0.01


@pytest.mark.parametrize("name", KINDS)
def test_severity_and_config(name):
    layer = degradations.parse(f"{name}@2.5:p=0.5,quantize=round", size=32)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert copy.get_config() == layer.get_config()
    np.testing.assert_array_equal(run(layer, photo(9, 9)), run(copy, photo(9, 9)))

    images = np.repeat(photo(24, 24)[:1], 6, axis=0)
    distance = [
        np.abs(run(degradations.parse(f"{name}@{severity}"), images) - images).mean()
        for severity in (1, 5)
    ]
    assert distance[0] < distance[1]


def test_tables_of_levels():
    assert cbar.Sparkles.severities(224) == (1.0, 2.0, 3.0, 5.0, 6.0)
    assert cbar.Sparkles.severities(32) == (0.7, 3.5, 5.6, 6.3, 7.0)
    assert cbar.Sparkles.severities(64) == cbar.Sparkles.severities(224)
    for name in IMAGENET_ONLY:
        layer = degradations.NAMES[name].load()
        assert layer.cifar_levels is None
        assert layer.severities(32) == layer.imagenet_levels
    assert cbar.Ripple.severities(224) == cbar.Ripple.cifar_levels


@pytest.mark.parametrize("level", [-0.1, 10.5, float("nan")])
def test_levels_out_of_range_are_refused(level):
    with pytest.raises(ValueError, match="from 0 to 10"):
        cbar.Ripple(level=level)


def test_level_0_is_the_image_where_the_definition_says_so():
    images = photo(16, 16)
    for layer in (cbar.BrownishNoise, cbar.Ripple, cbar.PerlinNoise, cbar.Lines):
        np.testing.assert_allclose(run(layer(level=0), images), images, atol=1)


def draws_of(layer, count=400, size=20):
    images = ops.zeros((count, size, size, 3))
    drawn = layer.draw_parameters(images, random.make_seed(3))
    return {name: ops.convert_to_numpy(value) for name, value in drawn.items()}


def assert_uniform(values, low, high):
    """Compares range, mean and deviation with those of U(low, high), within five deviations."""
    values = np.ravel(values)
    assert low <= values.min()
    assert values.max() <= high
    spread = (high - low) / np.sqrt(12)
    assert abs(values.mean() - (low + high) / 2) < 5 * spread / np.sqrt(len(values))
    assert abs(values.std() / spread - 1) < 5 / np.sqrt(len(values))


def test_distributions_of_the_draws():
    draws = draws_of(cbar.PlasmaNoise(severity=1))
    assert_uniform(draws["time"], 0, 6 * np.pi)
    assert_uniform(draws["sharpness"], 0.5, 1)
    assert_uniform(draws["scale"], 0.075 * 20, 0.2 * 20)
    assert set(draws["iterations"]) == {4, 5, 6}

    draws = draws_of(cbar.SingleFrequencyGreyscale(severity=1))
    larger = np.maximum(np.abs(draws["frequency_x"]), np.abs(draws["frequency_y"]))
    smaller = np.minimum(np.abs(draws["frequency_x"]), np.abs(draws["frequency_y"]))
    assert_uniform(larger, 0, np.pi)
    assert_uniform(smaller / larger, 0, 1)
    assert 0.4 < np.mean(np.abs(draws["frequency_x"]) > np.abs(draws["frequency_y"])) < 0.6

    draws = draws_of(cbar.CocentricSineWaves(severity=1))
    assert_uniform(draws["centre"], 0, 20)
    assert_uniform(draws["petals"], 0, 10)
    assert_uniform(draws["amplitude"], 0, 2)
    assert_uniform(draws["ring_width"], 0, 2)

    draws = draws_of(cbar.Sparkles(severity=1))
    assert_uniform(draws["centres"], 0, 20)
    assert draws["rays"].min() >= 50
    assert draws["rays"].max() <= 199
    assert abs(draws["rays"].mean() - 124.5) < 5
    assert abs(draws["ray_normals"].std() - 1) < 0.01

    assert_uniform(draws_of(cbar.InverseSparkles(severity=1))["centre"], 5, 15)
    draws = draws_of(cbar.CheckerboardCutout(severity=1))
    assert_uniform(draws["angle"], 0, 2 * np.pi)
    assert_uniform(draws["cell"], 2, 5)
    draws = draws_of(cbar.CausticRefraction(severity=1))
    assert_uniform(draws["time"], 0.5, 2)
    assert_uniform(draws["size"], 15, 25)
    draws = draws_of(cbar.Ripple(severity=1))
    assert_uniform(draws["wavelengths"], 2, 6)
    assert_uniform(draws["phases"], 0, 2 * np.pi)
    assert_uniform(draws_of(cbar.Lines(severity=1))["angle_variation"], 0.1, 1)
    assert abs(draws_of(cbar.PinchAndTwirl(severity=1))["signs"].mean()) < 0.1
    orders = draws_of(cbar.TransverseChromaticAbberation(severity=1))["order"]
    assert len({tuple(order) for order in orders}) == 6


def test_brownish_noise_has_its_deviation_and_spectrum():
    grey = np.full((48, 32, 32, 3), 128, "float32")
    layer = cbar.BrownishNoise(level=2.0, quantize=None)
    noise = run(layer, grey) - 128
    assert np.std(noise, axis=(1, 2)).mean() == pytest.approx(12.8, rel=0.05)
    power = np.mean(np.abs(np.fft.fft2(noise, axes=(1, 2))) ** 2, axis=(0, 3))
    ratio = power[0, 1:9] / power[0, 2]
    frequency = np.arange(1, 9)
    np.testing.assert_allclose(ratio, (5 / (frequency**2 + 1)) ** 2, rtol=0.35)


def test_blue_noise_blackens_the_share_of_a_normal_distribution():
    white = np.full((16, 32, 32, 3), 255, "float32")
    # p(3) - 2.5 = -0.82 at level 5.6: 20.6 % of a standard normal distribution lie below.
    assert np.mean(run(cbar.BlueNoiseSample(level=5.6), white) == 0) == pytest.approx(
        0.206, abs=0.02
    )


def test_checkerboard_cuts_half_of_its_share():
    white = np.full((64, 32, 32, 3), 255, "float32")
    cut = run(cbar.CheckerboardCutout(level=6.0), white) == 128
    assert cut.mean() == pytest.approx(0.3, abs=0.04)


def test_lines_draws_more_with_the_level():
    white = np.full((8, 32, 32, 3), 255, "float32")
    touched = [np.mean(run(cbar.Lines(level=level), white) < 255) for level in (0.3, 0.7, 2.5)]
    assert touched[0] == 0  # less than one line at this size
    assert 0 < touched[1] < touched[2]


@pytest.mark.slow  # XLA compiles each layer
@pytest.mark.parametrize("name", NAMES)
def test_same_pixels_under_xla(name):
    images = photo(20, 28)
    layer = degradations.parse(f"{name}@1-5")
    compiled = tf.function(lambda batch, seed: layer(batch, seed=seed), jit_compile=True)
    found = compiled(tf.constant(images), tf.constant([0, 5])).numpy()
    expected = run(layer, images)
    np.testing.assert_allclose(found, expected, atol=1)
    assert np.mean(found != expected) < 0.01


@pytest.mark.slow  # JAX compiles every operation
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_parity_with_the_definitions_under_jax():
    folder = pathlib.Path(__file__).parent
    tests = [folder / f"test_{name}.py" for name in ("cbar_noise", "cbar_warp", "colour")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *map(str, tests)],
        cwd=folder.parents[1],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
