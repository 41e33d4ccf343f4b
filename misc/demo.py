"""The whole way in minutes: train, validate, freeze and use a small EUSR on the sample photos.

    python -m misc.demo --output_path=demo_results

Each stage is a command that is printed before it runs, so it can be repeated by hand. The page
`index.html` in the output folder shows the results.
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import json
import pathlib
import time

from absl import flags

from degradations import resize
from misc.images import image_files, sample_data
from misc.reports import page, plots
from misc.training import run_folder
from misc.training.stages import Stage, executable

SCALES = (2, 4, 8)
# The photo that is shown, and the window of it that is enlarged: top, left, side in pixels.
SHOWN = "chelsea"
WINDOW = (40, 130, 160)
STAGES = {
    "Training": "train.py --flagfile=eusr/recipes/demo.flags --max_steps={steps} "
    "--train_path={folder}/run",
    "Validating on photos that were held out": "validate.py --model=eusr --compare_bicubic "
    "--restore_path={folder}/run --save_path={folder}/validation --overwrite",
    "Freezing": "freeze.py --model=eusr --restore_path={folder}/run "
    "--output_path={folder}/frozen/eusr.pb --overwrite",
    "Upscaling a photo with the frozen graph": "-m misc.predict_folder --scale=4 "
    "--frozen_path={folder}/frozen/eusr.pb --input_path={folder}/photos/{photo}.png "
    "--output_path={folder}/upscaled --overwrite",
}


def define_flags():
    """Defines the command's flags."""
    flags.DEFINE_string("output_path", "demo_results", "Folder for everything that is made.")
    flags.DEFINE_integer("max_steps", 1500, "Training steps.", lower_bound=1)


def main(settings):
    """Runs all stages; returns the exit status."""
    folder = pathlib.Path(settings.output_path).resolve()
    started = time.monotonic()
    for name, pixels in sample_data.sample_photos("validation"):
        image_files.write_image(folder / "photos" / f"{name}.png", pixels)
    print("The whole demo takes under 10 minutes on two cores of a recent CPU; a slower one needs")
    print("more, nearly all of it for training, which shows the time left.")
    values = {"folder": folder, "steps": settings.max_steps, "photo": SHOWN}
    for title, command in STAGES.items():
        Stage.from_text(title, command, **values).run()
    results = json.loads((folder / "validation" / "results.json").read_text())
    rows = table(results["mean"])
    minutes = (time.monotonic() - started) / 60
    written = write_page(folder, page.align(rows), results["step"], minutes)
    print(f"\nDone in {minutes:.1f} minutes.\n\n{page.align(rows)}\n")
    print(f"Page with pictures:  {written}")
    print(f"Upscaled photo:      {folder / 'upscaled' / SHOWN}.png")
    print(f"Frozen graphs:       {folder / 'frozen'}")
    print(f"Training curves:     {executable('tensorboard')} --logdir={folder / 'run'}")
    worse = [scale for scale, *_, gain in rows[1:] if float(gain) <= 0]
    if worse:
        print(f"\nBicubic is still better at {', '.join(worse)}: train longer with --max_steps.")
    return 1 if worse else 0


def table(means):
    """Returns the mean PSNR on Y of all scales as rows of texts."""
    rows = [["PSNR on Y in dB", "bicubic", "EUSR", "gain"]]
    for scale in SCALES:
        bicubic, eusr = means[f"x{scale}/bicubic_psnr_y"], means[f"x{scale}/psnr_y"]
        rows.append([f"x{scale}", f"{bicubic:.2f}", f"{eusr:.2f}", f"{eusr - bicubic:+.2f}"])
    return rows


def write_page(folder, figures, step, minutes):
    """Writes index.html with its pictures; returns its path."""
    path = folder / "index.html"
    rows = [["", "input", "bicubic", "EUSR", "truth"]]
    photo = image_files.read_rgb(folder / "photos" / f"{SHOWN}.png")
    for scale in SCALES:
        truth = photo[: photo.shape[0] // scale * scale, : photo.shape[1] // scale * scale]
        low = resize.matlab_bicubic(truth, 1 / scale)
        images = [
            low.repeat(scale, 0).repeat(scale, 1),
            resize.matlab_bicubic(low, scale),
            image_files.read_rgb(folder / "validation" / f"x{scale}" / f"{SHOWN}.png"),
            truth,
        ]
        named = zip(rows[0][1:], images, strict=True)
        rows.append(
            [f"x{scale}"]
            + [
                page.enlarged_window(path, f"x{scale} {kind}", image, WINDOW)
                for kind, image in named
            ]
        )
    page.write(
        path,
        f"A small EUSR after {step} steps",
        f"<pre>{figures}</pre>",
        f"<p>Trained, validated, frozen and applied in {minutes:.1f} minutes on scikit-image's "
        "sample photos; the figures are means of the photos that were held out. A window of "
        f"{SHOWN}, one of them, enlarged:</p>",
        page.table(rows),
        "<h2>Training</h2>",
        *_write_curves(folder),
    )
    return path


def _write_curves(folder):
    """Yields pictures of loss and validation of the run over its steps, as HTML."""
    history = run_folder.read_history(folder / "run")
    losses, quality = {}, {}
    for tag in (f"x{scale}" for scale in SCALES):
        key = f"validation/{tag}/psnr_y"
        losses[tag] = [(row["step"], row["loss"]) for row in history if row.get("tag") == tag]
        quality[tag] = [(row["step"], row[key]) for row in history if key in row]
    for name, label, curves, y_scale in (
        ("loss", "training loss in grey levels", losses, "log"),
        ("psnr_y", "PSNR on Y, held-out photos, in dB", quality, "linear"),
    ):
        picture = plots.draw_curves([plots.Panel("step", curves)], label, y_scale=y_scale)
        image_files.write_image(folder / "page" / f"{name}.png", picture)
        yield page.picture(f"page/{name}.png", label)


if __name__ == "__main__":
    define_flags()
    entry_point.run(main, with_model=False)
