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

import html
import json
import pathlib
import time

import numpy as np
from absl import flags

from degradations import resize
from misc import demo
from misc.images import files, image_files, sample_data

FLAGS = flags.FLAGS
PREDICTORS = {"subjective": 0, "aesthetic": 1}  # name: seed
FACTOR = 4
# Folders of pictures that are scored and shown, and where validation wrote them.
BICUBIC, EUSR, TRUTH = "bicubic", "EUSR", "truth"
PERCEPTUAL = {2: "4PP x2 path", 4: "4PP x4 path", 8: "4PP x8 path"}
SHOWN = (BICUBIC, EUSR, PERCEPTUAL[4], TRUTH)
# Photo: window that is enlarged, as top, left, side in pixels.
WINDOWS = {"chelsea": (40, 130, 160), "coffee": (100, 160, 160)}


def define_flags():
    """Defines the command's flags."""
    flags.DEFINE_string("output_path", "perceptual_results", "Folder for everything that is made.")
    flags.DEFINE_integer("eusr_steps", 800, "Training steps of EUSR.", lower_bound=1)
    flags.DEFINE_integer("predictor_epochs", 30, "Epochs of each predictor.", lower_bound=1)
    flags.DEFINE_integer("perceptual_steps", 400, "Training steps of 4PP-EUSR.", lower_bound=1)


def main(_):
    """Runs all stages; returns the exit status."""
    folder = pathlib.Path(FLAGS.output_path).resolve()
    started = time.monotonic()
    print("The whole chain takes about 10 minutes on two cores of a recent CPU. Run again after a")
    print("stop, it goes on where it was. The ratings are made up: a formula of the degradation of")
    print("sample photos. They show that the chain runs, and nothing about beauty.")
    _train_eusr(folder)
    for name, seed in PREDICTORS.items():
        _train_predictor(folder, name, seed)
    _train_perceptual(folder)
    _validate(folder)
    rows = _measure(folder)
    minutes = (time.monotonic() - started) / 60
    page = _write_page(folder, rows, minutes)
    print(f"\nDone in {minutes:.1f} minutes.\n\n{_table(rows)}\n\nPage with pictures:  {page}")
    print(f"Training curves:     {demo.executable('tensorboard')} --logdir={folder}")
    return 0


def _train_eusr(folder):
    demo.run_stage(
        "EUSR, with the L1 loss",
        *("train.py", f"--flagfile={demo.RECIPE}", f"--max_steps={FLAGS.eusr_steps}"),
        f"--train_path={folder / 'eusr'}",
    )


def _train_predictor(folder, name, seed):
    runs = folder / "predictors"
    demo.run_stage(
        f"The {name} score predictor, on made-up ratings of degraded sample photos",
        *("train.py", "--flagfile=score_predictors/recipes/quick.flags"),
        *("--dataloader=sample_ratings", f"--sample_ratings_path={folder / 'sample_ratings'}"),
        *(f"--epochs={FLAGS.predictor_epochs}", "--save_freq=100", "--log_freq=20"),
        *("--validate_freq=200", f"--seed={seed}"),
        *(f"--train_path={runs}", f"--weight_filename={name}.h5"),
    )
    demo.run_stage(
        f"Freezing the {name} score predictor",
        *("freeze.py", f"--restore_path={runs / name}.h5", "--formats=pb"),
        *(f"--output_path={runs / name}.pb", "--overwrite"),
    )


def _train_perceptual(folder):
    demo.run_stage(
        "4PP-EUSR, from EUSR's generator, with both predictors",
        *("train.py", "--flagfile=eusr/recipes/perceptual_demo.flags"),
        *(f"--max_steps={FLAGS.perceptual_steps}", f"--restore_path={folder / 'eusr'}"),
        f"--eusr_aesthetic_nima_path={folder / 'predictors' / 'aesthetic.pb'}",
        f"--eusr_subjective_nima_path={folder / 'predictors' / 'subjective.pb'}",
        f"--train_path={folder / '4pp_eusr'}",
    )


def _validate(folder):
    for model, scales in (("eusr", [FACTOR]), ("4pp_eusr", list(PERCEPTUAL))):
        demo.run_stage(
            f"Validating {model} on photos that were held out",
            *("validate.py", f"--model={model}", f"--restore_path={folder / model}"),
            *(f"--scales={','.join(map(str, scales))}", "--compare_bicubic", "--overwrite"),
            f"--save_path={folder / 'validation' / model}",
        )


def _measure(folder):
    """Collects all pictures and scores them; returns {kind: {figure: mean over photos}}."""
    pictures = folder / "pictures"
    for name, truth in sample_data.sample_photos("validation"):
        rows, columns = (length // FACTOR * FACTOR for length in truth.shape[:2])
        truth = truth[:rows, :columns]
        low = resize.matlab_bicubic(truth, 1 / FACTOR)
        kinds = {
            BICUBIC: resize.matlab_bicubic(low, FACTOR),
            EUSR: image_files.read_rgb(
                folder / "validation" / "eusr" / f"x{FACTOR}" / f"{name}.png"
            ),
            TRUTH: truth,
        }
        for path, kind in PERCEPTUAL.items():
            kinds[kind] = image_files.read_rgb(
                folder / "validation" / "4pp_eusr" / f"x{path}" / f"{name}.png"
            )
        for kind, pixels in kinds.items():
            image_files.write_image(pictures / kind / f"{name}.png", pixels)
    reports = {
        model: json.loads((folder / "validation" / model / "results.json").read_text())["mean"]
        for model in ("eusr", "4pp_eusr")
    }
    psnr = {
        BICUBIC: reports["eusr"][f"x{FACTOR}/bicubic_psnr_y"],
        EUSR: reports["eusr"][f"x{FACTOR}/psnr_y"],
        **{kind: reports["4pp_eusr"][f"x{p}/psnr_y"] for p, kind in PERCEPTUAL.items()},
        TRUTH: float("inf"),
    }
    scores = {name: _score(folder, pictures, name) for name in PREDICTORS}
    return {
        kind: {"psnr_y": value} | {name: np.mean(scores[name][kind]) for name in PREDICTORS}
        for kind, value in psnr.items()
    }


def _score(folder, pictures, name):
    """Returns {kind: predicted mean scores of its pictures}."""
    output = folder / "scores" / name
    demo.run_stage(
        f"Scoring all pictures with the {name} predictor",
        *("-m", "misc.predict_folder", f"--frozen_path={folder / 'predictors' / name}.pb"),
        *("--scoring=patches", "--scoring_patches=9", f"--input_path={pictures}"),
        *(f"--output_path={output}", "--overwrite"),
    )
    found = {}
    for row in json.loads((output / "scores.json").read_text())["images"]:
        found.setdefault(pathlib.Path(row["image"]).parent.as_posix(), []).append(row["mean"])
    return found


def _table(rows):
    """Returns the figures as lines of text."""
    lines = [f"{'':12} {'PSNR on Y':>10} {'subjective':>11} {'aesthetic':>10}"]
    for kind, row in rows.items():
        lines.append(
            f"{kind:12} {row['psnr_y']:>7.2f} dB {row['subjective']:>11.2f} "
            f"{row['aesthetic']:>10.2f}"
        )
    return "\n".join(
        [*lines, f"Means of {len(WINDOWS)} held-out photos. Scores: 1 to 10, made up, see above."]
    )


def _write_page(folder, rows, minutes):
    """Writes index.html with its pictures; returns its path."""
    cells = []
    for photo, window in WINDOWS.items():
        row = "".join(
            f'<td><img src="{_write_crop(folder, photo, kind, window)}" alt="{kind}"></td>'
            for kind in SHOWN
        )
        cells.append(f"<tr><th>{html.escape(photo)}</th>{row}</tr>")
    page = folder / "index.html"
    with files.write_atomically(page) as temporary:
        temporary.write_text(
            PAGE.format(
                table=html.escape(_table(rows)),
                heads="".join(f"<th>{html.escape(kind)}</th>" for kind in SHOWN),
                rows="\n".join(cells),
                steps=f"{FLAGS.eusr_steps} steps of EUSR and {FLAGS.perceptual_steps} of 4PP-EUSR",
                minutes=f"{minutes:.1f}",
            )
        )
    return page


def _write_crop(folder, photo, kind, window):
    """Writes an enlarged window as a PNG; returns its path from the page."""
    top, left, side = window
    pixels = image_files.read_rgb(folder / "pictures" / kind / f"{photo}.png")
    crop = pixels[top : top + side, left : left + side]
    path = pathlib.Path("page", f"{photo}_{kind.replace(' ', '_')}.png")
    image_files.write_image(folder / path, crop.repeat(2, 0).repeat(2, 1))
    return path.as_posix()


PAGE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>4PP-EUSR demo</title>
<style>
body {{ font-family: sans-serif; margin: 2em; max-width: 1440px; }}
td {{ padding: 2px; }} th {{ text-align: left; padding-right: 1em; }}
pre {{ background: #f2f2f2; padding: 1em; display: inline-block; }}
</style>
<h1>A small 4PP-EUSR at x4</h1>
<pre>{table}</pre>
<p>Made in {minutes} minutes: {steps}, on scikit-image's sample photos; the photos here were held
out.</p>
<p>The scores come from two small predictors that learned <b>made-up ratings</b>: sample photos were
degraded by JPEG, noise, blur and pixelation, and each got a score that is a formula of the
degradation's level. Nobody rated them. The aesthetic predictor differs from the subjective one by
its seed alone, and stands in for one trained on AVA. The scores show that the chain runs; they do
not say which picture is better.</p>
<table>
<tr><th></th>{heads}</tr>
{rows}
</table>
</html>
"""


if __name__ == "__main__":
    define_flags()
    entry_point.run(main, with_model=False)
