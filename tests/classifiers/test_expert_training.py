"""Losses, course and figures of expert training; a whole run in the words of a user."""

import csv
import json
import pathlib

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from classifiers import losses, networks, published
from classifiers.dataloaders import digits
from classifiers.evaluation import Evaluation
from classifiers.models import expert_training
from classifiers.models.expert_training import ExpertTraining
from misc.training import optimizers, run_folder
from misc.training.method import Decision
from tests import commands, flag_values
from tests.classifiers.test_models import (
    BATCH,
    IMAGES,
    LABELS,
    SEED,
    copies,
    labelled_data,
    tiny_network,
    weights_of,
)

RATE = 1e-2


def expert(text="jpeg:10", seed=0, weight=0.02, rate=RATE, **kwargs):
    """A student and its teacher, a network of its own so that they differ from the first step."""
    keras.utils.set_random_seed(seed)
    return ExpertTraining(
        tiny_network(),
        Evaluation([text], classes=5),
        copies([text]),
        {"classifier": optimizers.Adam(rate, 0.5, 0.99)},
        teacher=tiny_network(2.0),
        weight=weight,
        **{"falls": 3, "plateau_patience": 3, "plateau_factor": 0.2, "batch_size": 6} | kwargs,
    )


def log_softmax(logits):
    return scipy.special.log_softmax(np.asarray(logits, np.float64), axis=1)


def reference(taught, logits):
    """Returns cross-entropy and summed divergence in float64, from their definitions."""
    answer, target = log_softmax(logits), log_softmax(taught)
    cross_entropy = -answer[np.arange(len(LABELS)), LABELS].mean()
    return cross_entropy, (np.exp(target) * (target - answer)).sum()


def test_divergence_is_that_of_scipy():
    random = np.random.default_rng(0)
    target, logits = random.normal(0, 3, (2, 7, 5)).astype(np.float32)
    expected = scipy.special.rel_entr(
        *(scipy.special.softmax(x.astype(np.float64), axis=1) for x in (target, logits))
    )
    found = float(losses.kl_divergence(target, logits))
    assert found == pytest.approx(expected.sum(axis=1).mean(), rel=1e-5)
    assert float(losses.kl_divergence(target, target)) == 0


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_step_follows_the_formula(reduction):
    method = expert(reduction=reduction)
    seen = method.make_copies(BATCH, SEED)
    assert set(seen) == {"image", "degraded", "label", "bytes"}
    logits = method.network(seen["degraded"], training=True)
    taught = method.teacher(IMAGES, training=False)
    before = weights_of(method.teacher)
    figures = method.train_step(BATCH, SEED)
    cross_entropy, divergence = reference(taught, logits)
    distillation = 0.02 * (divergence if reduction == "sum" else divergence / 6)
    expected = {
        "loss": cross_entropy + distillation,
        "classification_loss": cross_entropy,
        "distillation_loss": distillation,
    }
    for name, value in expected.items():
        assert float(figures[name]) == pytest.approx(value, rel=1e-4)
    for one, other in zip(weights_of(method.teacher), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_first_step_of_adam_moves_all_weights_against_their_gradients():
    method = expert(weight=0.0)
    seen = method.make_copies(BATCH, SEED)
    with tf.GradientTape() as tape:
        logits = method.network(seen["degraded"], training=True)
        loss = losses.cross_entropy(seen["label"], logits)
    variables = method.network.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    before = [variable.numpy() for variable in variables]
    method.train_step(BATCH, SEED)
    for old, variable, gradient in zip(before, variables, gradients, strict=True):
        gradient = gradient.numpy().astype(np.float64)
        # Corrected means of one gradient are the gradient and its square.
        expected = old - RATE * gradient / (np.abs(gradient) + 1e-8)
        np.testing.assert_allclose(variable.numpy(), expected, atol=1e-5)


# Results of validations, the first one before training: from the second one on, after how many of
# them the rate falls, and when the run ends.
COURSES = {
    "no better than before training": ([50, 10, 40, 40, 40, 40], [4], None),
    "the first epoch counts neither way": ([50, 60, 55, 54, 53, 52, 51], [5], None),
    "equal is not better": ([50, 0, 51, 51, 51, 51], [5], None),
    "a better one starts the count again": ([50, 0, 49, 49, 51, 50, 50, 50], [7], None),
    "a fall starts the count again": ([50, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1], [4, 7, 10], 10),
    "better ones in between": ([50, 0, 1, 1, 1, 1, 60, 1, 1, 1, 70, 1, 1, 1], [4, 9, 13], 13),
}


@pytest.mark.parametrize("name", COURSES)
def test_the_rate_falls_as_published(name, tmp_path):
    results, falls, end = COURSES[name]
    method, found = expert(), []
    for number, value in enumerate(results):
        if number == 3:  # a run that goes on keeps count
            path = method.checkpoint().write(str(tmp_path / "model.ckpt-3"))
            method = expert()
            method.restore(path)
        decision = method.after_validation({"accuracy": value})
        assert decision.bests == (("best",) if value > max([-1, *results[:number]]) else ())
        method.follow(decision)
        if decision.rate_factor != 1:
            found.append(number)
            assert decision == Decision(decision.bests, 0.2, True, number == end)
            rate = method.learning_rates()["classifier"]
            assert rate == pytest.approx(RATE / 5 ** len(found), rel=1e-6)
        else:
            assert not decision.stop
            assert not decision.restart
    assert found == falls
    assert bool(method.ended.numpy()) == (end is not None)


def test_adam_starts_afresh_when_the_rate_falls():
    method = expert()
    method.train_step(BATCH, SEED)
    optimizer = method.optimizers["classifier"]
    assert optimizer.iterations.numpy() == 1
    method.follow(Decision(rate_factor=0.2, restart=True))
    for variable in optimizer.variables:
        expected = RATE / 5 if variable.path.endswith("learning_rate") else 0
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-6)


def test_figures_leave_out_images_that_were_not_coded():
    method = expert("jpeg:10,p=0.5")
    seen = method.make_copies(BATCH, SEED)
    sizes = seen["bytes"].numpy()
    coded = sizes > 0
    assert 0 < coded.sum() < 6
    logits = method.network(seen["degraded"], training=True).numpy()
    method.train_step(BATCH, SEED)
    method.after_validation({"accuracy": 0.0})
    (row,) = method.epoch_rows({})
    right = logits.argmax(axis=1) == LABELS
    assert row["top1"] == pytest.approx(100 * right[coded].mean())
    assert row["top5"] == 100  # of five classes
    assert row["bytes"] == pytest.approx(sizes[coded].mean())
    assert row["bits_per_pixel"] == pytest.approx(8 * sizes[coded].mean() / 64)
    assert row["loss"] == pytest.approx(row["classification_loss"] + row["distillation_loss"])
    assert (row["epoch"], row["split"]) == (0, "train")
    assert method.epoch_rows({}) == []


@pytest.mark.slow
def test_a_validation_measures_what_training_sees():
    method = expert(batch_size=12)
    results = method.evaluate(labelled_data().part("train").one_pass(4))
    seen = method.make_copies(BATCH, SEED)
    logits = method.network(seen["degraded"], training=False)
    cross_entropy, divergence = reference(method.teacher(IMAGES, training=False), logits)
    # As in a training step of 12 images.
    expected = {
        "classification_loss": cross_entropy,
        "distillation_loss": 0.02 * 2 * divergence,
        "accuracy": 100 * np.mean(logits.numpy().argmax(axis=1) == LABELS),
        "bytes": np.mean(seen["bytes"]),
    }
    for name, value in expected.items():
        assert results[name] == pytest.approx(value, rel=1e-4)


def test_cached_teachers_train_as_those_that_are_asked(tmp_path):
    cached, asked = expert(cache_path=tmp_path), expert()
    cached.prepare(labelled_data())
    assert set(cached._outputs) == {"train"}
    batch = BATCH | {"index": tf.range(6)}
    found = [
        [float(method.train_step(batch, SEED)["loss"]) for _ in range(2)]
        for method in (cached, asked)
    ]
    np.testing.assert_allclose(*found, rtol=1e-5)
    # Stored images come without clean ones.
    stored = BATCH | {"bytes": tf.ones([6], tf.int32), "index": tf.range(6)}
    assert np.isfinite(float(cached.train_step(stored, SEED)["loss"]))
    made = {"degraded": stored.pop("image")} | stored  # in the input pipeline
    assert np.isfinite(float(cached.train_step(made, SEED)["loss"]))
    with pytest.raises(ValueError, match="--data_degraded_path: this needs the clean images"):
        asked.train_step(made, SEED)


def test_a_resumed_run_is_exact(tmp_path):
    def train(method, steps):
        return [float(method.train_step(BATCH, SEED)["loss"]) for _ in range(steps)]

    whole = expert()
    course = train(whole, 4)
    first = expert()
    assert train(first, 2) == course[:2]
    path = run_folder.RunFolder(tmp_path, first, 1).save(2)
    resumed = expert()
    resumed.restore(path)
    assert train(resumed, 2) == course[2:]
    np.testing.assert_array_equal(resumed.epoch.sums, whole.epoch.sums)
    for one, other in zip(weights_of(resumed.network), weights_of(whole.network), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("network", "text", "alpha", "expected"),
    [
        ("resnet50", "jpeg:10", None, (1e-5, 1e-2)),
        ("resnet50", "jpeg:5,p=0.5", None, (5e-6, 1e-2)),
        ("resnet50", "jpeg:10,subsampling=444", None, None),
        ("resnet50", "jpeg2000:200", 0.0, (5e-6, 0.0)),
        ("resnet50", "jpeg2000:200", None, (1e-5, 1e-2)),
        ("resnet50", "bpg:51", None, (5e-6, 1e-2)),
        ("resnet50", None, None, (1e-6, 1e-3)),
        ("mnasnet1_0", "bpg:46", None, (1e-5, 1e-2)),
        ("mnasnet1_0", "webp:10", None, None),
        ("vgg19_bn", "jpeg:10", None, None),
    ],
)
def test_published_settings_are_found_however_they_are_written(network, text, alpha, expected):
    assert published.find(network, [text] if text else [], alpha == 0) == expected


def test_published_settings_are_taken_where_none_are_given(capsys):
    def choose(**values):
        values = {"network": "resnet50", "degradations": ["jpeg:10"]} | values
        return expert_training.create_choice(flag_values.of(expert_training, digits, **values))

    assert choose() == (1e-5, 1e-2)
    assert "Learning rate 1e-05, alpha 0.01 (published)" in capsys.readouterr().out
    assert choose(expert_training_alpha=0.0) == (1e-5, 0.0)
    assert choose(expert_training_reduction="mean") == (1e-5, pytest.approx(3.84))
    assert choose(degradations=[], stored_degradation="bpg:41") == (5e-6, 1e-2)
    given = {"expert_training_learning_rate": 1e-3, "expert_training_alpha": 0.5}
    assert choose(network="cifar_resnet20", **given) == (1e-3, 0.5)
    with pytest.raises(ValueError, match=r"give --expert_training_alpha\. Known are resnet50 and"):
        choose(network="cifar_resnet20", expert_training_learning_rate=1e-3)


def test_several_degradations_are_refused():
    chosen = {"degradations": ["jpeg:10", "webp:20"], "degrade_on": "host"}
    values = flag_values.of(expert_training, **expert_training.TINY | chosen)
    with pytest.raises(ValueError, match=r"one degradation is .* Received: jpeg:10, webp"):
        expert_training.create_model(values, training=True)


def read_epochs(folder):
    with open(folder / "epochs.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_run_in_the_words_of_a_user(tmp_path):
    start = networks.build("cifar_resnet20", 10)
    start.save_weights(tmp_path / "start.weights.h5")
    arguments = [
        *("--model=expert_training", "--dataloader=digits", "--network=cifar_resnet20"),
        *("--num_classes=10", f"--weights={tmp_path}/start.weights.h5"),
        *("--degradations=webp:30", "--expert_training_learning_rate=1e-3"),
        *("--expert_training_alpha=0.01", "--batch_size=400", "--epochs=2", "--seed=3"),
    ]
    whole = tmp_path / "runs/whole"
    output = commands.run("train.py", *arguments, f"--train_path={whole}")
    rows = read_epochs(whole)
    assert [(row["epoch"], row["split"]) for row in rows] == [
        ("-1", "validation"),
        *(("0", "train"), ("0", "validation"), ("1", "train"), ("1", "validation")),
    ]
    assert list(rows[0]) == [
        *("epoch", "split", "step", "classification_loss", "distillation_loss", "loss"),
        *("top1", "top5", "bytes", "bits_per_pixel", "learning_rate"),
    ]
    # The start is its own teacher, and sees degraded images.
    assert float(rows[0]["distillation_loss"]) > 0
    assert 20 < float(rows[0]["bytes"]) < 2000
    assert "classification loss" in output
    assert (tmp_path / "runs/teacher_outputs").is_dir()
    arguments_file = json.loads((whole / "arguments.json").read_text())
    assert arguments_file["expert_training_alpha"] == 0.01
    # A second run of other length, which is then continued, does the same, from the same files.
    stopped = tmp_path / "runs/stopped"
    commands.run("train.py", *arguments[:-2], "--epochs=1", "--seed=3", f"--train_path={stopped}")
    with open(stopped / "epochs.csv", "a") as file:
        file.write("1,train,7,0.5,0.25,")  # what a killed process leaves
    output = commands.run("train.py", *arguments, f"--train_path={stopped}")
    assert "Teacher's" not in output
    assert read_epochs(stopped) == rows
    output = commands.run(
        "validate.py", f"--restore_path={whole}/best", f"--save_path={tmp_path}/results"
    )
    assert "webp:30" in output
    frozen = tmp_path / "frozen.pb"
    commands.run(
        "freeze.py", f"--restore_path={whole}/best", f"--output_path={frozen}", "--formats=pb"
    )
    assert pathlib.Path(frozen).is_file()
