"""Your own ratings: a CSV with a row per image, and the image files.

The first line names the columns, in any order and case; commas, semicolons or tabs separate them:

- `path` (or image, image_path, image_name, filename, file, name): the image, relative to
  --ratings_image_path or else to the CSV's folder;
- `mean` (or mos, score, rating), and `std` (or sd, stddev, deviation), which may be absent or have
  empty cells; or counts of votes, or shares, c1 ... cK (or count1, count_1, votes1, votes_1 ...),
  one for each of --score_values;
- `split` (or set), optional: train or training; validation, val or valid; test or testing;
- `group` (or content, reference), optional: images of one group, such as versions of one picture,
  never stand on both sides of a random split;
- `distortion` (or degradation, category), optional: what results are grouped by; default: `group`.
"""

import dataclasses
import functools
import math
import pathlib
import re

import numpy as np
from absl import flags, logging

from misc.training import common_flags, data, settings
from score_predictors import metrics, rated_images, tables, targets, windows

MODEL = "mobilenetv2"
COLUMNS = {
    "path": ("path", "image", "image_path", "image_name", "filename", "file", "name"),
    "mean": ("mean", "mos", "score", "rating"),
    "std": ("std", "sd", "stddev", "deviation"),
    "split": ("split", "set"),
    "group": ("group", "content", "reference"),
    "distortion": ("distortion", "degradation", "category"),
}
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
_COUNT = re.compile(r"(?:c|counts?|votes?)_?(\d+)")


def define_flags():
    """Defines the flags of this dataloader."""
    flags.DEFINE_string(
        "ratings_path",
        None,
        "CSV with the columns path; mean [and std], or counts of votes c1, c2, ...; optional: "
        "split, group, distortion.",
    )
    flags.DEFINE_string(
        "ratings_image_path", None, "Folder of the images; default: that of the CSV."
    )
    common_flags.define_numbers(
        "ratings_range",
        None,
        "Lowest and highest score of the scale that means were given on, such as 0,100; they are "
        "scaled to the first and last of --score_values. Default: they are on that scale.",
        float,
    )
    common_flags.define_float(
        "ratings_validation_fraction",
        0.2,
        "Share of the images (or groups) that are for validation, where the CSV has no column "
        "split; 0: none; 1: all.",
        at_least=0,
        at_most=1,
    )
    flags.DEFINE_integer(
        "ratings_split_seed",
        0,
        "Seed of that division: not --seed, so that each run and validation has the same.",
    )
    flags.DEFINE_enum(
        "ratings_target",
        "maximum_entropy",
        targets.KINDS,
        "Distribution made from mean and standard deviation where there are no counts.",
    )
    common_flags.define_skip_broken_flag()
    settings.local("ratings_path", "ratings_image_path")


def create_data(flags):
    """Returns the `RatedData`; there may be no validation set.

    `mean` and `std` are on the axis of --score_values. `'test'` is the rows of that split, or
    those of `'validation'` if there are none.

    Raises:
        ValueError: without --ratings_path.
    """
    path = rated_images.require(
        flags.ratings_path, "ratings_path", "a CSV of your ratings", data.check_file
    )
    load = functools.partial(
        read_ratings,
        path,
        flags.ratings_image_path or pathlib.Path(path).parent,
        tuple(flags.score_values),
        tuple(flags.ratings_range or ()),
        flags.ratings_target,
        flags.data_skip_broken,
    )
    fraction, seed = flags.ratings_validation_fraction, flags.ratings_split_seed
    return create_from_table(flags, load, fraction, seed)


def create_from_table(flags, load, validation_fraction=0.2, seed=0):
    """Returns the `RatedData` of a function that returns a `RatingTable`; see its `take_split`."""
    load = functools.cache(load)

    def find(split):
        if split == "validation" and not validation_fraction and load().splits is None:
            return None
        return load().take_split(split, validation_fraction, seed)

    # Smaller images are enlarged.
    cropping = windows.Cropping(flags.input_patch_size, square=False, small="resize")
    return rated_images.create_data(flags, find, cropping)


@dataclasses.dataclass(frozen=True)
class RatingTable:
    """The rows of a CSV that have images.

    Attributes:
        source: the CSV's path, for messages.
        rated: `RatedImages`.
        splits: train, validation or test for each row, or None.
        contents: group of each row that a split must keep together, or None.
    """

    source: str
    rated: rated_images.RatedImages
    splits: list | None
    contents: list | None

    def take_split(self, split, validation_fraction=0.2, seed=0):
        """Returns the `RatedImages` of a split.

        Args:
            split: `'train'`, `'validation'` or `'test'`.
            validation_fraction: share of the images or groups, if the table has no splits.
            seed: seed of the division, which depends on names alone, not on their order.

        Raises:
            ValueError: for one without images.
        """
        if self.splits is not None:
            if split == "test" and "test" not in self.splits:
                split = "validation"
            taken = [row for row, name in enumerate(self.splits) if name == split]
            reason = "its column split names none"
        else:
            units = self.contents or self.rated.names
            held_out = _held_out(units, validation_fraction, seed)
            taken = [
                row for row, unit in enumerate(units) if (unit in held_out) != (split == "train")
            ]
            reason = f"--ratings_validation_fraction={validation_fraction:g} leaves none"
        if not taken:
            raise ValueError(f"{self.source} has no image of the split {split}: {reason}")
        return self.rated.take(taken)


def _held_out(units, fraction, seed):
    """Returns the units for validation: with 0 < fraction < 1 at least one, and not all."""
    units = sorted(set(units))
    count = math.floor(fraction * len(units) + 0.5)
    if 0 < fraction < 1:
        count = min(max(count, 1), len(units) - 1)
    keys = np.random.Generator(np.random.Philox(seed % 2**64)).random(len(units))
    return {units[place] for place in np.argsort(keys, kind="stable")[:count]}


def read_ratings(path, image_path, values, score_range=(), target="maximum_entropy", skip=False):
    """Returns the `RatingTable` of a CSV as the module's docstring describes it.

    Args:
        path: the CSV.
        image_path: folder that its paths are relative to.
        values: scores of the bins.
        score_range: lowest and highest score of the means' scale, or nothing for that of `values`.
        target: one of `targets.KINDS`.
        skip: whether rows without an image are reported and left out instead of raised.

    Raises:
        ValueError: for whatever is wrong; names file, line and column.
    """
    table = tables.read(path, "ratings_path")
    columns = {name: _find_column(table, name) for name in COLUMNS}
    if columns["path"] is None:
        raise ValueError(
            f"{path} needs a column {' or '.join(COLUMNS['path'])}. "
            f"Received: {', '.join(table.columns)}"
        )
    values = np.asarray(values, np.float64)
    scores, means, stds = _read_scores(table, columns, values, score_range, target)
    splits = columns["split"] and _read_splits(table, columns["split"])
    names = table.texts(columns["path"])
    image_path = pathlib.Path(image_path).expanduser()
    paths = [str(image_path / name) for name in names]
    rows = [row for row, name in enumerate(paths) if pathlib.Path(name).is_file()]
    missing = [names[row] for row in sorted(set(range(len(names))) - set(rows))]
    rated_images.report_missing(missing, len(paths), skip, f"the place that {path} names")

    logging.info("%s: %d rated images", path, len(rows))
    contents = columns["group"] and table.texts(columns["group"])
    groups = table.texts(columns["distortion"]) if columns["distortion"] else contents
    rated = rated_images.RatedImages(paths, scores, means, stds, names, groups)
    return RatingTable(
        path,
        rated.take(rows),
        splits and [splits[row] for row in rows],
        contents and [contents[row] for row in rows],
    )


def _find_column(table, name):
    found = [column for column in COLUMNS[name] if column in table.columns]
    # Of path and name, or mean and score, the first counts: the other is a remark.
    return found[0] if found else None


def _read_scores(table, columns, values, score_range, target):
    """Returns scores float32 `[N, K]`, means and stds float32 `[N]` on the axis of `values`."""
    counted = {int(m[1]): m[0] for m in map(_COUNT.fullmatch, table.columns) if m}
    if counted:
        expected = list(range(1, len(values) + 1))
        if sorted(counted) != expected:
            raise ValueError(
                f"{table.path} must have one column of counts for each of the {len(values)} "
                f"--score_values, c1 to c{len(values)}. Received: "
                f"{', '.join(counted[number] for number in sorted(counted))}"
            )
        counts = np.stack([table.numbers(counted[number]) for number in expected], axis=1)
        scores = targets.from_counts(counts, table.path)
        means = metrics.mean_scores(scores, values)
        stds = metrics.score_deviations(scores, values)
        return scores, means.astype(np.float32), stds.astype(np.float32)
    if columns["mean"] is None:
        raise ValueError(
            f"{table.path} needs a column {' or '.join(COLUMNS['mean'])}, or counts c1, c2, ... "
            f"Received: {', '.join(table.columns)}"
        )
    means = np.array(table.numbers(columns["mean"]))
    stds = np.full(len(means), np.nan)
    if columns["std"]:
        stds = np.array(table.numbers(columns["std"], optional=True))
    means, stds = _rescale(table, means, stds, values, score_range)
    scores = targets.from_moments(target, means, stds, values, table.path)
    return scores, means.astype(np.float32), stds.astype(np.float32)


def _rescale(table, means, stds, values, score_range):
    if score_range and (len(score_range) != 2 or not score_range[0] < score_range[1]):
        raise ValueError(
            "--ratings_range must be the lowest and the highest score. "
            f"Received: {','.join(f'{score:g}' for score in score_range)}"
        )
    low, high = score_range or (values[0], values[-1])
    outside = np.flatnonzero((means < low) | (means > high))
    if len(outside):
        raise ValueError(
            f"{table.path}, line {table.lines[outside[0]]}: the mean {means[outside[0]]:g} is not "
            f"from {low:g} to {high:g} ({len(outside)} such rows). Give --ratings_range, the "
            "lowest and the highest score of the scale, or --score_values, the scores of the bins."
        )
    factor = (values[-1] - values[0]) / (high - low)
    return values[0] + (means - low) * factor, stds * factor


def _read_splits(table, column):
    names = {name: split for split, synonyms in SPLITS.items() for name in synonyms}
    splits = []
    for text, line in zip(table.texts(column), table.lines, strict=True):
        if text.lower() not in names:
            raise ValueError(
                f"{table.path}, line {line}: the column {column} must be one of "
                f"{', '.join(names)}. Received: {text!r}"
            )
        splits.append(names[text.lower()])
    return splits
