import dataclasses
import textwrap
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from eusr.discriminator import Discriminator
from eusr.models.perceptual_eusr import PATHS, PerceptualEUSR, Weights
from eusr.network import Generator
from misc.export import frozen, tiling
from tests import commands
from tests.eusr.tiny_predictor import TinyPredictor

# All losses matter about equally to the tiny networks.
WEIGHTS = Weights(0.05, 1.0, 0.5, 30.0, 0.7, 20.0)


def create_generator(features=3):
    return Generator(PATHS, features, shared_blocks=1, residual_factor=0.3)


def create(weights=WEIGHTS, optimizer=lambda: keras.optimizers.SGD(1e-3), **kwargs):
    return PerceptualEUSR(
        create_generator(),
        optimizers={"generator": optimizer(), "discriminator": optimizer()},
        discriminator=Discriminator(2),
        predictors={"aesthetic": TinyPredictor(1), "subjective": TinyPredictor(2)},
        weights=weights,
        **kwargs,
    )


def create_batch(rows=2, size=8, dtype="float32"):
    random = np.random.default_rng(0)
    return {
        "low": tf.constant(random.uniform(0, 255, (rows, size, size, 3)), dtype),
        "high": tf.constant(random.uniform(0, 255, (rows, 4 * size, 4 * size, 3)), dtype),
    }


@pytest.fixture
def float64():
    kept = keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(kept)


@pytest.fixture
def low():
    return create_batch()["low"]


def passes(generator, low):
    """The paths by their definition."""
    twice = generator(generator(low, scale=2), scale=2)
    return [twice, generator(low, scale=4), generator(low, scale=8)[:, ::2, ::2]]


def reference_losses(method, batch):
    """Returns both losses, each pass by itself."""
    sums = {"generator": 0.0, "discriminator": 0.0}
    truth = {name: p.predict(batch["high"]) for name, p in method.predictors.items()}
    outputs = passes(method.generator, batch["low"])
    for output in outputs:
        logits = method.discriminator(output)
        total = method.weights.reconstruction * tf.reduce_mean(abs(output - batch["high"]))
        total += method.weights.adversarial * tf.reduce_mean(tf.math.softplus(-logits))
        for name, predictor in method.predictors.items():
            judged = predictor.predict(output)
            bins = tf.range(1, 11, dtype=output.dtype)
            mean, aim = (tf.linalg.matvec(p["scores"], bins) for p in (judged, truth[name]))
            distance = tf.maximum(tf.cast(0, aim.dtype), (10 - mean) - 0.8 * (10 - aim))
            total += getattr(method.weights, f"{name}_score") * tf.reduce_mean(distance)
            difference = judged["features"] - truth[name]["features"]
            weight = getattr(method.weights, f"{name}_representation")
            total += weight * tf.reduce_mean(difference**2)
        sums["generator"] += total / len(outputs)
        sums["discriminator"] += tf.reduce_mean(tf.math.softplus(logits)) / len(outputs)
    truth_logits = method.discriminator(batch["high"])
    sums["discriminator"] += tf.reduce_mean(tf.math.softplus(-truth_logits))
    return sums


def test_paths_give_four_times_the_size_as_tensorflow_1_did(low):
    method = create()
    expected = passes(method.generator, low)
    # TensorFlow 1's own interpolation, as the authors used it.
    large = method.generator(low, scale=8)
    np.testing.assert_array_equal(
        expected[2], tf.compat.v1.image.resize_bicubic(large, [32, 32], half_pixel_centers=False)
    )
    for path, images in zip(PATHS, expected, strict=True):
        actual = method.predict(low, path)["output"]
        assert actual.shape == (2, 32, 32, 3)
        np.testing.assert_array_equal(actual, images)
    assert np.abs(expected[0] - expected[1]).max() > 1
    with pytest.raises(ValueError, match="Received: 16"):
        method.predict(low, 16)


@pytest.mark.slow
def test_steps_equal_two_independent_tapes_in_float64(float64):
    def adam():
        return keras.optimizers.Adam(1e-3, epsilon=1e-8)

    method, reference = create(optimizer=adam), create(optimizer=adam)
    for name, network in method.networks.items():
        reference.networks[name].set_weights(network.get_weights())
    batch = create_batch(dtype="float64")
    for _ in range(2):
        scalars = method.train_step(batch, None)
        expected, gradients = {}, {}
        for name, network in reference.networks.items():
            with tf.GradientTape() as tape:
                expected[name] = reference_losses(reference, batch)[name]
            variables = [v.value for v in network.trainable_variables]
            gradients[name] = tape.gradient(expected[name], variables)
        for name, network in reference.networks.items():
            reference.optimizers[name].apply(gradients[name], network.trainable_variables)
        assert float(scalars["loss"]) == pytest.approx(float(expected["generator"]), rel=1e-9)
        assert float(scalars["loss_discriminator"]) == pytest.approx(
            float(expected["discriminator"]), rel=1e-9
        )
    for name, network in method.networks.items():
        for ours, theirs in zip(network.variables, reference.networks[name].variables, strict=True):
            # Keras' own factors of Adam are in float32.
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7, err_msg=ours.path)


@pytest.mark.slow  # the two tapes see the same, up to what both have in common
@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Weights)])
def test_the_step_of_one_weight_equals_a_finite_difference(float64, name):
    zeros = dict.fromkeys((field.name for field in dataclasses.fields(Weights)), 0.0)
    method = create(Weights(**zeros | {name: 1.0}), lambda: keras.optimizers.SGD(1.0))
    batch = create_batch(dtype="float64")
    variable = next(v for v in method.generator.variables if v.path == "shared_convolution/kernel")
    start = variable.numpy()
    direction = np.random.default_rng(1).normal(size=start.shape)
    step = 1e-7
    values = []
    for sign in (1, -1):
        variable.assign(start + sign * step * direction)
        values.append(float(reference_losses(method, batch)["generator"]))
    variable.assign(start)
    expected = (values[0] - values[1]) / (2 * step)
    method.train_step(batch, None)
    actual = np.sum((start - variable.numpy()) * direction)
    assert abs(expected) > 1e-6
    assert actual == pytest.approx(expected, rel=1e-4)


def test_each_loss_moves_its_own_network_alone(low):
    for moved, other in (("generator", "discriminator"), ("discriminator", "generator")):
        method = create()
        method.optimizers[other] = keras.optimizers.SGD(0.0)
        method.optimizers[other].build(method.networks[other].trainable_variables)
        predictors = [n for p in method.predictors.values() for n in p.networks.values()]
        before = {
            name: [v.numpy() for v in network.variables]
            for name, network in method.networks.items()
        }
        judges = [v.numpy() for network in predictors for v in network.variables]
        method.train_step(create_batch(), None)
        for name, values in before.items():
            after = [v.numpy() for v in method.networks[name].variables]
            same = [np.array_equal(a, b) for a, b in zip(values, after, strict=True)]
            assert all(same) if name == other else not any(same), (moved, name)
        for a, b in zip(judges, [v for n in predictors for v in n.variables], strict=True):
            np.testing.assert_array_equal(a, b)


def executed_operations(graph):
    """Returns the operations that a call of a graph function runs: those its results need."""
    found, todo = set(), [t.op for t in graph.outputs] + list(graph.control_outputs)
    while todo:
        operation = todo.pop()
        if operation not in found:
            found.add(operation)
            todo += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    return found


@pytest.mark.slow
def test_the_step_keeps_no_gradient_for_predictor_weights_and_judges_once():
    method = create()
    calls = []
    for name, predictor in method.predictors.items():
        predict = predictor.predict
        predictor.predict = lambda x, name=name, predict=predict: (
            calls.append((name, len(x))) or predict(x)
        )
    graph = tf.function(method.train_step).get_concrete_function(create_batch(), None).graph
    assert sorted(calls) == sorted((name, n) for name in method.predictors for n in (2, 6))
    shapes = [
        v.shape
        for p in method.predictors.values()
        for n in p.networks.values()
        for v in n.variables
    ]
    weight_gradients = [
        tuple(op.outputs[0].shape)
        for op in executed_operations(graph)
        if op.type == "Conv2DBackpropFilter"
    ]
    kernels = {tuple(shape) for shape in shapes if len(shape) == 4}
    assert weight_gradients
    assert not kernels & set(weight_gradients)
    # The first convolution runs once per pass; nothing is computed again for the second network.
    names = [op.name for op in executed_operations(graph) if op.type == "Conv2D"]
    assert sum("first_convolution" in name for name in names) == 4
    assert sum("logits" in name for name in names) == 2


def test_without_multipass_only_the_x4_path_is_trained(low):
    method = create(multipass=False)
    before = {v.path: v.numpy() for v in method.generator.variables}
    scalars = method.train_step(create_batch(), None)
    output = method.generator(low, scale=4)
    assert set(method.pictures(create_batch())) == {"input", "output_x4", "truth"}
    for variable in method.generator.variables:
        still = "x2" in variable.path or "x8" in variable.path
        assert np.array_equal(before[variable.path], variable) == still, variable.path
    assert scalars.keys() >= {"loss_adversarial", "loss_subjective_score"}
    assert output.shape == (2, 32, 32, 3)


def test_pictures_are_those_of_all_paths(low):
    method = create()
    pictures = method.pictures(create_batch())
    assert list(pictures) == ["input", "output_x2", "output_x4", "output_x8", "truth"]
    for path in PATHS:
        expected = method.predict(low, path)["output"]
        np.testing.assert_allclose(pictures[f"output_x{path}"], expected, atol=1e-3)


@pytest.mark.slow
def test_losses_without_weight_are_left_out():
    method = PerceptualEUSR(
        create_generator(),
        optimizers={"generator": keras.optimizers.Adam()},
        predictors={"subjective": TinyPredictor()},
        weights=Weights(1.0, 0, 0, 0, 0, 2.0),
    )
    scalars = method.train_step(create_batch(), None)
    assert set(scalars) == {"loss", "loss_reconstruction", "loss_subjective_representation"}
    expected = scalars["loss_reconstruction"] + 2 * scalars["loss_subjective_representation"]
    assert float(scalars["loss"]) == pytest.approx(float(expected))


@pytest.mark.slow  # traces both networks once more
def test_both_optimizers_scale_their_loss_in_half_precision():
    kept = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        method = create(gradient_clip_norm=100.0, average_decay=0.5)
    finally:
        keras.config.set_dtype_policy(kept)
    scales = {}
    for name, optimizer in method.optimizers.items():
        assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        scales[name] = 256.0 if name == "generator" else 64.0
        optimizer.dynamic_scale.assign(scales[name])
    batch = create_batch()
    values = [float(method.train_step(batch, None)["loss"]) for _ in range(2)]
    assert np.isfinite(values).all()
    for name in method.optimizers:
        assert int(method.scaled_optimizer(name).iterations.numpy()) == 2, "a step was skipped"
    weights = [v.numpy() for network in method.networks.values() for v in network.variables]
    method.train_step(batch | {"low": batch["low"] * np.float32(np.inf)}, None)
    for name, optimizer in method.optimizers.items():
        assert float(optimizer.dynamic_scale.numpy()) == scales[name] / 2
    after = [v for network in method.networks.values() for v in network.variables]
    for before, variable in zip(weights, after, strict=True):
        np.testing.assert_array_equal(before, variable)


@pytest.mark.parametrize("path", PATHS)
def test_radius_bounds_what_an_output_depends_on(path):
    method = create()
    radius = method.receptive_radius(path)
    image = np.random.default_rng(2).uniform(0, 255, (1, 2 * radius + 3, 6, 3)).astype("float32")
    changed = image.copy()
    changed[0, 0] += 50
    outputs = [method.predict(x, path)["output"] for x in (image, changed)]
    reached = np.flatnonzero(np.abs(outputs[0] - outputs[1]).max(axis=(0, 2, 3)) > 0)
    assert reached.max() < (radius + 1) * 4


@pytest.mark.parametrize("path", PATHS)
def test_tiles_equal_the_whole_image(path):
    method = create()
    radius = method.receptive_radius(path)
    image = np.random.default_rng(3).uniform(0, 255, (2 * radius + 25, 19, 3)).astype("float32")

    def upscale(images):
        return method.predict(images, path)["output"]

    whole = tiling.apply_tiled(upscale, image, 0, radius, 4, np.float32)
    tiled = tiling.apply_tiled(upscale, image, 2 * radius + 9, radius, 4, np.float32)
    np.testing.assert_allclose(tiled, whole, atol=2e-3)


def test_every_path_is_evaluated_on_x4_images():
    method = create(paths=(2, 8))
    random = np.random.default_rng(4)
    items = [
        {
            "low": random.uniform(0, 255, (1, 8, 9, 3)).astype("float32"),
            "high": random.integers(0, 256, (1, 32, 36, 3), "uint8"),
            "name": f"image{index}",
            "scale": 4,
        }
        for index in range(2)
    ]
    rows, pictures = [], {}
    report = types.SimpleNamespace(add_row=rows.append, add_picture=pictures.__setitem__)
    means = method.evaluate(items, report)
    assert [(row["name"], row["scale"]) for row in rows] == [
        ("image0", 2),
        ("image0", 8),
        ("image1", 2),
        ("image1", 8),
    ]
    assert set(pictures) == {f"x{path}/image{index}" for path in (2, 8) for index in (0, 1)}
    assert all(picture.shape == (32, 36, 3) for picture in pictures.values())
    assert means["x8/psnr_y"] == pytest.approx(np.mean([rows[1]["psnr_y"], rows[3]["psnr_y"]]))


@pytest.mark.slow  # traces both networks once more
def test_frozen_graph_picks_the_path_by_scale(tmp_path, low):
    method = create()
    (result,) = frozen.freeze(method, tmp_path / "model", ["pb"])
    assert result.error is None
    graph = frozen.load(tmp_path / "model.pb")
    assert graph.scales == PATHS
    for path in PATHS:
        check_frozen(method, graph, path, low)


@pytest.mark.slow  # three conversions
def test_onnx_files_are_of_one_path_each(tmp_path, low):
    method = create()
    results = list(frozen.freeze(method, tmp_path / "model", ["onnx"]))
    assert [result.error for result in results] == [None] * 3
    for path in PATHS:
        check_frozen(method, frozen.load(tmp_path / f"model_x{path}.onnx"), path, low)


def check_frozen(method, model, path, low):
    expected = method.predict(low, path)["output"]
    np.testing.assert_allclose(model.predict(low, path)["output"], expected, atol=1e-2)
    assert model.factor(path) == 4
    assert model.receptive_radius(path) == method.receptive_radius(path)


# Two replicas on two logical CPUs and one device take the same steps.
REPLICAS = """
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from misc.training import distribution
from tests.eusr.test_perceptual_eusr import create, create_batch

dataset = tf.data.Dataset.from_tensor_slices(create_batch(12)).batch(4, True)
results, weights = [], {}
for strategy in (distribution.create_strategy("none"),
                 distribution.create_strategy("mirrored", ["CPU:0", "CPU:1"])):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        method = create(average_decay=0.5, gradient_clip_norm=5.0)
    for name, network in method.networks.items():
        network.set_weights(weights.setdefault(name, network.get_weights()))

    @tf.function
    def step(batch):
        scalars = strategy.run(method.train_step, (batch, None))
        method.update_averages()
        return [strategy.reduce(tf.distribute.ReduceOp.MEAN, scalars[name], axis=None)
                for name in sorted(scalars)]

    batches = distribution.distribute(strategy, lambda i, n: dataset)
    scalars = [[float(value) for value in step(batch)] for batch in batches]
    variables = [v for n in method.networks.values() for v in n.variables]
    results.append((scalars, np.concatenate([v.numpy().ravel() for v in variables])))
    print(strategy.num_replicas_in_sync, scalars)
assert len(results[1][0]) == 3
np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-4)
np.testing.assert_allclose(results[0][1], results[1][1], atol=1e-5)
"""


@pytest.mark.slow
def test_two_replicas_do_what_one_does():
    output = commands.run("-c", textwrap.dedent(REPLICAS))
    assert "2 [[" in output
