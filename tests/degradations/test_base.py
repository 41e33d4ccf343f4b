import json
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import degradations
from degradations import base, random
from degradations.noise import GaussianNoise, Noise, Saltpepper


def batch(shape=(3, 9, 11, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype("float32")


def run(layer, images, seed=1):
    return np.asarray(layer(images, seed=seed))


def test_same_seed_same_pixels_and_other_seed_other_pixels():
    layer = Noise((5, 50))
    np.testing.assert_array_equal(run(layer, batch(), 7), run(layer, batch(), 7))
    assert (run(layer, batch(), 7) != run(layer, batch(), 8)).any()
    pair = tf.constant([3, 4])
    np.testing.assert_array_equal(run(layer, batch(), pair), run(layer, batch(), [3, 4]))


@pytest.mark.parametrize("kind", ["int8", "int32", "int64", "uint8", "uint32", "uint64"])
def test_scalar_tensors_are_seeds_like_the_integers_they_hold(kind):
    limits = np.iinfo(kind)
    traced = tf.function(random.make_seed)
    for value in (3, limits.min, limits.max, limits.max // 3):
        expected = np.asarray(random.make_seed(value))
        scalar = tf.constant(value, kind)
        for seed in (random.make_seed(scalar), traced(scalar), random.make_seed(scalar.numpy())):
            np.testing.assert_array_equal(seed, expected)
    np.testing.assert_array_equal(
        run(Noise(10), batch(), tf.constant(3)), run(Noise(10), batch(), 3)
    )


def test_an_image_does_not_depend_on_the_batch_size():
    images = batch((5, 7, 6, 3))
    for layer in (Noise((0, 50)), Noise(20, p=0.5), degradations.parse("noise:9/saltpepper:.2")):
        whole = run(layer, images)
        for size in (1, 2, 4):
            np.testing.assert_array_equal(run(layer, images[:size]), whole[:size])


def test_images_of_one_batch_draw_their_own():
    result = run(Noise(20), np.full((2, 8, 8, 3), 128, "float32"))
    assert (result[0] != result[1]).any()
    levels = np.asarray(Noise((0, 50)).draw(100, 3))
    assert len(np.unique(levels)) == 100
    assert levels.min() < 5
    assert levels.max() > 45


@pytest.mark.slow
def test_dataset_map_equals_compiled_step_equals_eager():
    layer = degradations.parse("saltpepper:.1|noise:9/noise:0-50,p=0.7")
    images = batch((4, 5, 6, 3))
    eager = run(layer, images, [1, 2])
    step = tf.function(lambda x, s: layer(x, seed=s))(tf.constant(images), tf.constant([1, 2]))
    np.testing.assert_array_equal(step, eager)
    compiled = tf.function(lambda x, s: layer(x, seed=s), jit_compile=True)
    # XLA's logarithm differs in the last bit, which may move a value over a whole number.
    assert np.abs(compiled(tf.constant(images), tf.constant([1, 2])) - eager).max() <= 1
    seeds = tf.data.Dataset.range(6).map(lambda i: tf.stack([1, tf.cast(i, tf.int32)]))
    mapped = seeds.map(lambda s: layer(tf.constant(images), seed=s), num_parallel_calls=2)
    for i, result in enumerate(mapped):
        np.testing.assert_array_equal(result, run(layer, images, [1, i]))


def test_uniform_bits_are_equal_under_xla():
    def draw(seed):
        return random.uniform([3, 1001], seed)

    eager = draw(random.make_seed(5))
    np.testing.assert_array_equal(tf.function(draw, jit_compile=True)(random.make_seed(5)), eager)
    assert np.min(eager) >= 0
    assert np.max(eager) < 1


def test_normal_draws_are_standard_normal():
    from scipy import stats

    draws = np.asarray(random.normal([3, 20001], random.make_seed(5))).ravel()
    assert stats.kstest(draws, "norm").pvalue > 0.001
    assert abs(stats.kurtosis(draws)) < 0.05
    halves = draws.reshape(3, -1)[:, :20000].reshape(3, 2, -1)
    assert abs(np.corrcoef(halves[:, 0].ravel(), halves[:, 1].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 1, 7, 3), (1, 5, 3, 1)])
def test_odd_sizes_and_grey(shape):
    result = run(Noise(10), batch(shape))
    assert result.shape == shape
    assert result.dtype == np.float32
    assert (result == np.floor(result)).all()


def test_unknown_sizes_in_a_graph():
    layer = Noise(10)
    spec = tf.TensorSpec([None, None, None, 3])
    step = tf.function(lambda x: layer(x, seed=3), input_signature=[spec])
    np.testing.assert_array_equal(step(batch()), run(layer, batch(), 3))


def test_quantize():
    images = np.array([-1.0, 0.4, 0.5, 1.9999, 254.7, 300.0], "float32")
    np.testing.assert_array_equal(base.to_8_bits(images, "truncate"), [0, 0, 0, 2, 254, 255])
    np.testing.assert_array_equal(base.to_8_bits(images, "round"), [0, 0, 1, 2, 255, 255])
    np.testing.assert_array_equal(base.to_8_bits(images, None), np.clip(images, 0, 255))
    assert (run(Noise(10, quantize=None), batch()) % 1 != 0).any()


def test_probability_is_per_image():
    images = np.full((400, 2, 2, 3), 100, "float32")
    changed = (run(Noise(50, p=0.3), images) != images).any(axis=(1, 2, 3))
    assert 0.2 < changed.mean() < 0.4
    np.testing.assert_array_equal(run(Noise(50, p=0), images), images)


def test_severity_interpolates_and_zero_is_clean():
    assert np.asarray(GaussianNoise(severity=2).draw(1, 0))[0] == np.float32(0.12)
    np.testing.assert_allclose(GaussianNoise(severity=2.5).draw(1, 0), [0.15], rtol=1e-6)
    assert np.asarray(GaussianNoise(severity=2, size=32).draw(1, 0))[0] == np.float32(0.06)
    np.testing.assert_array_equal(run(GaussianNoise(severity=0), batch()), batch())
    layer = GaussianNoise(severity=(0, 5), step=1)
    images = np.full((60, 4, 4, 3), 100, "float32")
    clean = (run(layer, images) == images).all(axis=(1, 2, 3))
    assert 1 <= clean.sum() <= 25
    assert layer.largest("deviation") == pytest.approx(0.38)
    assert layer.smallest("deviation") == pytest.approx(0.08)


def test_steps():
    levels = np.asarray(Noise((0, 5), step=0.5).draw(500, 2))
    np.testing.assert_allclose(np.unique(levels), np.arange(0, 5.5, 0.5))


@pytest.mark.parametrize(
    "text",
    [
        "noise:0-50,p=0.5,quantize=round",
        "saltpepper:.1,authors_variant=true",
        "gaussian_noise@1-5",
        "gaussian_noise@2.5:size=32",
        "noise:5|gaussian_noise@2/saltpepper:.1",
    ],
)
def test_config_round_trip_through_json(text):
    layer = degradations.parse(text)
    config = json.loads(json.dumps(layer.get_config()))
    again = type(layer).from_config(config)
    assert again.get_config() == layer.get_config()
    np.testing.assert_array_equal(run(layer, batch()), run(again, batch()))
    other = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    np.testing.assert_array_equal(run(layer, batch()), run(other, batch()))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (batch().astype("uint8"), "float32"),
        (batch()[0], r"\[B, H, W, 3\]"),
        (batch((1, 4, 4, 2)), r"\[B, H, W, 3\]"),
        (batch() * np.nan, "NaN"),
        (batch() + 300, "0-255"),
        (batch() - 300, "0-255"),
        (np.zeros((1, 0, 3, 3), "float32"), "1x1"),
    ],
)
def test_bad_images(images, message):
    with pytest.raises(ValueError, match=message):
        Noise(1)(images, seed=1)


def test_images_in_0_to_1_are_noticed_once():
    layer = Noise(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(np.zeros((1, 4, 4, 3), "float32"), seed=1)
        layer(batch(), seed=1)
        tf.function(layer)(tf.constant(batch() / 255))
    with pytest.warns(UserWarning, match="Noise takes images with values 0-255, .* in 0-1: multi"):
        layer(batch() // 255, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(batch() / 255, seed=1)


def test_nan_in_a_graph_counts_as_zero():
    images = tf.constant([[[[np.nan, 300.0, -5.0]]]])
    result = tf.function(lambda x: Noise(0)(x, seed=1))(images)
    np.testing.assert_array_equal(result, [[[[0, 255, 0]]]])


@pytest.mark.parametrize("seed", [1.5, "a", True, [1, 2, 3], [[1]], np.array([0.5, 1.0])])
def test_bad_seeds(seed):
    with pytest.raises(ValueError, match="seed must be"):
        Noise(1)(batch(), seed=seed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either a level"),
        ({"level": 1, "severity": 1}, "either a level"),
        ({"level": -1}, "from 0"),
        ({"level": (3, 1)}, "low <= high"),
        ({"level": "x"}, "must be a number"),
        ({"level": float("nan")}, "must be a number"),
        ({"severity": 6}, "from 0 to 5"),
        ({"severity": 0.5}, "from 1 to 5"),
        ({"severity": (0, 5)}, "step=1"),
        ({"level": 0.1, "p": 2}, "p must be"),
        ({"level": 0.1, "quantize": "floor"}, "quantize must be"),
        ({"level": 0.1, "size": 100}, "size must be"),
        ({"level": {"sigma": 1}}, "exactly the parameters"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianNoise(**arguments)
    with pytest.raises(ValueError, match="no severities"):
        Saltpepper(severity=1)
