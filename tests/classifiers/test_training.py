"""Training of classifiers over several steps: resumed, cached, and from each other's weights."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from classifiers.models import classifier
from classifiers.models.classifier import Classifier
from classifiers.models.fusion_distill import FusionDistill
from misc.images import files
from misc.training import optimizers, run_folder, seeds
from tests import flag_values
from tests.classifiers.test_models import (
    BATCH,
    CLASSES,
    IMAGES,
    LABELS,
    SEED,
    copies,
    labelled_data,
    tiny_network,
)

INDEXED = BATCH | {"index": tf.range(6)}


def distilling(seed=0, cache_path=None, **kwargs):
    """A student and two teachers whose weights, and those alone, depend on the seed."""
    keras.utils.set_random_seed(seed)
    made = copies(["noise:40", "saltpepper:0.2"], cutout=3, cutout_on="degraded")
    rate = keras.optimizers.schedules.CosineDecay(1e-2, 12)
    method = FusionDistill(
        tiny_network(),
        copies=made,
        optimizers={"classifier": optimizers.RAdam(rate, decay=1e-3)},
        teachers=[tiny_network(), tiny_network(2.0)],
        cache_path=cache_path,
        average_decay=0.5,
        gradient_clip_norm=1.0,
        **kwargs,
    )
    method.prepare(labelled_data())
    return method


def train(method, first, last):
    @tf.function
    def run(batch, seed):
        figures = method.train_step(batch, seed)
        method.update_averages()
        return figures

    return [
        float(run(INDEXED, tf.random.fold_in(SEED, step))["loss"])
        for step in range(first + 1, last + 1)
    ]


@pytest.mark.slow  # test_entry_points kills and resumes another run
def test_a_resumed_distillation_is_exact(tmp_path):
    whole = distilling()
    losses = train(whole, 0, 10)
    first = distilling()
    # Steps of RAdam are plain up to the fifth and adaptive from the sixth on.
    assert train(first, 0, 5) == losses[:5]
    path = run_folder.RunFolder(tmp_path, first, 1).save(5)
    resumed = distilling()
    for variable in resumed.network.variables:
        variable.assign(variable + 1.0)
    resumed.restore(path)
    assert train(resumed, int(resumed.step.numpy()), 10) == losses[5:]
    for group, variables in whole.state().items():
        for name, variable in variables.items():
            if group != "progress":
                other = resumed.state()[group][name]
                np.testing.assert_array_equal(variable.numpy(), other.numpy(), f"{group}/{name}")


def test_cached_teachers_train_as_those_that_are_asked_every_time(tmp_path):
    cached, asked = distilling(cache_path=tmp_path), distilling()
    assert [outputs.values.shape[0] for outputs in cached._outputs] == [6, 6]
    np.testing.assert_allclose(train(cached, 0, 4), train(asked, 0, 4), rtol=1e-5)


@pytest.mark.slow
def test_half_precision_trains_and_keeps_its_weights_in_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        method = distilling(cache_path=tmp_path)
        losses = train(method, 0, 4)
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(losses, train(distilling(), 0, 4), rtol=0.02)
    assert {variable.dtype for variable in method.network.variables} == {"float32"}


@pytest.mark.parametrize("shared", [True, False])
def test_every_teacher_sees_the_block_of_its_degradation(shared):
    made = copies(["noise:0", "saltpepper:0.5"], images="shared" if shared else "independent")
    batch = made(IMAGES, LABELS, SEED)
    count = 6 if shared else 3
    assert batch["image"].shape[0] == 2 * count
    np.testing.assert_array_equal(batch["label"], np.tile(LABELS, 2) if shared else LABELS)
    np.testing.assert_array_equal(batch["image"], np.tile(IMAGES, [2, 1, 1, 1])[: 2 * count])
    np.testing.assert_array_equal(batch["degraded"][:count], batch["image"][:count])
    changed = np.mean(batch["degraded"][count:] != batch["image"][count:])
    assert changed == pytest.approx(0.5, abs=0.15)
    method = distilling()
    method.teacher_input = "degraded"
    for number, taught in enumerate(method._teach(batch)):
        block = batch["degraded"][number * count : (number + 1) * count]
        alone = method.teachers[number](block, training=False)["stage1"]
        np.testing.assert_allclose(taught, alone, atol=1e-6)


def test_networks_that_cannot_be_compared_are_named():
    with pytest.raises(ValueError, match="--fusion_distill_stage=stage7 is no stage of"):
        FusionDistill(tiny_network(), stage="stage7")
    other = tiny_network()
    other.stages["stage1"] = other.stages["pooled"]
    with pytest.raises(ValueError, match=r"has the shape \(4,\), that of the student"):
        FusionDistill(tiny_network(), teachers=[other])


def deeper_network():
    """Two layers of batch normalisation, the second of which sees the first one's results."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    for name in ("first", "second"):
        x = keras.layers.Conv2D(4, 3, use_bias=False, name=f"{name}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"{name}_norm")(x)
        x = keras.layers.ReLU()(x)
    logits = keras.layers.Dense(CLASSES)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, logits)


@pytest.mark.slow
def test_statistics_are_reestimated_on_degraded_copies_by_the_formula():
    made = copies(["noise:40", "saltpepper:0.2"], flip=True, padding=2)
    network = deeper_network()
    random = np.random.default_rng(1)
    for name in ("first_norm", "second_norm"):
        for variable in network.get_layer(name).trainable_variables:
            variable.assign(random.uniform(0.5, 2.0, variable.shape))
    parts = [{n: v[rows] for n, v in BATCH.items()} for rows in (slice(0, 2), slice(2, 6))]
    found = {"first": [], "second": []}
    for step, part in enumerate(parts, 1):
        x = made(part["image"], part["label"], seeds.of_step(0, step))["degraded"]
        x = np.asarray(x, np.float64) / 255
        for name, statistics in found.items():
            convolution = network.get_layer(f"{name}_conv")
            x = np.asarray(convolution(x.astype(np.float32)), np.float64)
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            statistics.append((mean, variance))
            layer = network.get_layer(f"{name}_norm")
            gamma, beta = layer.gamma.numpy(), layer.beta.numpy()
            x = np.maximum((x - mean) / np.sqrt(variance + layer.epsilon) * gamma + beta, 0)
    Classifier(network, copies=made).reestimate_statistics(parts, 2, 0)
    for name, statistics in found.items():
        layer = network.get_layer(f"{name}_norm")
        mean, variance = np.mean(statistics, axis=0)
        np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a ResNet-20 of five classes with another mean than the default."""
    folder = tmp_path_factory.mktemp("run")
    settings = {"network": "cifar_resnet20", "num_classes": CLASSES, "image_mean": [9.0] * 3}
    settings["image_deviation"] = [50.0] * 3
    method = Classifier(classifier.create_network(flag_values.of(classifier, **settings)))
    saved = run_folder.RunFolder(folder / "ava", method, 1, weights_path=folder / "ava.h5")
    saved.write_arguments(settings)
    saved.save(3)
    method.network.save_weights(folder / "alone.weights.h5")
    files.write_json(folder / "arguments.json", {"scales": [2]})
    expected = np.asarray(method.predict(tf.constant(np.tile(IMAGES, [1, 4, 4, 1])))["logits"])
    return types.SimpleNamespace(folder=folder, expected=expected)


def flags(**changed):
    """Flags of a student of another network."""
    described = {"network": "cifar_resnet20", "num_classes": CLASSES}
    described |= {"image_mean": [9.0] * 3, "image_deviation": [50.0] * 3}
    return flag_values.of(classifier, **described | changed)


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("ava", "cifar_resnet56"),
        ("ava/model.ckpt-3", "cifar_resnet56"),
        ("ava/model.ckpt-3.index", "cifar_resnet56"),
        ("ava.h5", "cifar_resnet56"),
        ("alone.weights.h5", "cifar_resnet20"),
    ],
)
def test_teachers_are_what_their_runs_say(name, network, run):
    mean = [9.0] * 3 if network == "cifar_resnet20" else [120.0] * 3
    path = str(run.folder / name)
    loaded = classifier.create_trained_network(
        flags(network=network, image_mean=mean), path, "teachers"
    )
    logits = loaded(np.tile(IMAGES, [1, 4, 4, 1]), training=False)
    np.testing.assert_allclose(logits, run.expected, rtol=1e-5, atol=1e-6)


def test_teachers_that_cannot_be_used_are_named_with_their_flag(run):
    def load(name, **changed):
        classifier.create_trained_network(
            flags(**changed), str(run.folder / name), "teacher_weights"
        )

    with pytest.raises(FileNotFoundError, match=r"--teacher_weights=.*none is no checkpoint"):
        load("none")
    with pytest.raises(FileNotFoundError, match=r"--teacher_weights=.*none.h5 does not exist"):
        load("none.h5")
    with pytest.raises(ValueError, match=r"--teacher_weights=.*has 5 classes: --num_classes=7"):
        load("ava", num_classes=7)
    with pytest.raises(ValueError, match=r"(?s)--teacher_weights=.*alone.*missing"):
        load("alone.weights.h5", network="resnet18")
    with pytest.raises(FileNotFoundError, match=r"--weights=none\.pth does not exist"):
        classifier.create_starting_network(flags(weights=["none.pth"]), training=True)


def test_initial_weights_differ_between_layers_and_follow_the_seed():
    def kernels(seed):
        keras.utils.set_random_seed(seed)
        network = classifier.create_network(flags())
        return [v.numpy() for v in network.trainable_variables if v.path.endswith("kernel")]

    first, again, other = kernels(0), kernels(0), kernels(1)
    for one, same, changed in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one, same)
        assert (one != changed).mean() > 0.99
    flat = {kernel.tobytes() for kernel in first}
    assert len(flat) == len(first)
