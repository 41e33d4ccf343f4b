"""Whatever is killed, whenever, ends as what nobody disturbed.

`SOAK_KILLS` is the number of kills of all subjects together, `SOAK_SEED` seeds their moments.
"""

import math
import os

import numpy as np
import pytest

from classifiers.models import classifier
from eusr.models import eusr, perceptual_eusr
from misc.export import frozen
from misc.images import image_files
from score_predictors.models import mobilenetv2
from tests import commands
from tests.eusr.tiny_predictor import TinyPredictor
from tests.soak.kills import Attack, Subject

KILLS = int(os.environ.get("SOAK_KILLS", 220))
SEED = int(os.environ.get("SOAK_SEED", 0))

PHOTOS = {"data_truth_path": "{photos}", "data_validation_truth_path": "{photos}"}


def training(share, settings, **more):
    """Returns the subject that trains with {flag: value}; values may name inputs in braces."""
    settings = {"log_freq": 1, "summary_freq": 1, "seed": 7} | settings | more
    arguments = commands.to_arguments(settings | {"train_path": "{results}"})
    return Subject(with_inputs("train.py", *arguments), share, is_training=True)


def with_inputs(*arguments):
    """Returns the function that a `Subject` takes for a command with inputs in braces."""
    return lambda inputs, results: [part.format(results=results, **inputs) for part in arguments]


SUBJECTS = {
    # The longest comes first, so that no process works on it while others are done.
    "chain": Subject(
        with_inputs(
            *("-m", "misc.fusion_distill_chain", "--output_path={results}"),
            *("--dataloader=cifar10", "--data_path={cifar}", "--batch_size=8"),
            *("--steps_factor=0.015", "--degradations=saltpepper", "--degradations=noise"),
        ),
        share=30,
        pieces=10,
    ),
    # Averages, the best, weight files, falling rates, few checkpoints, and images on the disk.
    "eusr": training(
        30,
        eusr.TINY | PHOTOS,
        model="eusr",
        eusr_residual_factor=0.1,
        max_steps=30,
        save_freq=3,
        save_max_keep=3,
        validate_freq=4,
        average_decay=0.9,
        gradient_clip_norm=1,
        schedule="plateau",
        plateau_patience=1,
        weight_filename="weights.h5",
        data_cached="false",
    ),
    # Two networks, two optimizers, a frozen predictor.
    "4pp_eusr": training(
        16,
        perceptual_eusr.TINY | PHOTOS,
        model="4pp_eusr",
        eusr_residual_factor=0.1,
        eusr_aesthetic_nima_path="{predictor}",
        eusr_weight_las=0.01,
        eusr_weight_lar=0.1,
        max_steps=16,
        save_freq=2,
    ),
    # Its data are made when it starts.
    "score_predictor": training(
        24,
        mobilenetv2.TINY,
        model="mobilenetv2",
        dataloader="sample_ratings",
        max_steps=16,
        save_freq=2,
        validate_freq=8,
        weight_filename="ava.h5",
    ),
    "classifier": training(
        30,
        classifier.TINY,
        model="classifier",
        degradations="noise",
        schedule="cosine",
        average_decay=0.9,
        max_steps=30,
        save_freq=3,
        validate_freq=5,
    ),
    "predict_folder": Subject(
        with_inputs(
            *("-m", "misc.predict_folder", "--restore_path={run}", "--scale=4"),
            *("--input_path={photos}", "--output_path={results}", "--self_ensemble"),
        ),
        share=20,
        kept="*.png",
    ),
    "predict_scores": Subject(
        with_inputs(
            *("-m", "misc.predict_folder", "--frozen_path={predictor}"),
            *("--input_path={photos}", "--output_path={results}"),
        ),
        share=10,
    ),
    # With codecs that run in processes of their own.
    "degrade_folder": Subject(
        with_inputs(
            *("-m", "misc.degrade_folder", "--input_path={photos}", "--output_path={results}"),
            *("--degradations=bpg:35", "--degradations=jpegxl:2", "--degradations=fog"),
            *("--severities=1-3", "--resize=64", "--crop=64"),
        ),
        share=24,
        kept="*.png",
    ),
    "dataset_preprocessing": Subject(
        with_inputs(
            *("-m", "misc.dataset_preprocessing", "--input_path={classes}"),
            *("--output_path={results}", "--degradations=bpg:35,p=0.9", "--store=bitstreams"),
            *("--resize=64", "--crop=64", "--size=64"),
        ),
        share=16,
        kept="*.bitstream",
    ),
    "downscale_folder": Subject(
        with_inputs(
            *("-m", "misc.downscale_folder", "--scale=2,4,8"),
            *("--input_path={many}", "--output_path={results}"),
        ),
        share=16,
        kept="*.png",
    ),
    "freeze": Subject(
        with_inputs("freeze.py", "--restore_path={run}", "--output_path={results}/model.pb"),
        share=20,
    ),
}


@pytest.fixture(scope="session")
def inputs(photo_folder, tmp_path_factory):
    """Returns {name: path} of what the commands work on."""
    folder = tmp_path_factory.mktemp("inputs")
    list(frozen.freeze(TinyPredictor(), folder / "predictor", ["pb"]))
    photo = image_files.read_rgb(photo_folder / "0000.png")
    for number in range(200):
        rolled = np.roll(photo, number, axis=1)
        image_files.write_image(folder / "many" / f"{number}.png", rolled)
        image_files.write_image(folder / "classes" / f"{number % 2}" / f"{number}.png", rolled)
    random = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 10)):
        images = random.integers(0, 256, (count, 32, 32, 3), np.uint8)
        np.savez(folder / f"{split}.npz", images=images, labels=np.arange(count) % 10)
    run = training(1, eusr.TINY | PHOTOS, model="eusr", eusr_residual_factor=0.1, max_steps=2)
    commands.run(*run.command({"photos": photo_folder}, folder / "run"))
    return {
        "photos": photo_folder,
        "many": folder / "many",
        "classes": folder / "classes",
        "predictor": folder / "predictor.pb",
        "cifar": folder,
        "run": folder / "run",
    }


@pytest.mark.soak
@pytest.mark.parametrize("name", SUBJECTS)
def test_what_is_killed_ends_as_if_nothing_had_happened(name, inputs, tmp_path, record_property):
    shares = sum(subject.share for subject in SUBJECTS.values())
    attack = Attack(name, SUBJECTS[name], inputs, tmp_path, SEED)
    figures = attack.run(math.ceil(KILLS * SUBJECTS[name].share / shares))
    for key, value in vars(figures).items():
        # What other processes than the test's own can be told.
        plain = dict(value) if isinstance(value, dict) else value
        record_property(key, len(value) if key == "faults" else plain)
    assert not figures.faults, "\n".join(figures.faults)
    assert figures.identical == figures.runs
    assert (figures.broken, figures.leftovers) == (0, 0)
