"""Command: stores degraded copies of all images of a folder, or shows degradations on one image.

    python -m misc.degrade_folder --input_path=ImageNet/val --output_path=ImageNet-C \\
        --degradations=imagenet_c --severities=1-5 --resize=256 --crop=224
    python -m misc.degrade_folder --input_path=photos --output_path=jpeg10 \\
        --degradations=jpeg:10 --degradations='noise:25|jpeg:quality=30,subsampling=444'
    python -m misc.degrade_folder --show=sheet.png [--input_path=photo.jpg]
    python -m misc.degrade_folder --list

Copies are stored as DEGRADATION/SEVERITY/, then the image's path below --input_path, as ImageNet-C
is; or, with --layout=flat, in one folder. A run that was stopped goes on where it was. Beside the
images stand statistics.json and statistics.csv: mean bytes (of the codec, where the degradation is
one, else of the stored file), bits per pixel and PSNR for each degradation and severity.
"""

from misc.training import entry_point  # isort: skip; sets up logging before TensorFlow is loaded

import os
import pathlib

import numpy as np
from absl import flags

import degradations
from misc.images import (
    degraded_copies,
    engines,
    files,
    image_files,
    locks,
    progress,
    resizing,
    sample_data,
    threads,
)
from misc.reports import contact_sheet, report
from misc.training import command_line

STATISTICS = "statistics"
# What --show shows unless told otherwise: each degradation that has severities.
SHOWN = ("imagenet_c", "imagenet_c_extra", "imagenet_c_bar", "cifar_c_bar", "colour")
SHOWN_SIDE = 224


def define_flags():
    """Defines the flags of this command."""
    flags.DEFINE_string(
        "input_path", None, "Folder whose images are all used, with its subfolders; or one image."
    )
    flags.DEFINE_string("output_path", None, "Folder for the copies.")
    flags.DEFINE_multi_string(
        "degradations",
        [],
        "Degradation such as fog, fog@3, jpeg:10 or 'blur:2|jpeg:10', or a group such as "
        "imagenet_c; may be repeated. --list shows all.",
    )
    flags.DEFINE_string(
        "severities", "1-5", "Severities of degradations that name no level, such as 1-5 or 1,3."
    )
    flags.DEFINE_enum(
        "severity_size",
        "224",
        ["224", "64", "32"],
        "Size of the images that the severities were made for: ImageNet, Tiny-ImageNet, CIFAR.",
    )
    flags.DEFINE_integer(
        "resize",
        None,
        "First resize the shorter side to this length; ImageNet-C: 256.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "crop",
        None,
        "Then cut out the central square of this side; ImageNet-C: 224.",
        lower_bound=1,
    )
    flags.DEFINE_enum(
        "layout",
        "imagenet_c",
        degraded_copies.LAYOUTS,
        "DEGRADATION/SEVERITY/PATH as in ImageNet-C, or one flat folder.",
    )
    flags.DEFINE_enum(
        "format", "png", degraded_copies.FORMATS, "Format of the copies: png is lossless."
    )
    flags.DEFINE_integer(
        "quality",
        degraded_copies.JPEG_QUALITY,
        "Quality of --format=jpeg; ImageNet-C has 85.",
        lower_bound=1,
        upper_bound=100,
    )
    flags.DEFINE_integer("seed", 0, "Seed of all random draws.")
    flags.DEFINE_integer(
        "workers", max(2, os.cpu_count() or 1), "Images worked on at once.", lower_bound=1
    )
    flags.DEFINE_bool("overwrite", False, "Replace existing copies; otherwise they are skipped.")
    flags.DEFINE_bool("skip_broken", False, "Go on after images that cannot be read.")
    flags.DEFINE_string(
        "show", None, "Write one picture of all degradations and severities to this file instead."
    )
    flags.DEFINE_bool("list", False, "Print all degradations as a Markdown table instead.")


def main(settings):
    """Runs the command; returns its exit status."""
    if settings.list:
        print(format_table())
        return 0
    severities = degraded_copies.parse_severities(settings.severities)
    size = int(settings.severity_size)
    if settings.show:
        variants = degraded_copies.create_variants(
            settings.degradations or _shown_by_default(), severities, size
        )
        show(settings.show, settings.input_path, variants, settings.seed)
        print(f"{len(variants)} degraded images shown in {settings.show}")
        return 0
    for name in ("input_path", "output_path", "degradations"):
        if not settings.get(name):
            raise ValueError(command_line.describe_missing(name))
    counts = degrade_folder(
        settings.input_path,
        settings.output_path,
        degraded_copies.create_variants(settings.degradations, severities, size),
        seed=settings.seed,
        resize=settings.resize,
        crop=settings.crop,
        layout=settings.layout,
        output_format=settings.format,
        quality=settings.quality,
        workers=settings.workers,
        overwrite=settings.overwrite,
        skip_broken=settings.skip_broken,
    )
    print(
        f"{counts['written']} copies written to {settings.output_path}, {counts['present']} were "
        f"there already, {len(counts['broken'])} images skipped"
    )
    for message in counts["broken"]:
        print(f"skipped: {message}")
    return 1 if counts["broken"] else 0


def degrade_folder(
    input_path,
    output_path,
    variants,
    seed=0,
    resize=None,
    crop=None,
    layout="imagenet_c",
    output_format="png",
    quality=degraded_copies.JPEG_QUALITY,
    workers=2,
    overwrite=False,
    skip_broken=False,
):
    """Stores degraded copies of all images of a folder, and statistics about them.

    Args:
        input_path: folder of images, searched with its subfolders; or one image.
        output_path: folder for the copies.
        variants: list of `degraded_copies.Variant`.
        seed: seed of all draws.
        resize: length of the shorter side that images are resized to first, or None.
        crop: side of the central square that is then cut out, or None.
        layout: "imagenet_c" or "flat", see `degraded_copies.plan`.
        output_format: "png" or "jpeg".
        quality: quality of JPEG copies.
        workers: number of images that are worked on at once.
        overwrite: whether to make copies again that are there already.
        skip_broken: whether to leave out images that cannot be read instead of raising.

    Returns:
        `{"written": copies, "present": copies that were there, "broken": list of messages}`.

    Raises:
        ValueError: if there is no image, two copies would be one file, the folder holds results of
            other settings, or an image is broken (named).
        OSError: if another process writes to the folder, or the disk takes no more.
    """
    found, folder = image_files.find_inputs(input_path, output_path, apart=True)
    jobs = degraded_copies.plan(found, folder, output_path, variants, layout, output_format)
    settings = {"seed": seed, "format": output_format, "layout": layout}
    settings |= {"resize": resize, "crop": crop}
    if output_format == "jpeg":
        settings["quality"] = quality
    degrader = degraded_copies.Degrader((crop, crop) if crop else _common_size(found, resize))

    def work(job):
        source, copies = job
        todo = [
            copy
            for copy in copies
            if overwrite or copy.target not in records or not copy.target.exists()
        ]
        try:
            written = degrade_image(source, todo) if todo else 0
        except ValueError as error:
            message = str(error) if str(source) in str(error) else f"{source}: {error}"
            raise ValueError(message) from error
        return written, len(copies) - written

    def degrade_image(source, todo):
        written = 0
        pixels = resizing.resize_and_crop(image_files.read_rgb(source), resize, crop)
        for copy in todo:
            if copy.target.exists() and not overwrite:
                degraded_copies.measure_copy(copy, pixels, records, output_format)
                continue
            relative = source.relative_to(folder)
            own_seed = degraded_copies.make_seed(seed, relative, copy.variant.name)
            degraded_copies.write_copy(
                copy, pixels, degrader, own_seed, records, output_format, quality
            )
            written += 1
        return written

    with locks.hold(output_path):
        files.sweep({copy.target.parent for _, copies in jobs for copy in copies})
        records = degraded_copies.Records(output_path, settings, overwrite)
        with engines.open_executor("local", workers) as executor:
            counts, broken = threads.for_each(
                work, jobs, "Degrading", skip_broken, executor=executor
            )
        rows = records.statistics()
        files.write_json(pathlib.Path(output_path, f"{STATISTICS}.json"), rows)
        report.write_table(pathlib.Path(output_path, f"{STATISTICS}.csv"), rows)
    written, present = np.sum([(0, 0), *filter(None, counts)], axis=0).tolist()
    return {"written": written, "present": present, "broken": broken}


def _common_size(found, resize):
    """Returns (height, width) of all images, or None where they differ or will be resized."""
    if resize:
        return None
    common = None
    for path in found:
        try:
            size = image_files.image_size(path)
        except ValueError:
            continue  # reported when its turn comes
        if common not in (None, size):
            return None
        common = size
    return common


def _shown_by_default():
    return list(dict.fromkeys(name for group in SHOWN for name in degradations.GROUPS[group]))


def show(path, input_path, variants, seed=0, tile=112, columns=3):
    """Writes one picture of an image in all variants, a row for each degradation.

    Args:
        path: picture to write; its extension says the format.
        input_path: image file, of which the middle is shown at 224x224; None takes a sample photo.
        variants: list of `degraded_copies.Variant`.
        seed: seed of all draws.
        tile: side of an image in the picture.
        columns: number of columns of rows.

    Raises:
        ValueError: if the image cannot be read or the picture not be written.
    """
    if input_path is None:
        image, name = dict(sample_data.sample_photos("validation"))["chelsea"], "chelsea"
    elif pathlib.Path(input_path).is_dir():
        raise ValueError(f"--show takes one image as --input_path. Received: {input_path}")
    else:
        image, name = image_files.read_rgb(input_path), pathlib.Path(input_path).name
    image = contact_sheet.crop_square(image, SHOWN_SIDE)
    degrader = degraded_copies.Degrader(compiled=False)
    rows = {"original": [("", image)]}
    for variant in progress.track(variants, description="Degrading", unit="copy"):
        own_seed = degraded_copies.make_seed(seed, name, variant.name)
        degraded, _ = degrader(variant, image, own_seed)
        label = "" if variant.severity is None else f"{variant.severity:g}"
        rows.setdefault(variant.label, []).append((label, np.asarray(degraded)))
    image_files.write_image(path, contact_sheet.draw_sheet(list(rows.items()), tile, columns))


def format_table():
    """Returns all degradations as a Markdown table: name, level, usual levels and source."""
    lines = ["| name | level | levels in use | source |", "|---|---|---|---|"]
    lines += [
        f"| `{name}` | {entry.unit} | {entry.levels} | {entry.source} |"
        for name, entry in degradations.NAMES.items()
    ]
    lines += ["", "| group | members |", "|---|---|"]
    lines += [
        f"| `{group}` | {', '.join(f'`{name}`' for name in members)} |"
        for group, members in degradations.GROUPS.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    entry_point.run(main, with_model=False)
