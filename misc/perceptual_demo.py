"""The whole chain of 4PP-EUSR in minutes: EUSR, two score predictors, 4PP-EUSR, on sample photos.

    python -m misc.perceptual_demo --output_path=perceptual_results

Each stage is a command that is printed before it runs; when the demo is stopped and started again,
the training that it was in goes on from its last checkpoint. `index.html` shows the results.

No ratings come with this project, so both predictors learn made-up ones: scikit-image's photos,
degraded, with scores that are a formula of the degradation (`score_predictors.sample_ratings`).
The "aesthetic" one stands in for a predictor trained on AVA and differs from the "subjective" one
by its seed alone. The chain is real; what the scores say of beauty is nothing.
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import json
import pathlib
import time

import numpy as np
from absl import flags

from degradations import resize
from misc.images import image_files, sample_data
from misc.reports import page
from misc.training.stages import Stage, executable

PREDICTORS = {"subjective": 0, "aesthetic": 1}  # name: seed
FACTOR = 4
# Weights that come with the project.
GIVEN = "eusr_small"
# Folders of pictures that are scored, and the validation and scale that wrote them.
BICUBIC, TRUTH = "bicubic", "truth"
VALIDATED = {
    GIVEN: (GIVEN, FACTOR),
    "EUSR": ("eusr", FACTOR),
    "4PP x2 path": ("4pp_eusr", 2),
    "4PP x4 path": ("4pp_eusr", 4),
    "4PP x8 path": ("4pp_eusr", 8),
}
SHOWN_GIVEN = (BICUBIC, GIVEN, TRUTH)
SHOWN = (BICUBIC, "EUSR", "4PP x4 path", TRUTH)
# Photo: window that is enlarged, as top, left, side in pixels.
WINDOWS = {"chelsea": (40, 130, 160), "coffee": (100, 160, 160)}
EXPLANATION = """<p>The scores come from two small predictors that learned <b>made-up ratings</b>:
sample photos were degraded by JPEG, noise, blur and pixelation, and each got a score that is a
formula of the degradation's level. Nobody rated them. The aesthetic predictor differs from the
subjective one by its seed alone, and stands in for one trained on AVA. The scores show that the
chain runs; they do not say which picture is better.</p>"""

NEXT = (
    "python -m misc.predict_folder --restore_path={folder}/4pp_eusr --scale=4 --input_path=PHOTOS "
    "--output_path=PHOTOS_X4",
    "python train.py --flagfile=score_predictors/recipes/quick.flags --dataloader=ratings "
    "--ratings_path=RATINGS.csv --train_path=train --weight_filename=mine.h5",
    "python train.py --flagfile=eusr/recipes/perceptual_small.flags --data_truth_path=PHOTOS "
    "--restore_path=runs/small --train_path=runs/4pp_eusr --eusr_aesthetic_nima_path=train/mine.h5 "
    "--eusr_subjective_nima_path={folder}/predictors/subjective.pb",
)


def define_flags():
    """Defines the command's flags."""
    flags.DEFINE_string("output_path", "perceptual_results", "Folder for everything that is made.")
    flags.DEFINE_integer("eusr_steps", 800, "Training steps of EUSR.", lower_bound=1)
    flags.DEFINE_integer("predictor_epochs", 30, "Epochs of each predictor.", lower_bound=1)
    flags.DEFINE_integer("perceptual_steps", 400, "Training steps of 4PP-EUSR.", lower_bound=1)


def main(settings):
    """Runs all stages; returns the exit status."""
    folder = pathlib.Path(settings.output_path).resolve()
    started = time.monotonic()
    print("The whole chain takes about 10 minutes on two cores of a recent CPU. Run again after a")
    print("stop, it goes on where it was. The ratings are made up: a formula of the degradation of")
    print("sample photos. They show that the chain runs, and nothing about beauty.")
    run_stages(folder, settings)
    rows = table(measure(folder))
    figures = (
        f"{page.align(rows)}\nMeans of {len(WINDOWS)} held-out photos. Scores: 1 to 10, made up."
    )
    minutes = (time.monotonic() - started) / 60
    course = f"{settings.eusr_steps} steps of EUSR and {settings.perceptual_steps} of 4PP-EUSR"
    written = write_page(folder, figures, f"Made in {minutes:.1f} minutes: {course}")
    print(f"\nDone in {minutes:.1f} minutes.\n\n{figures}\n\nPage with pictures:  {written}")
    print(f"Training curves:     {executable('tensorboard')} --logdir={folder}")
    return 0


def run_stages(folder, settings):
    """Trains, validates and scores everything in a folder, as long as the settings say."""

    def run(title, command, **values):
        Stage.from_text(title, command, folder=folder, **values).run()

    run(
        f"Validating the weights {GIVEN}, which come with the project, on sample photos",
        "validate.py --weights={weights} --scales={scale} --compare_bicubic "
        "--save_path={folder}/validation/{weights} --overwrite",
        weights=GIVEN,
        scale=FACTOR,
    )
    run(
        "EUSR, with the L1 loss",
        "train.py --flagfile=eusr/recipes/demo.flags --max_steps={steps} "
        "--train_path={folder}/eusr",
        steps=settings.eusr_steps,
    )
    for name, seed in PREDICTORS.items():
        run(
            f"The {name} score predictor, on made-up ratings of degraded sample photos",
            "train.py --flagfile=score_predictors/recipes/quick.flags --dataloader=sample_ratings "
            "--sample_ratings_path={folder}/sample_ratings --epochs={epochs} --save_freq=100 "
            "--log_freq=20 --validate_freq=200 --seed={seed} --train_path={folder}/predictors "
            "--weight_filename={name}.h5",
            name=name,
            seed=seed,
            epochs=settings.predictor_epochs,
        )
        run(
            f"Freezing the {name} score predictor",
            "freeze.py --restore_path={folder}/predictors/{name}.h5 --formats=pb "
            "--output_path={folder}/predictors/{name}.pb --overwrite",
            name=name,
        )
    run(
        "4PP-EUSR, from EUSR's generator, with both predictors",
        "train.py --flagfile=eusr/recipes/perceptual_demo.flags --max_steps={steps} "
        "--restore_path={folder}/eusr --train_path={folder}/4pp_eusr "
        "--eusr_aesthetic_nima_path={folder}/predictors/aesthetic.pb "
        "--eusr_subjective_nima_path={folder}/predictors/subjective.pb",
        steps=settings.perceptual_steps,
    )
    for model in ("eusr", "4pp_eusr"):
        run(
            f"Validating {model} on photos that were held out",
            "validate.py --model={model} --restore_path={folder}/{model} --scales={scales} "
            "--compare_bicubic --save_path={folder}/validation/{model} --overwrite",
            model=model,
            scales=",".join(str(scale) for owner, scale in VALIDATED.values() if owner == model),
        )
    collect_pictures(folder)
    for name in PREDICTORS:
        run(
            f"Scoring all pictures with the {name} predictor",
            "-m misc.predict_folder --frozen_path={folder}/predictors/{name}.pb --scoring=patches "
            "--scoring_patches=9 --input_path={folder}/pictures "
            "--output_path={folder}/scores/{name} --overwrite",
            name=name,
        )


def collect_pictures(folder):
    """Writes the pictures of all kinds as pictures/KIND/PHOTO.png."""
    for name, truth in sample_data.sample_photos("validation"):
        rows, columns = (length // FACTOR * FACTOR for length in truth.shape[:2])
        truth = truth[:rows, :columns]
        low = resize.matlab_bicubic(truth, 1 / FACTOR)
        kinds = {BICUBIC: resize.matlab_bicubic(low, FACTOR), TRUTH: truth}
        for kind, (model, scale) in VALIDATED.items():
            path = folder / "validation" / model / f"x{scale}" / f"{name}.png"
            kinds[kind] = image_files.read_rgb(path)
        for kind, pixels in kinds.items():
            image_files.write_image(folder / "pictures" / kind / f"{name}.png", pixels)


def measure(folder):
    """Returns {kind: {figure: mean over the photos}} of all pictures."""
    means = {
        model: json.loads((folder / "validation" / model / "results.json").read_text())["mean"]
        for model, _ in VALIDATED.values()
    }
    figures = {BICUBIC: {"psnr_y": means["eusr"][f"x{FACTOR}/bicubic_psnr_y"]}}
    for kind, (model, scale) in VALIDATED.items():
        figures[kind] = {"psnr_y": means[model][f"x{scale}/psnr_y"]}
    figures[TRUTH] = {"psnr_y": np.inf}
    for name in PREDICTORS:
        scores = json.loads((folder / "scores" / name / "scores.json").read_text())["images"]
        for kind, row in figures.items():
            found = [s["mean"] for s in scores if pathlib.Path(s["image"]).parent.name == kind]
            row[name] = np.mean(found)
    return figures


def table(figures):
    """Returns {kind: {figure: number}} as rows of texts."""
    rows = [[kind, *(f"{value:.2f}" for value in row.values())] for kind, row in figures.items()]
    return [["", "PSNR on Y in dB", *PREDICTORS], *rows]


def write_page(folder, figures, made):
    """Writes index.html with its pictures; returns its path."""
    path = folder / "index.html"
    page.write(
        path,
        "A small 4PP-EUSR at x4",
        f"<h2>With the weights {GIVEN}, which come with the project</h2>",
        _show(path, SHOWN_GIVEN),
        "<h2>Trained here</h2>",
        f"<pre>{figures}</pre>",
        f"<p>{made}, on scikit-image's sample photos; the photos here were held out.</p>",
        EXPLANATION,
        _show(path, SHOWN),
        "<h2>Go on</h2>",
        "<p>With photos and ratings of your own; the first line uses what was trained here:</p>",
        page.commands(command.format(folder=folder) for command in NEXT),
    )
    return path


def _show(path, kinds):
    """Returns a window of each photo, as pictures of several kinds show it, as HTML."""
    rows = [["", *kinds]]
    for photo, window in WINDOWS.items():
        pictures = []
        for kind in kinds:
            image = image_files.read_rgb(path.parent / "pictures" / kind / f"{photo}.png")
            pictures.append(page.enlarged_window(path, f"{photo} {kind}", image, window))
        rows.append([photo, *pictures])
    return page.table(rows)


if __name__ == "__main__":
    define_flags()
    entry_point.run(main, with_model=False)
