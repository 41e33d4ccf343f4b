"""The whole way in minutes: train, validate, freeze and use a small EUSR on the sample photos.

    python -m misc.demo --output_path=demo_results

It begins with what the weights that come with the project do. Each stage is a command that is
printed before it runs, so it can be repeated by hand. The page `index.html` in the output folder
shows the results.
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import json
import pathlib
import time

import numpy as np
from absl import flags

import degradations
from degradations import resize
from misc.images import image_files, sample_data
from misc.reports import contact_sheet, page, plots
from misc.training import run_folder, trained_weights
from misc.training.stages import Stage, executable

SCALES = (2, 4, 8)
# The photo that is shown, and the window of it that is enlarged: top, left, side in pixels.
SHOWN = "chelsea"
WINDOW = (40, 130, 160)
# Of weights that come with the project, if there are any, by scale: what is done, and the input.
GIVEN = {
    4: ("Upscaling a photo", "small"),
    1: ("Repairing a photo that JPEG damaged", "compressed"),
}
QUALITY = 15
GIVEN_STAGE = (
    "-m misc.predict_folder --scale={scale} --input_path={folder}/given/{input}/{photo}.png "
    "--output_path={folder}/given/x{scale} --overwrite"
)
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

NEXT = (
    "python -m misc.predict_folder --restore_path={folder}/run --scale=4 --input_path=PHOTOS "
    "--output_path=PHOTOS_X4",
    "python train.py --flagfile=eusr/recipes/small.flags --data_truth_path=PHOTOS "
    "--train_path=runs/small",
    "python train.py --flagfile=eusr/recipes/photo.flags --data_truth_path=PHOTOS "
    "--train_path=runs/photo",
    "python -m misc.perceptual_demo",
)


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
    given = run_given(folder)
    values = {"folder": folder, "steps": settings.max_steps, "photo": SHOWN}
    for title, command in STAGES.items():
        Stage.from_text(title, command, **values).run()
    results = json.loads((folder / "validation" / "results.json").read_text())
    rows = table(results["mean"])
    minutes = (time.monotonic() - started) / 60
    written = write_page(folder, page.align(rows), results["step"], minutes, given)
    print(f"\nDone in {minutes:.1f} minutes.\n\n{page.align(rows)}\n")
    print(f"Page with pictures:  {written}")
    print(f"Upscaled photo:      {folder / 'upscaled' / SHOWN}.png")
    print(f"Frozen graphs:       {folder / 'frozen'}")
    print(f"Training curves:     {executable('tensorboard')} --logdir={folder / 'run'}")
    worse = [scale for scale, *_, gain in rows[1:] if float(gain) <= 0]
    if worse:
        print(f"\nBicubic is still better at {', '.join(worse)}: train longer with --max_steps.")
    return 1 if worse else 0


def run_given(folder):
    """Upscales and repairs a photo with weights that come with the project.

    Returns {scale: name of the weights}, {} where none came.
    """
    found = {scale: trained_weights.for_scale(str(scale)) for scale in GIVEN}
    found = {scale: name for scale, name in found.items() if name}
    photo = image_files.read_rgb(folder / "photos" / f"{SHOWN}.png")
    inputs = {"small": lambda: resize.matlab_bicubic(_cropped(photo, 4), 1 / 4)}
    inputs["compressed"] = lambda: _compressed(photo)
    for scale, name in found.items():
        title, kind = GIVEN[scale]
        image_files.write_image(folder / "given" / kind / f"{SHOWN}.png", inputs[kind]())
        values = {"folder": folder, "scale": scale, "input": kind, "photo": SHOWN}
        Stage.from_text(f"{title} with the weights {name}", GIVEN_STAGE, **values).run()
    return found


def _compressed(photo):
    layer = degradations.parse(f"jpeg:{QUALITY}")
    return np.asarray(layer(photo[None].astype(np.float32), seed=0))[0].astype(np.uint8)


def _cropped(photo, scale):
    return photo[: photo.shape[0] // scale * scale, : photo.shape[1] // scale * scale]


def table(means):
    """Returns the mean PSNR on Y of all scales as rows of texts."""
    rows = [["PSNR on Y in dB", "bicubic", "EUSR", "gain"]]
    for scale in SCALES:
        bicubic, eusr = means[f"x{scale}/bicubic_psnr_y"], means[f"x{scale}/psnr_y"]
        rows.append([f"x{scale}", f"{bicubic:.2f}", f"{eusr:.2f}", f"{eusr - bicubic:+.2f}"])
    return rows


def write_page(folder, figures, step, minutes, given):
    """Writes index.html with its pictures; returns its path."""
    path = folder / "index.html"
    rows = [["", "input", "bicubic", "EUSR", "truth"]]
    photo = image_files.read_rgb(folder / "photos" / f"{SHOWN}.png")
    for scale in SCALES:
        truth = _cropped(photo, scale)
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
        *_show_given(folder, photo, given),
        f"<h2>Trained here, in {step} steps</h2>",
        f"<pre>{figures}</pre>",
        f"<p>Trained, validated, frozen and applied in {minutes:.1f} minutes on scikit-image's "
        "sample photos; the figures are means of the photos that were held out. A window of "
        f"{SHOWN}, one of them, enlarged:</p>",
        page.table(rows),
        "<h2>Training</h2>",
        *_write_curves(folder),
        "<h2>Go on</h2>",
        "<p>With photos of your own, more steps, or for looks:</p>",
        page.commands(command.format(folder=folder) for command in NEXT),
    )
    return path


def _show_given(folder, photo, given):
    """Yields what weights that come with the project did, as HTML; writes given/pairs.png."""
    top, left, side = WINDOW
    rows = []
    for scale, name in given.items():
        title, kind = GIVEN[scale]
        low = image_files.read_rgb(folder / "given" / kind / f"{SHOWN}.png")
        images = {"input": low.repeat(scale, 0).repeat(scale, 1)}
        if scale > 1:
            images["bicubic"] = resize.matlab_bicubic(low, scale)
        images[name] = image_files.read_rgb(folder / "given" / f"x{scale}" / f"{SHOWN}.png")
        images["truth"] = _cropped(photo, scale)
        windows = [
            (label, image[top : top + side, left : left + side]) for label, image in images.items()
        ]
        rows.append((f"{title}, x{scale}" if scale > 1 else title, windows))
    if rows:
        picture = contact_sheet.draw_sheet(rows, 2 * side, columns=1)
        image_files.write_image(folder / "given" / "pairs.png", picture)
        yield "<h2>With the weights that come with the project</h2>"
        yield page.picture("given/pairs.png", "photos upscaled and repaired, beside the truth")


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
        curves = {f"EUSR at {tag}": points for tag, points in curves.items()}
        picture = plots.draw_curves([plots.Panel("step", curves)], label, y_scale=y_scale)
        image_files.write_image(folder / "page" / f"{name}.png", picture)
        yield page.picture(f"page/{name}.png", label)


if __name__ == "__main__":
    define_flags()
    entry_point.run(main, with_model=False)
