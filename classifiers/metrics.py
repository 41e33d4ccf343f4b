"""Accuracy for each degradation and level, and what is made of it: means, errors, confusion."""

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


class CorruptionGrid:
    """Counts right answers for every degradation and level.

    The degradation "clean" stands for images as they are, and has no levels.
    """

    def __init__(self, classes, confusion=True):
        """Starts with nothing counted.

        Args:
            classes: number of classes.
            confusion: whether to count what is taken for what, which needs K * K numbers.
        """
        self.classes = classes
        self._counts_confusion = confusion
        self._cells = {}
        self._confusion = {}

    def update(self, name, level, labels, logits):
        """Counts a batch.

        Args:
            name: name of the degradation, or "clean".
            level: its level or severity, `None` if there is only one.
            labels: integers `[B]`.
            logits: `[B, K]`.
        """
        labels, logits = np.asarray(labels), np.asarray(logits)
        rank = rank_of_label(labels, logits)
        cell = self._cells.setdefault((name, level), np.zeros(3, np.int64))
        cell += [len(labels), (rank == 0).sum(), (rank < TOP).sum()]
        if self._counts_confusion:
            # In place: a thousand classes have a million counts.
            empty = np.zeros([self.classes, self.classes], np.int64)
            matrix = self._confusion.setdefault(name, empty)
            np.add.at(matrix, (labels, logits.argmax(axis=1)), 1)

    def rows(self):
        """Returns [{"name", "level", "top1", "top5"}], in percent; the level of one is NaN."""
        return [
            {
                "name": name,
                "level": float("nan") if level is None else float(level),
                "top1": 100 * float(right) / float(count),
                "top5": 100 * float(among) / float(count),
            }
            for (name, level), (count, right, among) in self._cells.items()
        ]

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
        computed, see `mean_corruption_error`.
        """
        by_name = self.accuracies()
        apart = (CLEAN, COLWARP)
        degraded = {n: value for n, value in by_name.items() if n not in apart} or by_name
        top5 = self.accuracies("top5")
        accuracy = float(np.mean(list(degraded.values())))
        means = {
            "accuracy": accuracy,
            "mean_error": 100 - accuracy,
            "top5": float(np.mean([top5[name] for name in degraded])),
        }
        mce = self.mean_corruption_error()
        if mce is not None:
            means["mce_alexnet"] = mce
        return means | {f"accuracy/{name}": value for name, value in by_name.items()}

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
