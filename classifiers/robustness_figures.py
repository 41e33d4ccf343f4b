"""The figures of a robustness report, made of the answers that were measured."""

import dataclasses

import numpy as np

from classifiers import bootstrap, calibration, metrics
from classifiers.metrics import ALEXNET_ERRORS, CLEAN, COLWARP, SEVERITIES
from degradations import GROUPS, label

# Of AlexNet on ImageNet's clean validation images, in percent: Hendrycks & Dietterich (ICLR 2019),
# table 1.
ALEXNET_CLEAN_ERROR = 43.5


def mean_accuracies(cells, right):
    """Returns the figures that sum accuracies up, {name: `[...]`} in percent.

    `accuracy`: mean over the degradations, without clean images and `COLWARP`, of each one's mean
    over its levels; `imagenet_c`: the same of the 15 of ImageNet-C, where they are at all five
    severities, and then also `mce` and `relative_mce`: Hendrycks & Dietterich (ICLR 2019), section
    4: the errors of a corruption, summed over the severities, divided by AlexNet's; relative: what
    they are above the error on clean images.

    Args:
        cells: list of F (degradation, level).
        right: shares of right answers, `[..., F]` in percent.
    """
    right = np.asarray(right, np.float64)
    columns = {}
    for column, (name, _) in enumerate(cells):
        columns.setdefault(name, []).append(column)
    by_name = {name: right[..., own].mean(axis=-1) for name, own in columns.items()}
    degraded = [value for name, value in by_name.items() if name not in (CLEAN, COLWARP)]
    found = {"accuracy": np.mean(degraded, axis=0)} if degraded else {}
    corruptions = _corruptions(cells, right)
    if corruptions is None:
        return found
    found["imagenet_c"] = np.mean(list(corruptions.values()), axis=0)
    ratios = [(100 - value) / ALEXNET_ERRORS[name] for name, value in corruptions.items()]
    found["mce"] = 100 * np.mean(ratios, axis=0)
    if CLEAN in by_name:
        ratios = [
            (by_name[CLEAN] - value) / (ALEXNET_ERRORS[name] - ALEXNET_CLEAN_ERROR)
            for name, value in corruptions.items()
        ]
        found["relative_mce"] = 100 * np.mean(ratios, axis=0)
    return found


def _corruptions(cells, right):
    """Returns {corruption: mean over the severities} of ImageNet-C's 15, `None` if some lack."""
    columns = {}
    for column, (name, level) in enumerate(cells):
        # fog@3 is fog at one severity; frost is frost, wherever its photos lie.
        columns.setdefault(label(name).split("@")[0], {})[level] = column
    names = GROUPS["imagenet_c"]
    if not all(set(columns.get(name, ())) == set(SEVERITIES) for name in names):
        return None
    return {name: right[..., list(columns[name].values())].mean(axis=-1) for name in names}


@dataclasses.dataclass(frozen=True)
class Figures:
    """All figures of M models, in percent.

    Attributes:
        rows: one dict for each model, degradation and level; see `compute`.
        means: {model: {figure: number}}, with `..._low` and `..._high` of those with intervals.
        differences: one dict for each pair of models: by how much the mean accuracy of the second
            is larger, with its interval.
        breaking: one dict for each model and degradation: how many images break at each level.
    """

    rows: list
    means: dict
    differences: list
    breaking: list


def compute(measured, names, seed=0, alexnet=False, some_classes=False):
    """Returns the `Figures` of what was measured.

    Rows have `model`, `name`, `level`, `top1` with `low` and `high`, the ends of its interval of
    95 %; `top5`; `ece`, the expected calibration error; `confidence`, the mean one; and
    `agreement`, the share of answers that are those to the clean images; and, where there are
    images of `some_classes` alone, `top1_present`, as `top1` with answers out of these.

    Args:
        measured: `robustness.Measured`.
        names: of the M models.
        seed: of the bootstrap's draws.
        alexnet: whether mCE and relative mCE have a meaning: for ImageNet's 1,000 classes.
        some_classes: whether the models know classes that there are no images of.
    """
    right = measured.answers.ranks == 0  # [M, F, N]
    models, cells, images = right.shape
    flat = right.reshape(models * cells, images).T
    samples = 100 * bootstrap.resample_means(flat, seed).reshape(-1, models, cells)
    accuracies = 100 * right.mean(axis=2)
    rows, means = [], {}
    sampled_means = {}
    for model, name in enumerate(names):
        own = [
            _row(measured, model, cell, accuracies[model, cell], samples[:, model, cell])
            for cell in range(cells)
        ]
        if some_classes:
            present = 100 * (measured.answers.ranks_present[model] == 0).mean(axis=1)
            for row, value in zip(own, present, strict=True):
                row["top1_present"] = float(value)
        rows += [{"model": name} | row for row in own]
        points = mean_accuracies(measured.cells, accuracies[model])
        sampled_means[name] = mean_accuracies(measured.cells, samples[:, model])
        if not alexnet:
            for only in ("mce", "relative_mce"):
                points.pop(only, None)
        means[name] = _means(own, points, sampled_means[name])
    return Figures(
        rows,
        means,
        _differences(names, means, sampled_means),
        _breaking(measured, names),
    )


def _row(measured, model, cell, accuracy, samples):
    name, level = measured.cells[cell]
    ranks, classes = measured.answers.ranks[model, cell], measured.answers.classes[model, cell]
    confidence = measured.answers.confidence[model, cell]
    low, high = bootstrap.interval(samples)
    agreement = float("nan")
    if measured.clean is not None:
        agreement = 100 * float(np.mean(classes == measured.answers.classes[model, measured.clean]))
    return {
        "name": name,
        "level": float("nan") if level is None else float(level),
        "top1": float(accuracy),
        "low": low,
        "high": high,
        "top5": 100 * float(np.mean(ranks < metrics.TOP)),
        "ece": calibration.expected_calibration_error(confidence, ranks == 0),
        "confidence": 100 * float(np.mean(np.nan_to_num(confidence))),
        "agreement": agreement,
    }


def _means(rows, points, samples):
    """Returns the means of a model: first of clean images, then over the degradations."""
    found = {}
    for row in rows:
        if row["name"] == CLEAN:
            found |= {
                "clean": row["top1"],
                "clean_low": row["low"],
                "clean_high": row["high"],
                "clean_top5": row["top5"],
                "clean_ece": row["ece"],
            }
            if "top1_present" in row:
                found["clean_present"] = row["top1_present"]
    for name, value in points.items():
        low, high = bootstrap.interval(samples[name])
        found |= {name: float(value), f"{name}_low": low, f"{name}_high": high}
    by_name = {}
    for row in rows:
        if row["name"] not in (CLEAN, COLWARP):
            by_name.setdefault(row["name"], []).append(row)
    for figure in ("top5", "ece", "agreement", "top1_present"):
        values = [
            np.mean([row[figure] for row in own]) for own in by_name.values() if figure in own[0]
        ]
        if values and np.isfinite(values).all():
            name = "accuracy_present" if figure == "top1_present" else figure
            found[name] = float(np.mean(values))
    return found


def _differences(names, means, samples):
    found = []
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            if "accuracy" not in samples[first]:
                continue
            paired = samples[second]["accuracy"] - samples[first]["accuracy"]
            low, high = bootstrap.interval(paired)
            found.append(
                {
                    "first": first,
                    "second": second,
                    "accuracy": means[second]["accuracy"] - means[first]["accuracy"],
                    "low": low,
                    "high": high,
                }
            )
    return found


def _breaking(measured, names):
    found = []
    for model, name in enumerate(names):
        for degradation, (ordered, places) in measured.breaking.items():
            counts = np.bincount(places[model], minlength=len(ordered) + 1)
            found.append(
                {
                    "model": name,
                    "name": degradation,
                    "levels": [float(level) for level in ordered],
                    "images": counts[:-1].tolist(),
                    "holding": int(counts[-1]),
                    "median": _median(ordered, counts),
                }
            )
    return found


def _median(ordered, counts):
    """Returns the level at which half of the images have broken, `None` if more than half hold."""
    reached = np.flatnonzero(np.cumsum(counts[:-1]) * 2 >= counts.sum())
    return float(ordered[reached[0]]) if len(reached) else None


def image_rows(measured, names, class_names=None):
    """Returns one dict for each model and image: what it says of the image, and where it breaks.

    The columns of the degradations hold the breaking level, and nothing where the answer holds.
    """
    rows = []
    clean = measured.clean
    for model, name in enumerate(names):
        for image, right_class in enumerate(measured.labels):
            place = int(measured.index[image])
            row = {"model": name, "image": place, "class": class_name(right_class, class_names)}
            if clean is not None:
                answer = measured.answers.classes[model, clean, image]
                row |= {
                    "answer": class_name(answer, class_names),
                    "confidence": round(float(measured.answers.confidence[model, clean, image]), 6),
                    "right": int(answer == right_class),
                }
            right = measured.answers.ranks[model, :, image] == 0
            row["right_degraded"] = int(right.sum() - (0 if clean is None else right[clean]))
            for degradation, (ordered, places) in measured.breaking.items():
                place = places[model, image]
                row[f"{degradation} breaks at"] = (
                    f"{ordered[place]:g}" if place < len(ordered) else ""
                )
            rows.append(row)
    return rows


def class_name(number, class_names):
    """Returns the name of a class, or its number where there are no names."""
    if class_names and 0 <= number < len(class_names):
        return class_names[number]
    return str(int(number))


@dataclasses.dataclass(frozen=True)
class Fragile:
    """An image that breaks early.

    Attributes:
        image: its number among the images that were measured.
        score: mean share of the levels that its answer holds, over the degradations.
        degradation: the one that breaks it first.
        place: place of the level that does so, among that degradation's.
    """

    image: int
    score: float
    degradation: str
    place: int


def most_fragile(measured, model, count):
    """Returns the `Fragile` images of a model, the most fragile first.

    Only images that are answered rightly when they are clean count: the others were lost before.
    """
    if not measured.breaking or measured.clean is None:
        return []
    held = {
        name: places[model] / len(ordered) for name, (ordered, places) in measured.breaking.items()
    }
    names, shares = list(held), np.stack(list(held.values()))
    score = shares.mean(axis=0)
    right = np.flatnonzero(measured.answers.ranks[model, measured.clean] == 0)
    chosen = right[np.argsort(score[right], kind="stable")[:count]]
    found = []
    for image in chosen:
        first = int(np.argmin(shares[:, image]))
        name = names[first]
        place = int(measured.breaking[name][1][model, image])
        if place < len(measured.breaking[name][0]):
            found.append(Fragile(int(image), float(score[image]), name, place))
    return found
