"""The whole way in minutes: train, validate, freeze and use a small EUSR on the sample photos.

    python -m misc.demo --output_path=demo_results

Each stage is a command that is printed before it runs, so it can be repeated by hand. The page
`index.html` in the output folder shows the results.
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import html
import json
import pathlib
import shlex
import subprocess
import sys
import time

import matplotlib
from absl import flags

from degradations import resize
from misc.images import files, image_files, sample_data
from misc.training import run_folder

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FLAGS = flags.FLAGS
ROOT = pathlib.Path(__file__).resolve().parents[1]
RECIPE = "eusr/recipes/demo.flags"
SCALES = (2, 4, 8)
# The photo that is shown, and the window of it that is enlarged: top, left, side in pixels.
SHOWN = "chelsea"
WINDOW = (40, 130, 160)


def define_flags():
    """Defines the command's flags."""
    flags.DEFINE_string("output_path", "demo_results", "Folder for everything that is made.")
    flags.DEFINE_integer(
        "max_steps", None, "Training steps; default: those of the recipe.", lower_bound=1
    )


def main(_):
    """Runs all stages; returns the exit status."""
    folder = pathlib.Path(FLAGS.output_path).resolve()
    started = time.monotonic()
    photos = folder / "photos"
    for name, pixels in sample_data.sample_photos("validation"):
        image_files.write_image(photos / f"{name}.png", pixels)
    run = folder / "run"
    steps = [f"--max_steps={FLAGS.max_steps}"] if FLAGS.max_steps else []
    print("The whole demo takes under 10 minutes on two cores of a recent CPU; a slower one needs")
    print("more, nearly all of it for training, which shows the time left.")
    run_stage("Training", "train.py", f"--flagfile={RECIPE}", *steps, f"--train_path={run}")
    results = folder / "validation"
    run_stage(
        "Validating on photos that were held out",
        *("validate.py", "--model=eusr", f"--restore_path={run}", "--compare_bicubic"),
        *(f"--save_path={results}", "--overwrite"),
    )
    frozen = folder / "frozen" / "eusr.pb"
    run_stage(
        "Freezing",
        *("freeze.py", "--model=eusr", f"--restore_path={run}"),
        *(f"--output_path={frozen}", "--overwrite"),
    )
    upscaled = folder / "upscaled"
    run_stage(
        "Upscaling a photo with the frozen graph",
        *("-m", "misc.predict_folder", f"--frozen_path={frozen}", "--scale=4"),
        *(f"--input_path={photos / SHOWN}.png", f"--output_path={upscaled}", "--overwrite"),
    )

    report = json.loads((results / "results.json").read_text())
    page = _write_page(folder, report, time.monotonic() - started)
    print(f"\nDone in {(time.monotonic() - started) / 60:.1f} minutes.\n")
    print(_table(report))
    print(f"\nPage with pictures:  {page}")
    print(f"Upscaled photo:      {upscaled / SHOWN}.png")
    print(f"Frozen graphs:       {frozen.parent}")
    print(f"Training curves:     {executable('tensorboard')} --logdir={run}")
    worse = [scale for scale in SCALES if _gain(report, scale) <= 0]
    if worse:
        print(f"\nBicubic is still better at {worse}: train longer with --max_steps.")
    return 1 if worse else 0


def run_stage(title, *command):
    """Prints and runs `python COMMAND...`.

    Raises:
        ValueError: if it fails; names the command.
    """
    shown = " ".join(shlex.quote(str(part)) for part in ("python", *command))
    print(f"\n== {title}\n$ {shown}\n", flush=True)
    status = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, check=False).returncode
    if status:
        raise ValueError(f"This command ended with status {status}: {shown}")


def _gain(report, scale):
    return report["mean"][f"x{scale}/psnr_y"] - report["mean"][f"x{scale}/bicubic_psnr_y"]


def _table(report):
    """Returns the means as lines of text."""
    lines = ["scale   bicubic       EUSR       gain   (PSNR on Y in dB, mean of held-out photos)"]
    for scale in SCALES:
        mean = report["mean"]
        lines.append(
            f"x{scale:<5} {mean[f'x{scale}/bicubic_psnr_y']:9.2f}  {mean[f'x{scale}/psnr_y']:9.2f}"
            f"  {_gain(report, scale):+9.2f}"
        )
    return "\n".join(lines)


def executable(name):
    """Returns the path of a program of this environment, or its name if it lies elsewhere."""
    path = pathlib.Path(sys.executable).parent / name
    return path if path.exists() else name


def _write_page(folder, report, seconds):
    """Writes index.html with its pictures; returns its path."""
    pictures = folder / "page"
    _plot_curves(folder / "run", pictures / "curves.png")
    rows = []
    for scale in SCALES:
        cells = "".join(
            f'<td><img src="page/{_write_crop(folder, pictures, scale, kind)}" '
            f'alt="{kind} x{scale}"></td>'
            for kind in ("input", "bicubic", "EUSR", "truth")
        )
        rows.append(f"<tr><th>x{scale}</th>{cells}</tr>")
    page = folder / "index.html"
    with files.write_atomically(page) as temporary:
        temporary.write_text(
            PAGE.format(
                table=html.escape(_table(report)),
                rows="\n".join(rows),
                step=report["step"],
                minutes=f"{seconds / 60:.1f}",
                photo=html.escape(SHOWN),
            )
        )
    return page


def _write_crop(folder, pictures, scale, kind):
    """Writes one enlarged window as a PNG; returns its name."""
    truth = image_files.read_rgb(folder / "photos" / f"{SHOWN}.png")
    truth = truth[: truth.shape[0] // scale * scale, : truth.shape[1] // scale * scale]
    low = resize.matlab_bicubic(truth, 1 / scale)
    pixels = {
        "input": lambda: low.repeat(scale, 0).repeat(scale, 1),
        "bicubic": lambda: resize.matlab_bicubic(low, scale),
        "EUSR": lambda: image_files.read_rgb(folder / "validation" / f"x{scale}" / f"{SHOWN}.png"),
        "truth": lambda: truth,
    }[kind]()
    top, left, side = WINDOW
    crop = pixels[top : top + side, left : left + side]
    name = f"x{scale}_{kind}.png"
    image_files.write_image(pictures / name, crop.repeat(2, 0).repeat(2, 1))
    return name


def _plot_curves(run, path):
    """Plots loss and validation of a run over its steps."""
    history = run_folder.read_history(run)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for scale in SCALES:
        losses = [(r["step"], r["loss"]) for r in history if r.get("tag") == f"x{scale}"]
        key = f"validation/x{scale}/psnr_y"
        quality = [(r["step"], r[key]) for r in history if key in r]
        for axes, points in ((left, losses), (right, quality)):
            axes.plot(*zip(*points, strict=True), marker=".", label=f"x{scale}")
    left.set(xlabel="step", ylabel="training loss in grey levels", yscale="log")
    right.set(xlabel="step", ylabel="PSNR on Y, held-out photos, in dB")
    right.legend()
    with files.write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)


PAGE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>EUSR demo</title>
<style>
body {{ font-family: sans-serif; margin: 2em; max-width: 1440px; }}
td {{ padding: 2px; }} th {{ text-align: left; padding-right: 1em; }}
pre {{ background: #f2f2f2; padding: 1em; display: inline-block; }}
</style>
<h1>A small EUSR after {step} steps</h1>
<pre>{table}</pre>
<p>Trained, validated, frozen and applied in {minutes} minutes on scikit-image's sample photos; the
photos below were held out. A window of {photo}, enlarged:</p>
<table>
<tr><th></th><th>input</th><th>bicubic</th><th>EUSR</th><th>truth</th></tr>
{rows}
</table>
<h2>Training</h2>
<img src="page/curves.png" alt="loss and validation over the steps">
</html>
"""


if __name__ == "__main__":
    define_flags()
    entry_point.run(main, with_model=False)
