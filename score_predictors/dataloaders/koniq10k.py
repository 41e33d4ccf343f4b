"""KonIQ-10k: a CSV with five shares of votes per image, and a folder of JPEG files.

Hosu, Lin, Sziranyi and Saupe, "KonIQ-10k: An Ecologically Valid Database for Deep Learning of
Blind Image Quality Assessment", IEEE TIP 29, 2020. The columns that are read are image_name, c1 to
c5, MOS, SD and set (training, validation or test).
"""

import functools

import numpy as np
from absl import flags, logging

from misc.training import common_flags, data, settings
from score_predictors import metrics, rated_images, tables, targets, windows

MODEL = "mobilenetv2"
VALUES = np.arange(1, 6)
SETS = {"train": "training", "validation": "validation", "test": "test"}


def define_flags():
    """Defines the flags of this dataloader."""
    flags.DEFINE_string(
        "koniq10k_score_path", "koniq10k_distributions_sets.csv", "Table of the votes and sets."
    )
    flags.DEFINE_string(
        "koniq10k_image_path", None, "Folder of the JPEG files, such as 1024x768 or 512x384."
    )
    flags.DEFINE_enum(
        "koniq10k_mean",
        "shares",
        ["shares", "mos"],
        "Mean scores that predictions are compared with: of the shares, 1-5; or the table's MOS, "
        "which leaves out unreliable people and is scaled from 0-100 to 1-5.",
    )
    common_flags.define_skip_broken_flag()
    flags.FLAGS.set_default("score_values", VALUES.tolist())
    settings.local("koniq10k_score_path", "koniq10k_image_path")


def create_data(flags):
    """Returns the `RatedData`, whose splits are the table's sets.

    Raises:
        ValueError: without --koniq10k_image_path.
    """
    image_path = rated_images.require(
        flags.koniq10k_image_path, "koniq10k_image_path", "the folder of KonIQ-10k's images"
    )
    score_path, mean = flags.koniq10k_score_path, flags.koniq10k_mean
    data.check_file(score_path, "koniq10k_score_path")
    skip_broken = flags.data_skip_broken
    load = functools.cache(lambda: read_table(score_path, mean))

    def find(split):
        return _find(load(), split, score_path, image_path, skip_broken)

    cropping = windows.Cropping(flags.input_patch_size, square=False, small="resize")
    return rated_images.create_data(flags, find, cropping)


def _find(table, split, score_path, image_path, skip_broken):
    names, scores, means, stds, sets = table
    rows = [row for row, name in enumerate(sets) if name == SETS[split]]
    if not rows:
        raise ValueError(f"{score_path} has no image of the set {SETS[split]}")
    rated = rated_images.RatedImages(
        rated_images.find_images(
            [names[row] for row in rows],
            image_path,
            "koniq10k_image_path",
            skip_broken,
            all_rated=False,
        ),
        scores[rows],
        means[rows],
        stds[rows],
        [names[row] for row in rows],
    ).with_files()
    logging.info("KonIQ-10k: %d images of the set %s", len(rated), SETS[split])
    return rated


def read_table(path, mean="shares"):
    """Returns names, shares float32 `[N, 5]`, means and deviations float32 `[N]` (1-5), and sets.

    Args:
        path: the CSV file.
        mean: `'shares'` for the mean of the shares, `'mos'` for the column MOS, rescaled.

    Raises:
        ValueError: for a missing file, missing columns, unknown sets, or a MOS outside 0-100.
    """
    table = tables.read(path, "koniq10k_score_path")
    shares = [f"c{value}" for value in VALUES]
    needed = ["image_name", *shares, "mos", "sd", "set"]
    absent = [column for column in needed if column not in table.columns]
    if absent:
        raise ValueError(f"{path} lacks the columns {', '.join(absent)}")
    sets = [name.lower() for name in table.texts("set")]
    unknown = set(sets) - set(SETS.values())
    if unknown:
        raise ValueError(
            f"{path}: the column set must be {', '.join(SETS.values())}. "
            f"Received: {', '.join(sorted(unknown))}"
        )
    scores = targets.from_counts(
        np.stack([table.numbers(column) for column in shares], axis=1), str(path)
    )
    mos = np.array(table.numbers("mos"))
    if mos.min() < 0 or mos.max() > 100:
        raise ValueError(
            f"{path}: the column MOS must be from 0 to 100. Received: {mos.min():g}-{mos.max():g}"
        )
    means = metrics.mean_scores(scores, VALUES) if mean == "shares" else 1 + 4 * mos / 100
    stds = np.array(table.numbers("sd"), np.float32)
    return table.texts("image_name"), scores, means.astype(np.float32), stds, sets
