"""Accuracy for each degradation and level, and what is made of it: means, errors, confusion."""

import dataclasses

import numpy as np

from degradations import GROUPS, label

CLEAN = "clean"
# SyMPIE's own colour changes, stored beside ImageNet-C: a row of their own, like clean images.
COLWARP = "colwarp"
TOP = 5
# Top-1 errors of AlexNet in percent, mean over severity 1 to 5, for ImageNet-C at 224 pixels.
# Hendrycks & Dietterich (ICLR 2019), whose public code lists them with all digits.
ALEXNET_ERRORS = {
    "gaussian_noise": 88.6428,
    "shot_noise": 89.4468,
    "impulse_noise": 92.2640,
    "defocus_blur": 81.9880,
    "glass_blur": 82.6268,
    "motion_blur": 78.5948,
    "zoom_blur": 79.8360,
    "snow": 86.6816,
    "frost": 82.6572,
    "fog": 81.9324,
    "brightness": 56.4592,
    "contrast": 85.3204,
    "elastic_transform": 64.6056,
    "pixelate": 71.7840,
    "jpeg_compression": 60.6500,
}
SEVERITIES = (1, 2, 3, 4, 5)
IMAGENET_CLASSES = 1000


def rank_of_label(labels, logits):
    """Returns how many classes have a larger logit than the right one, int `[B]`; 0 is best.

    Args:
        labels: integers `[B]`.
        logits: `[B, K]`. Of equal logits the first counts as the largest, as in an argmax. Where
            one is not finite, the answer is wrong: the rank is K.
    """
    own = logits[np.arange(len(labels)), labels][:, None]
    classes = np.arange(logits.shape[1])
    ahead = (logits > own) | ((logits == own) & (classes < labels[:, None]))
    return np.where(np.isfinite(logits).all(axis=1), ahead.sum(axis=1), logits.shape[1])


@dataclasses.dataclass
class Cell:
    """What was counted of one degradation at one level.

    Attributes:
        images: how many there were.
        right: how many answers were right.
        among: how many right classes were among the `TOP` likeliest.
        right_present: as `right`, with answers out of the classes that are present alone.
        among_present: as `among`, likewise.
        coded: how many images have a bit stream.
        coded_right: `right` of these.
        coded_among: `among` of these.
        bytes: sum of the lengths of the bit streams.
        bits_per_pixel: sum of the same, in bits per pixel.
    """

    images: int = 0
    right: int = 0
    among: int = 0
    right_present: int = 0
    among_present: int = 0
    coded: int = 0
    coded_right: int = 0
    coded_among: int = 0
    bytes: int = 0
    bits_per_pixel: float = 0.0


def _shares(suffix, right, among, count):
    """Returns the accuracies of so many images, in percent."""
    return {
        f"top1{suffix}": 100 * _ratio(right, count),
        f"top5{suffix}": 100 * _ratio(among, count),
    }


def _ratio(total, count):
    return total / count if count else float("nan")


class CorruptionGrid:
    """Counts right answers for every degradation and level.

    The degradation "clean" stands for images as they are, and has no levels.
    """

    def __init__(self, classes, confusion=True, present=None):
        """Starts with nothing counted.

        Args:
            classes: number of classes.
            confusion: whether to count what is taken for what, which needs K * K numbers.
            present: sorted numbers of the classes that the data have images of; `None`: all.
        """
        self.classes = classes
        self._counts_confusion = confusion
        is_part = present is not None and 0 < len(present) < classes
        self._present = np.asarray(present) if is_part else None
        self._cells = {}
        self._confusion = {}

    def update(self, name, level, labels, logits, sizes=None, pixels=1):
        """Counts a batch.

        Args:
            name: name of the degradation, or "clean".
            level: its level or severity, `None` if there is only one.
            labels: integers `[B]`.
            logits: `[B, K]`.
            sizes: lengths of the images' bit streams in bytes, integers `[B]`; 0: not coded.
            pixels: number of pixels of an image.
        """
        labels, logits = np.asarray(labels), np.asarray(logits)
        rank = rank_of_label(labels, logits)
        cell = self._cells.setdefault((name, level), Cell())
        cell.images += len(labels)
        cell.right += int((rank == 0).sum())
        cell.among += int((rank < TOP).sum())
        if self._present is not None:
            places = np.searchsorted(self._present, labels)
            present_rank = rank_of_label(places, logits[:, self._present])
            cell.right_present += int((present_rank == 0).sum())
            cell.among_present += int((present_rank < TOP).sum())
        if sizes is not None:
            sizes = np.asarray(sizes, np.int64)
            coded = sizes > 0
            cell.coded += int(coded.sum())
            cell.coded_right += int((rank[coded] == 0).sum())
            cell.coded_among += int((rank[coded] < TOP).sum())
            cell.bytes += int(sizes.sum())
            cell.bits_per_pixel += 8 * float(sizes.sum()) / pixels
        if self._counts_confusion:
            # In place: a thousand classes have a million counts.
            empty = np.zeros([self.classes, self.classes], np.int64)
            matrix = self._confusion.setdefault(name, empty)
            np.add.at(matrix, (labels, logits.argmax(axis=1)), 1)

    def rows(self):
        """Returns one row per degradation and level; the level of one without levels is NaN.

        Keys: "name", "level", and "top1", "top5" in percent. Where the data have images of a part
        of the classes, also "top1_present", "top5_present": with answers out of these alone. Where
        anything was coded, "bytes" and "bits_per_pixel", means over the images with a bit stream;
        if some have none, also "top1_coded", "top5_coded": those of the others. What a cell does
        not have is NaN.
        """
        cells = self._cells.values()
        coded = any(cell.coded for cell in cells)
        partly = any(0 < cell.coded < cell.images for cell in cells)
        rows = []
        for (name, level), cell in self._cells.items():
            row = {"name": name, "level": float("nan") if level is None else float(level)}
            row |= _shares("", cell.right, cell.among, cell.images)
            if self._present is not None:
                row |= _shares("_present", cell.right_present, cell.among_present, cell.images)
            if coded:
                row["bytes"] = _ratio(cell.bytes, cell.coded)
                row["bits_per_pixel"] = _ratio(cell.bits_per_pixel, cell.coded)
            if partly:
                row |= _shares("_coded", cell.coded_right, cell.coded_among, cell.coded)
            rows.append(row)
        return rows

    def accuracies(self, figure="top1"):
        """Returns {degradation: mean over its levels} in percent, each level weighing the same."""
        found = {}
        for row in self.rows():
            found.setdefault(row["name"], []).append(row[figure])
        return {name: float(np.mean(values)) for name, values in found.items()}

    def means(self):
        """Returns the figures that sum the grid up, in percent.

        `accuracy`: mean over the degradations, without the clean images and `COLWARP`, of each
        one's mean over its levels (the average of FusionDistill's tables); that of these where
        nothing else was counted. `mean_error`: 100 minus that, not normalised by any network.
        `top5`: as `accuracy`. `accuracy/NAME`: of one degradation. `mce_alexnet`: where it can be
        computed, see `mean_corruption_error`. `accuracy_present`, `top5_present`, where the data
        have a part of the classes: as `accuracy`, with answers out of these alone. `bytes/NAME`,
        `bits_per_pixel/NAME`: means over the levels of a degradation with a bit stream.
        """
        by_name = self.accuracies()
        apart = (CLEAN, COLWARP)
        degraded = {n: value for n, value in by_name.items() if n not in apart} or by_name

        def mean(figure):
            values = self.accuracies(figure)
            return float(np.mean([values[name] for name in degraded]))

        accuracy = mean("top1")
        means = {"accuracy": accuracy, "mean_error": 100 - accuracy, "top5": mean("top5")}
        if self._present is not None:
            means |= {
                "accuracy_present": mean("top1_present"),
                "top5_present": mean("top5_present"),
            }
        mce = self.mean_corruption_error()
        if mce is not None:
            means["mce_alexnet"] = mce
        means |= {f"accuracy/{name}": value for name, value in by_name.items()}
        coded = [row for row in self.rows() if row.get("bytes", 0) > 0]
        for figure in ("bytes", "bits_per_pixel") if coded else ():
            for name in dict.fromkeys(row["name"] for row in coded):
                values = [row[figure] for row in coded if row["name"] == name]
                means[f"{figure}/{name}"] = float(np.mean(values))
        return means

    def mean_corruption_error(self):
        """Returns ImageNet-C's mCE in percent, `None` where it is not defined.

        Hendrycks & Dietterich (ICLR 2019): the error on each of the 15 corruptions, summed over the
        five severities, is divided by AlexNet's; the mCE is the mean of these ratios. AlexNet's
        errors are known for the 1,000 classes of ImageNet alone. Not to be mixed up with
        `mean_error`, which no network normalises.
        """
        if self.classes != IMAGENET_CLASSES:
            return None
        errors = {}
        for row in self.rows():
            # fog@1 to fog@5, each given by itself, are fog at all severities; frost is frost,
            # wherever its photos lie.
            name = label(row["name"]).split("@")[0]
            errors.setdefault(name, {})[row["level"]] = 100 - row["top1"]
        if not all(set(errors.get(name, ())) == set(SEVERITIES) for name in GROUPS["imagenet_c"]):
            return None
        ratios = [
            np.mean(list(errors[name].values())) / ALEXNET_ERRORS[name]
            for name in GROUPS["imagenet_c"]
        ]
        return 100 * float(np.mean(ratios))

    def grid(self):
        """Returns one row per degradation with the accuracy at each level, in percent.

        Rows have the same keys; levels that a degradation was not tested at are NaN.
        """
        levels = sorted({level for _, level in self._cells if level is not None})
        by_cell = {(r["name"], r["level"]): r["top1"] for r in self.rows()}
        by_name = self.accuracies()
        return [
            {"degradation": name, "mean": by_name[name]}
            | {f"{level:g}": by_cell.get((name, float(level)), float("nan")) for level in levels}
            for name in by_name
        ]

    def confusion_matrices(self):
        """Returns {degradation: counts `[K, K]` over all levels, rows by the right class}."""
        return dict(self._confusion)

    def confusion(self, class_names=None):
        """Returns one row per degradation and right class, with the counts of predictions.

        Args:
            class_names: K different names; `None` for their numbers.
        """
        names = class_names or [str(label) for label in range(self.classes)]
        return [
            {"degradation": name, "class": names[label]}
            | {names[column]: int(count) for column, count in enumerate(row)}
            for name, matrix in self._confusion.items()
            for label, row in enumerate(matrix)
        ]

    def per_class(self, class_names=None):
        """Returns one row per class: recall for each degradation, in percent."""
        names = class_names or [str(label) for label in range(self.classes)]
        recalls = {}
        for name, matrix in self._confusion.items():
            counts = matrix.sum(axis=1)
            with np.errstate(invalid="ignore"):
                recalls[name] = 100 * np.diag(matrix) / counts
        return [
            {"class": names[label]} | {name: float(r[label]) for name, r in recalls.items()}
            for label in range(self.classes)
        ]
