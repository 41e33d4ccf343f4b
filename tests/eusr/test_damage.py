"""Damaged input: in the step, in the input pipeline, in evaluation, and the branch of scale 1."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import degradations
from degradations import random
from eusr import damage, network
from eusr.dataloaders import paired_images
from eusr.models import eusr, perceptual_eusr
from misc.export import frozen
from misc.images import image_files
from misc.training import seeds, weight_files
from misc.training.settings import Settings
from tests import flag_values

DAMAGE = "jpeg:10-60/noise:5-30"


def create_data(**values):
    return paired_images.create_data(
        flag_values.of(eusr, paired_images, **{"input_patch_size": 16, "batch_size": 4} | values)
    )


def create(scales=(1, 2), evaluation=None, **kwargs):
    return eusr.EUSR(
        network.Generator(scales, 3, shared_blocks=1, residual_factor=0.3),
        evaluation,
        {"generator": keras.optimizers.SGD(1e-3)},
        **kwargs,
    )


def take(data, count, first_step=0):
    return list(data.training_batches(3, first_step).take(count).as_numpy_iterator())


def test_an_untrained_branch_of_scale_1_leaves_images_as_they_are():
    image = np.random.default_rng(0).uniform(0, 255, (1, 9, 7, 3)).astype("float32")
    generator = network.Generator((1, 2), 3, shared_blocks=1)
    np.testing.assert_array_equal(generator(image, scale=1), image)
    assert generator.receptive_radius(1) == 1 + 8 + 2 + 1 + 4 * 3 + 1


def test_the_step_damages_what_its_seed_says():
    layer = degradations.parse(DAMAGE)
    random = np.random.default_rng(0)
    batch = {
        "low": tf.constant(random.uniform(0, 255, (2, 12, 12, 3)), tf.float32),
        "high": tf.constant(random.uniform(0, 255, (2, 24, 24, 3)), tf.float32),
    }
    damaged, clean = create(damage=layer), create()
    weights = clean.generator.get_weights()
    damaged.generator.set_weights(weights)
    seed = tf.constant([0, 5])
    loss = damaged.train_step(batch, seed)["loss"]
    expected = clean.train_step(batch | {"low": layer(batch["low"], seed=seed)}, seed)["loss"]
    assert float(loss) == float(expected)
    damaged.generator.set_weights(weights)
    assert float(damaged.train_step(batch, tf.constant([0, 6]))["loss"]) != float(loss)
    shown = damaged.pictures(batch)["input"]
    assert np.abs(shown - batch["low"]).max() > 1


@pytest.mark.slow
def test_the_host_damages_as_the_step_would(photo_folder):
    text = "noise:5-30"
    values = {"scales": [1, 2], "data_truth_path": str(photo_folder), "degradations": text}
    clean, damaged = (
        take(create_data(degrade_on=where, **values), 4) for where in damage.DEGRADE_ON
    )
    layer = degradations.parse(text)
    for step, (before, after) in enumerate(zip(clean, damaged, strict=True), 1):
        expected = layer(before["low"], seed=seeds.of_step(3, step))
        np.testing.assert_array_equal(after["low"], expected)
        np.testing.assert_array_equal(after["high"], before["high"])
    # At scale 1 the input is the truth, and a run goes on with what it would have seen.
    same = [batch for batch in clean if batch["low"].shape == batch["high"].shape]
    assert 0 < len(same) < 4
    np.testing.assert_array_equal(same[0]["low"], same[0]["high"])
    (tail,) = take(create_data(degrade_on="host", **values), 1, first_step=3)
    np.testing.assert_array_equal(tail["low"], damaged[3]["low"])


def test_repair_needs_damage_or_damaged_files(photo_folder, tmp_path):
    values = {"scales": [1], "data_truth_path": str(photo_folder)}
    with pytest.raises(ValueError, match="give --degradations such as jpeg:10-90, or damaged"):
        take(create_data(**values), 1)
    for path in photo_folder.iterdir():
        pixels = image_files.read_rgb(path)
        image_files.write_image(tmp_path / "x1" / path.name, 255 - pixels)
    data = create_data(data_input_path=str(tmp_path), **values)
    (batch,) = take(data, 1)
    np.testing.assert_array_equal(batch["low"], 255 - batch["high"])
    element = next(iter(data.evaluation_batches("test")))
    np.testing.assert_array_equal(element["low"], 255 - element["high"])


def test_evaluation_fixes_the_draws_and_reports_the_input(photo_folder):
    data = create_data(scales=[1, 2], data_truth_path=str(photo_folder))
    layer = degradations.parse(DAMAGE)
    evaluation = eusr.Evaluation(damage=layer, seed=4, compare_bicubic=True)
    results = create(evaluation=evaluation).evaluate(data.evaluation_batches("test"))
    # An untrained network leaves input at scale 1 as it is.
    for name in ("psnr_y", "bicubic_psnr_y"):
        assert 15 < results[f"x1/{name}"] < 40
    assert results["x1/bicubic_psnr_y"] == pytest.approx(results["x1/psnr_y"])
    assert results["x1/input_psnr_rgb"] == pytest.approx(results["x1/psnr_rgb"], abs=1)
    assert results["x2/input_psnr_y"] < 40
    item = list(data.evaluation_batches("test"))[1]
    seen = create(evaluation=evaluation)._damage_input(item, 1, None)
    np.testing.assert_array_equal(seen["low"], layer(item["low"], seed=random.fold_in(4, 1)))
    # The draws of a scale do not depend on which others are measured.
    alone = create_data(scales=[2], data_truth_path=str(photo_folder))
    again = create(evaluation=evaluation).evaluate(alone.evaluation_batches("test"))
    assert again["x2/input_psnr_y"] == results["x2/input_psnr_y"]


def test_images_that_come_back_as_they_were_leave_means_finite(photo_folder):
    data = create_data(scales=[1], data_truth_path=str(photo_folder), degradations="jpeg:101")
    evaluation = eusr.Evaluation(damage=degradations.parse("jpeg:101"))
    results = create(evaluation=evaluation).evaluate(data.evaluation_batches("test"))
    assert results["psnr_y"] == results["input_psnr_y"] == eusr.IDENTICAL


def test_text_that_cannot_be_read_and_codecs_in_the_step_name_the_flag():
    flags = flag_values.of(eusr, degradations="jpg:10")
    with pytest.raises(ValueError, match=r"--degradations=jpg:10: .* did you mean 'jpeg'"):
        damage.create(flags)
    flags = flag_values.of(eusr, degradations="webp:10-50")
    with pytest.raises(ValueError, match="runs on the host: give --degrade_on=host"):
        eusr.create_model(flags, training=True)
    assert damage.create(flags).host_only
    without_draws = Settings({"degradations": "jpeg:10"})
    with pytest.raises(ValueError, match="--degradations=jpeg:10 is for training and validation"):
        damage.create(without_draws)


@pytest.mark.parametrize("kind", ["weights.h5", pytest.param("checkpoint", marks=pytest.mark.slow)])
def test_training_may_start_from_weights_with_other_branches(kind, tmp_path, caplog):
    old = create((2, 8))
    path = str(tmp_path / "run.h5")
    if kind == "checkpoint":
        path = old.checkpoint().write(str(tmp_path / "model.ckpt-1"))
    else:
        weight_files.write(path, {"generator": old.generator}, step=7)
    new = create((1, 2), average_decay=0.5)
    before = {v.path: v.numpy() for v in new.generator.variables}
    with caplog.at_level("INFO", "absl"):
        new.restore(path, ["generator"])
    assert "Starts at random" in caplog.text
    assert "the branch of scale 1" in caplog.text
    assert "scale 8" not in caplog.text
    theirs = {v.path: v.numpy() for v in old.generator.variables}
    averages = {v.path: v.numpy() for v in new.averages["generator"].variables}
    for variable in new.generator.variables:
        expected = theirs.get(variable.path, before[variable.path])
        np.testing.assert_array_equal(variable, expected)
        np.testing.assert_array_equal(averages[variable.path], expected)
    # What is not trained must be whole.
    used = eusr.EUSR(network.Generator((1, 2), 3, shared_blocks=1))
    with pytest.raises(ValueError, match="before_x1_block1_convolution1/kernel is missing"):
        used.restore(path, ["generator"])
    # Other differences are errors as before.
    wide = eusr.EUSR(
        network.Generator((1, 2), 4), optimizers={"generator": keras.optimizers.SGD(1e-3)}
    )
    with pytest.raises(ValueError, match="has shape"):
        wide.restore(path, ["generator"])


@pytest.mark.slow
def test_four_passes_learn_from_damaged_input():
    flags = flag_values.of(
        perceptual_eusr, **perceptual_eusr.TINY | {"degradations": "noise:25", "max_steps": 1}
    )
    method = perceptual_eusr.create_model(flags, training=True)
    low = np.random.default_rng(0).uniform(60, 200, (1, 12, 12, 3)).astype("float32")
    batch = {"low": tf.constant(low), "high": tf.constant(low.repeat(4, 1).repeat(4, 2))}
    assert np.abs(method.pictures(batch)["input"] - low).std() > 10
    losses = [float(method.train_step(batch, tf.constant([0, n]))["loss"]) for n in (1, 2)]
    assert np.isfinite(losses).all()


@pytest.mark.slow
def test_scale_1_freezes_beside_the_others(tmp_path):
    method = create((1, 2))
    for variable in method.generator.variables:
        if "x1_last" in variable.path:
            variable.assign(variable + 0.01)
    results = list(frozen.freeze(method, tmp_path / "frozen", ["pb"], overwrite=False))
    assert [result.error for result in results] == [None]
    loaded = frozen.load(results[0].path)
    image = np.random.default_rng(0).uniform(0, 255, (1, 20, 24, 3)).astype("float32")
    assert list(loaded.scales) == [1, 2]
    for scale in (1, 2):
        np.testing.assert_allclose(
            loaded.predict(image, scale)["output"],
            method.predict(image, scale)["output"],
            atol=1e-2,
        )
