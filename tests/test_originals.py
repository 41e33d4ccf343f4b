"""The tables of docs/originals.md: defaults that differ, recipes beside the authors' values."""

import functools
import pathlib
import re

from absl import flags

import train
from misc.training import common_flags, registry, settings

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "originals.md"
RECIPES = {path.stem: path for path in ROOT.glob("*/recipes/*.flags")}
# Recipes that others include, and those that other pages describe: SyMPIE's, expert training's, and
# those of repair and of trained weights, which no authors have values for.
SHARED = {"fusion_distill", "tiny_imagenet", "sympie", "sympie_cifar10", "sympie_evaluation"}
SHARED |= {"deblocking", "denoising", "photo", "eusr_small", "eusr_photo"}
SHARED |= {"expert_training", "expert_training_mnasnet"}
SHARED |= {"stability_training", "stability_training_mnasnet"}
# Whose values the authors' are, for the recipes that are this project's own.
PUBLISHED = {
    **{f"quick_{run}": f"cifar10_{run}" for run in ("clean", "separate", "distill")},
    **{f"quick_{run}": f"cifar10_{run}" for run in ("scratch", "vanilla", "fusing")},
    "small": "published",
    "demo": "published",
    "perceptual_small": "perceptual",
    "perceptual_demo": "perceptual",
    "quick": "ava",
}


# Defaults of the originals' training, by the arguments that choose the same here.
EUSR = {
    "batch_size": 16,
    "input_patch_size": 48,
    "scales": [2, 4, 8],
    "train_path": "./train/",
    "max_steps": 1000000,
    "log_freq": 10,
    "summary_freq": 200,
    "save_freq": 50000,
    "save_max_keep": 100,
    "restore_path": None,
    "restore_target": None,
    "global_step": 0,
    "data_input_path": "LR",
    "data_truth_path": "HR",
    "data_cached": False,
    "eusr_conv_features": 64,
    "eusr_shared_blocks": 32,
    "eusr_upscale_blocks": 1,
    "eusr_rgb_mean": [114.4, 111.5, 103.0],
    "eusr_learning_rate": 1e-4,
    "eusr_learning_rate_decay": 0.5,
    "eusr_learning_rate_decay_steps": 200000,
    "cuda_device": "0",
    "sleep_ratio": 0.05,
    "shave_size": 4,
}
PREDICTOR = {
    "batch_size": 32,
    "epochs": 5,
    "learning_rate": 1e-3,
    "input_patch_size": 192,
    "cuda_device": "0",
    "weight_filename": "score_predictor.h5",
    "restore_path": None,
    "mobilenetv2_alpha": 1.0,
    "mobilenetv2_train_last_only": False,
}
TUNED = {
    "network": "resnet50",
    "batch_size": 384,
    "epochs": 45,
    "plateau_factor": 0.2,
    "augment_flip": False,
    "augment_padding": 0,
    "data_validation": "test",
    "data_crop": 224,
    "data_interpolation": "bicubic",
}
ORIGINALS = {
    ("--model=expert_training", "--dataloader=class_folders"): TUNED
    | {"degradations": ["jpeg:10"], "plateau_patience": 3, "expert_training_reduction": "sum"},
    ("--model=stability_training", "--dataloader=class_folders"): TUNED
    | {
        "plateau_patience": 4,
        "stability_training_lambda": 5e-3,
        "stability_training_reduction": "sum",
    },
    ("--model=eusr", "--dataloader=basic_loader"): EUSR | {"eusr_model_scales": [2, 4, 8]},
    ("--model=4pp_eusr", "--dataloader=basic_loader"): EUSR
    | {
        "eusr_learning_rate": 1e-5,
        "eusr_learning_rate_discriminator": 2e-5,
        "eusr_learning_rate_decay_steps": 1000000,
        "eusr_aesthetic_nima_path": "ava.pb",
        "eusr_subjective_nima_path": "tid2013.pb",
        "eusr_weight_lr": 0.05,
        "eusr_weight_lg": 0.1,
        "eusr_weight_las": 0.01,
        "eusr_weight_lar": 0.1,
        "eusr_weight_lss": 0.01,
        "eusr_weight_lsr": 0.1,
        "eusr_disable_multipass": False,
    },
    ("--dataloader=ava",): PREDICTOR
    | {
        "ava_dataset_path": "AVA.txt",
        "ava_image_path": None,
        "ava_train_range": [0, -5000],
        "ava_validate_range": [-5000, 0],
        "ava_num_threads": 4,
        "ava_validate_images": False,
    },
    ("--dataloader=tid2013",): PREDICTOR
    | {
        "tid2013_score_path": "tid2013_name_mos_std.txt",
        "tid2013_image_path": None,
        "tid2013_image_extension": "bmp",
        "tid2013_train_range": [360, 3000],
        "tid2013_validate_range": [0, 360],
        "tid2013_num_threads": 4,
    },
}


@functools.cache
def read(*arguments):
    """Returns the settings of a training with these arguments."""
    argv = ["train.py", *arguments]
    with settings.fresh_flags():
        train.define_flags()
        common_flags.define_selection_flags(with_dataloader=True)
        registry.select(argv, with_dataloader=True, for_use=False)
        flags.FLAGS(argv)
        return settings.parsed()


def read_recipe(recipe):
    return read(f"--flagfile={RECIPES[recipe]}")


def describe_classifier(recipe, s):
    epoch = 782 if recipe.startswith("tiny") else 391
    is_quick = recipe.startswith("quick")
    course = {"cosine": "cosine, each step", "cosine_staircase": "cosine, each epoch"}
    if s.schedule == "cosine_staircase":
        assert s.classifier_learning_rate_decay_steps == epoch
    if s.schedule == "milestones":
        falls = ", ".join(f"{step / epoch:g}" for step in s.milestones)
        course["milestones"] = f"x{s.classifier_learning_rate_decay:g} after {falls}"
    optimizer = {"sgd": "SGD", "radam": "RAdam"}[s.classifier_optimizer]
    return {
        "network": s.network.replace("cifar_resnet", "ResNet"),
        "optimizer, rate": f"{optimizer} {s.classifier_learning_rate:g}",
        "weight decay": f"{s.classifier_weight_decay:g}",
        "length": f"{s.max_steps} steps" if is_quick else f"{s.max_steps / epoch:g} epochs",
        "course": course[s.schedule],
        "Cutout": f"{s.augment_cutout}, {s.augment_cutout_on}",
        "cross-entropy": f"{s.get('fusion_distill_cross_entropy_weight', 1.0):g}",
    }


def describe_upscaler(recipe, s):
    course = s.schedule
    if s.schedule == "step":
        decay, steps = s.eusr_learning_rate_decay, s.eusr_learning_rate_decay_steps
        course = f"x{decay:g} every {steps}"
    rates = [s.eusr_learning_rate, s.get("eusr_learning_rate_discriminator")]
    names = ("lr", "lg", "las", "lar", "lss", "lsr")
    weights = [f"{s.get(f'eusr_weight_{name}', 0):g}" for name in names]
    factor = s.eusr_residual_factor
    return {
        "features, blocks": f"{s.eusr_conv_features}, {s.eusr_shared_blocks}",
        "initial residuals": "1e-4 / R" if factor is None else f"{factor:g}",
        "rate": " and ".join(f"{rate:g}" for rate in rates if rate is not None),
        "course": course,
        "batch, patch": f"{s.batch_size}, {s.input_patch_size}",
        "clip norm": f"{s.gradient_clip_norm:g}" if s.gradient_clip_norm else "none",
        "averaging": f"{s.average_decay:g}" if s.average_decay else "none",
        "steps": f"{s.max_steps}",
        "discriminator": f"{s.get('eusr_discriminator_features', '-')}",
        "loss weights": ", ".join(weights) if "eusr_weight_lr" in s else "-",
    }


def describe_predictor(recipe, s):
    return {
        "trained": "last layer" if s.mobilenetv2_train_last_only else "all layers",
        "starts from": pathlib.Path(s.restore_path or s.pretrained_weights).stem,
        "width, patch": f"{s.mobilenetv2_alpha:g}, {s.input_patch_size}",
        "dropout": f"{s.dropout:g}",
        "rate": f"{s.learning_rate:g}",
        "course": "constant" if s.learning_rate_decay == 1 and s.schedule == "step" else s.schedule,
        "clip norm": f"{s.gradient_clip_norm:g}" if s.gradient_clip_norm else "none",
        "batch norm": f"{s.batch_norm_momentum or 0.999:g}",
        "batch": f"{s.batch_size}",
        "epochs": f"{s.epochs}",
    }


DESCRIBE = {
    "classifiers": describe_classifier,
    "eusr": describe_upscaler,
    "score_predictors": describe_predictor,
}


def described(recipe):
    """Returns {column: what a recipe sets, and in brackets the authors' value if it differs}."""
    describe = DESCRIBE[RECIPES[recipe].parts[-3]]
    own = describe(recipe, read_recipe(recipe))
    published = PUBLISHED.get(recipe)
    if published is None:
        return own
    theirs = describe(published, read_recipe(published))
    return {n: v if v == theirs[n] else f"{v} ({theirs[n]})" for n, v in own.items()}


def tables():
    """Returns {recipe: {column: cell}} of the page."""
    found, header = {}, []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == "recipe":
            header = cells[1:]
        name = re.fullmatch(r"`(\w+)`", cells[0])
        if name and header and name[1] in RECIPES:
            found[name[1]] = dict(zip(header, cells[1:], strict=True))
        elif not line.startswith("|"):
            header = []
    return found


def test_defaults_that_differ_are_named_and_no_others():
    section = PAGE.read_text().partition("## Defaults that differ")[2].partition("\n## ")[0]
    flags_column = [line.split("|")[1] for line in section.splitlines() if line[:4] == "| `-"]
    named = set(re.findall(r"`--(\w+)`", " ".join(flags_column)))
    differing = {
        name
        for arguments, defaults in ORIGINALS.items()
        for name, value in defaults.items()
        if read(*arguments).get(name) != value
    }
    known = {name for defaults in ORIGINALS.values() for name in defaults}
    assert differing == named & known


def test_tables_say_what_every_recipe_sets():
    assert tables() == {recipe: described(recipe) for recipe in sorted(set(RECIPES) - SHARED)}
