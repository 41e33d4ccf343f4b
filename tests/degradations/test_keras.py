"""Degradations where Keras users put layers, with seeds of their own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import degradations

SPECS = ("noise:10", "noise:5|saltpepper:.1", "noise:9/shot_noise@2")


def batch(count=4, side=12):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3)).astype("float32")


@pytest.mark.parametrize("spec", SPECS)
def test_models_pipelines_and_datasets_draw_anew_in_every_call(spec, tmp_path):
    layer = degradations.parse(spec)
    inputs = keras.Input((None, None, 3))
    calls = {
        "layer": layer,
        "Sequential": keras.Sequential([layer]),
        "functional": keras.Model(inputs, layer(inputs)),
        "Pipeline": keras.layers.Pipeline([layer]),
        "predict": keras.Sequential([layer]).predict,
    }
    for name, call in calls.items():
        first, second = np.asarray(call(batch())), np.asarray(call(batch()))
        assert first.shape == batch().shape, name
        assert (first != second).any(axis=(1, 2, 3)).all(), name
    dataset = tf.data.Dataset.from_tensor_slices(batch()).batch(2).map(layer, 2)
    passes = [np.concatenate(list(dataset)) for _ in range(2)]
    assert (passes[0] != passes[1]).any(axis=(1, 2, 3)).all()


def test_layers_have_seeds_of_their_own_which_set_random_seed_fixes():
    results = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        layers = [degradations.parse("noise:10") for _ in range(2)]
        results.append([np.asarray(layer(batch())) for layer in layers])
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0][0] != results[0][1]).any(axis=(1, 2, 3)).all()


def test_a_seed_leaves_the_layers_own_seeds_alone():
    layer = degradations.parse("noise:10")
    before = np.asarray(layer.variables[0])
    step = tf.function(lambda x, seed: layer(x, seed=seed))
    for seed in (tf.constant([1, 2]), tf.constant([3, 4])):
        np.testing.assert_array_equal(step(batch(), seed), layer(batch(), seed=seed))
    np.testing.assert_array_equal(before, np.asarray(layer.variables[0]))
    inputs = keras.Input((12, 12, 3))
    fixed = keras.Model(inputs, layer(inputs, seed=5))
    np.testing.assert_array_equal(fixed(batch()), layer(batch(), seed=5))
    again = keras.Model.from_config(fixed.get_config())
    np.testing.assert_array_equal(again(batch()), layer(batch(), seed=5))


@pytest.mark.parametrize("spec", [*SPECS, "blur:2|jpeg:30"])
def test_models_with_degradations_are_shown_and_saved(spec, tmp_path, capsys):
    degradation, convolution = degradations.parse(spec), keras.layers.Conv2D(2, 3)
    model = keras.Sequential([keras.Input((12, 12, 3)), degradation, convolution])
    model.summary()
    assert "Non-trainable params: 0" in capsys.readouterr().out
    assert len(model.weights) == len(convolution.weights)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].get_config() == degradation.get_config()
    expected = convolution(degradation(batch(), seed=3))
    np.testing.assert_array_equal(loaded.layers[1](loaded.layers[0](batch(), seed=3)), expected)
    assert loaded(batch()).shape == (4, 10, 10, 2)
    checkpoint = tf.train.Checkpoint(model=model)
    path = checkpoint.save(tmp_path / "checkpoint")
    convolution.kernel.assign(0 * convolution.kernel)
    checkpoint.restore(path).assert_consumed()
    np.testing.assert_array_equal(convolution(degradation(batch(), seed=3)), expected)


def test_training_degrades_every_batch_anew():
    seen = []

    class Spy(keras.layers.Layer):
        def call(self, images):
            tf.py_function(lambda x: seen.append(x.numpy()), [images], [])
            return images

    model = keras.Sequential(
        [degradations.parse("noise:9/saltpepper:.2"), Spy(), keras.layers.Flatten()]
    )
    model.add(keras.layers.Dense(1))
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(batch(), np.zeros((4, 1)), epochs=2, batch_size=4, verbose=0, shuffle=False)
    assert (seen[-1] != seen[-2]).any(axis=(1, 2, 3)).all()


def test_layers_made_while_a_function_is_traced_need_a_seed():
    make = tf.function(lambda x, seed: degradations.parse("noise:10")(x, seed=seed))
    expected = degradations.parse("noise:10")(batch(), seed=[1, 2])
    np.testing.assert_array_equal(make(batch(), tf.constant([1, 2])), expected)
    with pytest.raises(ValueError, match="made inside a traced function"):
        tf.function(lambda x: degradations.parse("noise:10")(x))(batch())


def test_bad_images_are_refused_when_a_model_is_built():
    with pytest.raises(ValueError, match=r"\[B, H, W, 3\]"):
        degradations.parse("noise:10")(keras.Input((12, 12, 4)))
    with pytest.raises(ValueError, match="float32"):
        degradations.parse("noise:10")(keras.Input((12, 12, 3), dtype="uint8"))
