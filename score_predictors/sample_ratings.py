"""A made-up set of ratings from scikit-image's photographs, for trying things without a download.

Nobody looked at these pictures: the score is a formula of the degradation that was applied. See
`score_of`.
"""

import csv
import hashlib
import json
import pathlib

import numpy as np
import PIL.Image

import degradations
from misc.images import files, progress, sample_data

# Level 1 to 5 of each degradation, weak to strong; level 0 is the untouched photograph.
LEVELS = {
    "jpeg": ("jpeg:60", "jpeg:30", "jpeg:15", "jpeg:8", "jpeg:4"),
    "noise": ("noise:6", "noise:12", "noise:24", "noise:40", "noise:60"),
    "blur": ("blur:0.8", "blur:1.4", "blur:2.2", "blur:3.4", "blur:5"),
    "pixelate": ("pixelate:0.7", "pixelate:0.5", "pixelate:0.35", "pixelate:0.25", "pixelate:0.15"),
}
VALUES = tuple(range(1, 11))
BEST, STEP, STD = 9.0, 1.4, 1.0
# Two windows of each photograph, at its left and right end, half-way down.
SIDE = 256
TABLE = "ratings.csv"
README = (
    "Made-up ratings. Nobody looked at these pictures: windows of scikit-image's photographs were "
    "degraded,\nand the score was computed from the level of the degradation, 0 (none) to 5, as\n"
    f"mean = {BEST:g} - {STEP:g} x level, std = {STD:g}, on a scale from {VALUES[0]} to "
    f"{VALUES[-1]}.\nUse them to see that the programs run, never to judge quality.\n"
)


def score_of(level):
    """Returns the made-up mean score of a level of degradation, 0 (none) to 5: 9 - 1.4 level."""
    return BEST - STEP * level


def default_path():
    """Returns the folder of these pictures in the user's cache folder."""
    return files.cache_folder() / f"sample_ratings_{_digest()}"


def write_sample_ratings(folder):
    """Writes pictures and ratings.csv to a folder, unless they are there; returns the CSV's path.

    The CSV has the columns path, mean, std, group (the photograph), degradation, level and split:
    photographs for validation are never among those for training.

    Args:
        folder: where to write; must be empty or absent, or hold what an earlier call wrote.

    Raises:
        ValueError: if the folder holds something else.
    """
    folder = pathlib.Path(folder).expanduser()
    table = folder / TABLE
    if table.is_file():
        if not (folder / _mark()).is_file():
            raise ValueError(
                f"{folder} holds other ratings than this version writes: give an empty folder"
            )
        return table
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"Sample ratings are written to an empty folder. Received: {folder}")
    try:
        with files.write_atomically(folder) as temporary:
            _write(temporary)
    except OSError:
        # Another process may have been faster.
        if not table.is_file():
            raise
    return table


def _write(folder):
    for split in sample_data.PHOTOS:
        (folder / split).mkdir(parents=True)
    windows = [
        (split, name, number, window)
        for split in ("train", "validation")
        for name, photo in sample_data.sample_photos(split)
        for number, window in enumerate(_windows(photo))
    ]
    versions = [("none", 0, None)]
    versions += [
        (name, level, text)
        for name, texts in LEVELS.items()
        for level, text in enumerate(texts, start=1)
    ]
    rows = []
    layers = {text: degradations.parse(text) for _, _, text in versions if text}
    with progress.track(
        total=len(windows) * len(versions), description="Making sample ratings"
    ) as bar:
        for name, level, text in versions:
            pixels = np.stack([window for *_, window in windows])
            if text:
                # The layers draw for each picture separately.
                degraded = layers[text](pixels.astype(np.float32), seed=level)
                pixels = np.asarray(degraded).astype(np.uint8)
            for (split, photo, number, _), window in zip(windows, pixels, strict=True):
                path = pathlib.Path(split, f"{photo}_{number}_{name}_{level}.png")
                # Little compression is fast; only the folder as a whole has to be atomic.
                PIL.Image.fromarray(window).save(folder / path, compress_level=1)
                score = f"{score_of(level):g}"
                rows.append([path.as_posix(), score, f"{STD:g}", photo, name, level, split])
                bar.update()
    (folder / "README.txt").write_text(README)
    (folder / _mark()).write_text(_digest() + "\n")
    with open(folder / TABLE, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "mean", "std", "group", "degradation", "level", "split"])
        writer.writerows(sorted(rows))


def _windows(photo):
    top = (photo.shape[0] - SIDE) // 2
    for left in (0, photo.shape[1] - SIDE):
        yield photo[top : top + SIDE, left : left + SIDE]


def _mark():
    return f".{_digest()}"


def _digest():
    """Returns a short text that differs when the pictures or scores would."""
    settings = [1, LEVELS, VALUES, BEST, STEP, STD, SIDE, sample_data.PHOTOS]
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
