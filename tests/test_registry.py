"""Every model: one step on its TINY settings, predict, save, restore, freeze."""

import importlib
import json
import types

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from misc.export import frozen
from misc.training import common_flags, registry, settings
from tests import flag_values

TINY_TRAINING = {"max_steps": 1, "average_decay": 0.5, "gradient_clip_norm": 10.0}


def parse(module, training):
    """Returns the settings of a run with a module's TINY flags."""
    return flag_values.of(module, **module.TINY | (TINY_TRAINING if training else {}))


def training_batch(module, method):
    """Returns a batch of random images, as the dataloaders of the module's package give them."""
    random = np.random.default_rng(0)
    if module.__name__.startswith("eusr."):
        high = 12 * method.factor(method.scales[0])
        batch = {
            "low": random.uniform(0, 255, (2, 12, 12, 3)),
            "high": random.uniform(0, 255, (2, high, high, 3)),
        }
    elif module.__name__.startswith("score_predictors."):
        batch = {
            "image": random.uniform(0, 255, (2, 32, 32, 3)),
            "scores": random.dirichlet(np.ones(10), 2),
        }
    else:
        batch = {"image": random.uniform(0, 255, (2, 32, 32, 3))}
    batch = {name: tf.constant(values, tf.float32) for name, values in batch.items()}
    return batch if len(batch) == 2 else batch | {"label": tf.constant([3, 9], tf.int32)}


# nima differs from mobilenetv2 in the network alone; the others have tests of their own.
SLOW = ("nima", "perceptual_eusr", "ensemble", "expert_training", "stability_training")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in registry.list_names("models")
    ],
)
def test_every_model_trains_predicts_saves_and_freezes(name, tmp_path):
    module = registry.load("models", name)
    trainable = not getattr(module, "EVALUATION_ONLY", False)
    method = module.create_model(parse(module, training=trainable), training=trainable)
    batch = training_batch(module, method)
    images = next(iter(batch.values()))
    if trainable:
        before = [v.numpy() for network in method.networks.values() for v in network.variables]
        # Not compiled, which takes longer: tests of the commands do that.
        assert np.isfinite(float(method.train_step(batch, tf.constant([0, 1]))["loss"]))
        method.update_averages()
        after = [v.numpy() for network in method.networks.values() for v in network.variables]
        assert any((a != b).any() for a, b in zip(before, after, strict=True))

    path = method.checkpoint().write(str(tmp_path / "model.ckpt-1"))
    again = module.create_model(parse(module, training=False))
    again.restore(path, list(again.networks))
    for scale in again.scales or (None,):
        expected = method.predict(images, scale)
        for key, value in again.predict(images, scale).items():
            np.testing.assert_array_equal(value, expected[key])
    results = list(frozen.freeze(again, tmp_path / "frozen", ["pb"], overwrite=False))
    assert [result.error for result in results] == [None]
    assert registry.load("dataloaders", module.DATALOADER).create_data


def test_names_are_unique_and_modules_import_without_effect():
    names = [
        *registry.list_names("models").values(),
        *registry.list_names("dataloaders").values(),
    ]
    before = set(flags.FLAGS)
    for name in names:
        importlib.import_module(name)
    assert set(flags.FLAGS) == before
    stems = [name.rsplit(".", 1)[1] for name in names]
    assert len(set(stems)) == len(stems)


def test_selection_understands_every_way_to_write_a_flag(tmp_path):
    file = tmp_path / "recipe.flags"
    file.write_text("--model=eusr\n--unknown_here=3\n")
    for argv in (
        ["--model=eusr"],
        ["--model", "eusr"],
        ["-model=eusr"],
        ["--other", "value", "--model=eusr"],
        [f"--flagfile={file}"],
    ):
        assert registry.parse_some(["train.py", *argv], "model").model == "eusr"


def test_unknown_names_are_errors_that_list_the_known():
    with pytest.raises(ValueError, match=r"--dataloader=nothing is unknown. .*paired_images"):
        registry.load("dataloaders", "nothing")


def test_names_of_the_original_project(tmp_path):
    assert registry.load("models", "4pp_eusr") is registry.load("models", "perceptual_eusr")
    # A run keeps one name, whichever it was started with.
    argv = ["train.py", "--model=4pp_eusr", "--dataloader=basic_loader"]
    with settings.fresh_flags():
        selection = registry.select(argv, with_dataloader=True, for_use=False)
    assert selection.dataloader is registry.load("dataloaders", "paired_images")
    assert selection.dataloader_name == "paired_images"
    arguments = {"model": "eusr", "dataloader": "basic_loader", "data_edges": "clamp"}
    (tmp_path / "arguments.json").write_text(json.dumps(arguments))
    argv = ["validate.py", f"--restore_path={tmp_path}"]
    with settings.fresh_flags():
        common_flags.define_restore_flags()
        registry.select(argv, with_dataloader=True)
        flags.FLAGS(argv)
        assert settings.parsed().data_edges == "clamp"


def test_use_of_a_run_takes_its_model_and_dataloader(tmp_path):
    (tmp_path / "arguments.json").write_text('{"model": "eusr", "dataloader": "div2k"}')
    for argv, for_use, expected in (
        ([], True, "div2k"),
        ([], False, "paired_images"),  # what another run was trained on says nothing of a new one
        (["--dataloader=paired_images"], True, "paired_images"),
    ):
        with settings.fresh_flags():
            argv = ["x", f"--restore_path={tmp_path}", *argv]
            selection = registry.select(argv, with_dataloader=True, for_use=for_use)
        assert (selection.model_name, selection.dataloader_name) == ("eusr", expected)


def test_a_dataloader_of_another_kind_of_model_is_refused():
    argv = ["train.py", "--model=4pp_eusr", "--dataloader=digits"]
    message = "--dataloader=digits does not .* --model=4pp_eusr .* one of div2k, paired_images"
    with settings.fresh_flags(), pytest.raises(ValueError, match=message):
        registry.select(argv, with_dataloader=True)


def test_weights_of_another_kind_of_model_are_named(tmp_path):
    (tmp_path / "arguments.json").write_text('{"model": "classifier"}')
    selection = registry.Selection("4pp_eusr", registry.load("models", "4pp_eusr"))

    def restore(path):
        raise ValueError("weights are missing")

    method = types.SimpleNamespace(restore=restore)
    with pytest.raises(ValueError, match="is of a run of --model=classifier, which is no start"):
        selection.load_weights(method, tmp_path / "model.ckpt-1")
    # Models of one package share networks: what is missing helps.
    (tmp_path / "arguments.json").write_text('{"model": "eusr"}')
    with pytest.raises(ValueError, match="weights are missing"):
        selection.load_weights(method, tmp_path / "model.ckpt-1")


def test_a_model_made_of_others_needs_them():
    module = registry.load("models", "ensemble")
    selection = registry.Selection("ensemble", module)
    values = settings.Settings({"restore_path": None, "ensemble_weights": None})
    with pytest.raises(ValueError, match="--ensemble_weights is missing"):
        selection.restore(values)


def test_what_gives_data_their_meaning_comes_back_with_a_run_and_places_do_not(tmp_path):
    arguments = {
        "model": "mobilenetv2",
        "dataloader": "ratings",
        "ratings_range": [0.0, 100.0],
        "ratings_target": "maximum_entropy_mean",
        "score_values": [1.0, 2.0, 3.0],
        "ratings_path": "elsewhere.csv",
    }
    (tmp_path / "arguments.json").write_text(json.dumps(arguments))
    argv = ["validate.py", f"--restore_path={tmp_path}", "--ratings_target=gaussian"]
    with settings.fresh_flags():
        common_flags.define_restore_flags()
        selection = registry.select(argv, with_dataloader=True)
        flags.FLAGS(argv)
        found = settings.parsed()
    assert selection.dataloader_name == "ratings"
    assert (found.ratings_range, found.score_values) == ([0, 100], [1, 2, 3])
    assert (found.ratings_target, found.ratings_path) == ("gaussian", None)
