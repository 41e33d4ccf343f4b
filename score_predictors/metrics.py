"""How well predicted score distributions agree with people's ratings, in float64."""

import warnings

import numpy as np
import scipy.optimize
import scipy.special
import scipy.stats

# What r the figures are given for, beside the one that is trained: papers use both.
REPORTED_R = (1.0, 2.0)
# Murray et al., "AVA", CVPR 2012: mean ratings above 5 on the scale 1-10 are "good" pictures.
AVA_VALUES = tuple(float(value) for value in range(1, 11))
AVA_THRESHOLD = 5.0


def mean_scores(distributions, values):
    """Returns the mean score `[N]` of distributions `[N, K]` over `values` `[K]`."""
    return np.asarray(distributions, np.float64) @ np.asarray(values, np.float64)


def score_deviations(distributions, values):
    """Returns the standard deviation `[N]` of distributions `[N, K]` over `values` `[K]`."""
    distributions = np.asarray(distributions, np.float64)
    offsets = np.asarray(values, np.float64) - mean_scores(distributions, values)[:, None]
    return np.sqrt(np.sum(distributions * np.square(offsets), axis=1))


def earth_movers_distances(predicted, target, r):
    """Returns the distance `[N]` of each pair of rows; see `losses.earth_movers_distance`."""
    gaps = np.cumsum(np.asarray(predicted, np.float64) - np.asarray(target, np.float64), axis=1)
    return np.mean(np.abs(gaps) ** r, axis=1) ** (1 / r)


def plcc(predicted, rated):
    """Returns Pearson's linear correlation; NaN where one side is constant."""
    return _correlation(scipy.stats.pearsonr, predicted, rated)


def srcc(predicted, rated):
    """Returns Spearman's rank correlation; NaN where one side is constant."""
    return _correlation(scipy.stats.spearmanr, predicted, rated)


def krcc(predicted, rated):
    """Returns Kendall's rank correlation (tau-b); NaN where one side is constant."""
    return _correlation(scipy.stats.kendalltau, predicted, rated)


def rmse(predicted, rated):
    """Returns the root of the mean squared difference, in scores."""
    return float(np.sqrt(np.mean(np.square(np.asarray(predicted) - np.asarray(rated)))))


def plcc_after_logistic(predicted, rated):
    """Returns Pearson's correlation after a monotonic logistic of 4 parameters was fitted.

    VQEG, "Final report on the validation of objective models of video quality assessment", phase
    II, 2003: `b2 + (b1 - b2) / (1 + exp(-(x - b3) / |b4|))`, least squares. It is NaN with fewer
    than 5 images, constant input, or where the fit does not converge.
    """
    predicted, rated = np.asarray(predicted, np.float64), np.asarray(rated, np.float64)
    if len(predicted) < 5 or np.ptp(predicted) == 0 or np.ptp(rated) == 0:
        return float("nan")

    def logistic(x, high, low, centre, width):
        return low + (high - low) * scipy.special.expit((x - centre) / (abs(width) + 1e-12))

    start = [rated.max(), rated.min(), predicted.mean(), predicted.std()]
    if np.corrcoef(predicted, rated)[0, 1] < 0:
        start[0], start[1] = start[1], start[0]
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", scipy.optimize.OptimizeWarning)
            best, _ = scipy.optimize.curve_fit(
                logistic, predicted, rated, start, maxfev=20000, method="lm"
            )
    except RuntimeError:
        return float("nan")
    return plcc(logistic(predicted, *best), rated)


def two_class_accuracy(predicted, rated, threshold=AVA_THRESHOLD):
    """Returns the share of images whose means are on the same side of the threshold."""
    return float(np.mean((np.asarray(predicted) > threshold) == (np.asarray(rated) > threshold)))


def compare(predicted, target, values, rated_mean=None, rated_std=None, r_values=REPORTED_R):
    """Returns all figures of a set of images as {name: number}.

    `plcc`, `srcc`, `krcc` and `rmse` are of the mean scores, `plcc_logistic4` after a fit,
    `std_plcc` and `std_srcc` of the standard deviations, `emd_r1` and so on the mean earth mover's
    distance with the exponent r named, `accuracy_above_5` the two-class accuracy, given on AVA's
    scale 1-10 alone. Undefined figures, such as correlations with a constant, are left out.

    Args:
        predicted: distributions `[N, K]`.
        target: distributions `[N, K]`; with another number of bins the distances are left out.
        values: scores of the predicted bins, `[K]`.
        rated_mean: mean ratings `[N]`; `None` or NaN where the targets' means are to be used.
        rated_std: standard deviations `[N]`, likewise.
        r_values: exponents of the earth mover's distance.
    """
    same_bins = np.shape(predicted)[1] == np.shape(target)[1]
    rated, deviation = rated_moments(target, values, rated_mean, rated_std)
    means = mean_scores(predicted, values)
    deviations = score_deviations(predicted, values)
    figures = {}
    if same_bins:
        for r in r_values:
            figures[f"emd_r{r:g}"] = float(np.mean(earth_movers_distances(predicted, target, r)))
    figures |= {
        "plcc": plcc(means, rated),
        "plcc_logistic4": plcc_after_logistic(means, rated),
        "srcc": srcc(means, rated),
        "krcc": krcc(means, rated),
        "rmse": rmse(means, rated),
        "std_plcc": plcc(deviations, deviation),
        "std_srcc": srcc(deviations, deviation),
    }
    if tuple(values) == AVA_VALUES:
        figures["accuracy_above_5"] = two_class_accuracy(means, rated)
    return {name: value for name, value in figures.items() if np.isfinite(value)}


def rated_moments(target, values, rated_mean=None, rated_std=None):
    """Returns mean and standard deviation `[N]` of the ratings, from targets where unknown."""
    mean, deviation = (
        np.full(len(target), np.nan) if known is None else np.asarray(known, np.float64)
        for known in (rated_mean, rated_std)
    )
    if np.shape(target)[1] == len(values):
        mean = np.where(np.isfinite(mean), mean, mean_scores(target, values))
        deviation = np.where(np.isfinite(deviation), deviation, score_deviations(target, values))
    return mean, deviation


def floor(target, values, rated_mean=None, rated_std=None, constant=None, r_values=REPORTED_R):
    """Returns the figures of a predictor that gives every image the same distribution.

    What is not better than this has learnt nothing about single images. Correlations are undefined.
    See `compare`; the distribution is `constant` `[K]`, such as the mean of the training images, or
    the mean of `target`. Targets with another number of bins than `values` have no floor.
    """
    if np.shape(target)[1] != len(values):
        return {}
    if constant is None:
        constant = np.mean(target, axis=0)
    constant = np.tile(np.asarray(constant, np.float64), (len(target), 1))
    figures = compare(constant, target, values, rated_mean, rated_std, r_values)
    return {n: v for n, v in figures.items() if not n.endswith(("lcc", "rcc", "logistic4"))}


def by_group(groups, predicted, target, values, rated_mean=None, rated_std=None, r=2.0):
    """Returns one row of figures per group, such as the distortions of TID2013, sorted by name.

    See `compare`; `groups` `[N]` are names, `r` the exponent of the earth mover's distance. The
    rows are {"group", "images", figure: number}; the group's own constant histogram is
    `floor_emd_r...`. Undefined figures are NaN.
    """
    groups = np.asarray(groups)
    rows = []
    for name in sorted(set(groups.tolist())):
        chosen = groups == name
        parts = [
            None if part is None else np.asarray(part)[chosen] for part in (rated_mean, rated_std)
        ]
        figures = compare(predicted[chosen], target[chosen], values, *parts, r_values=(r,))
        constant = floor(target[chosen], values, *parts, r_values=(r,))
        distance = f"emd_r{r:g}"
        row = {"group": name, "images": int(chosen.sum())}
        for figure in ("plcc", "srcc", "krcc", "rmse", distance):
            row[figure] = figures.get(figure, float("nan"))
        row[f"floor_{distance}"] = constant.get(distance, float("nan"))
        rows.append(row)
    return rows


def _correlation(function, first, second):
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    defined = len(first) >= 2 and np.all(np.isfinite(first)) and np.all(np.isfinite(second))
    # A constant vector of float32 outputs differs in its last digits only.
    spread = [np.ptp(part) <= 1e-9 * max(1.0, np.max(np.abs(part))) for part in (first, second)]
    if not defined or any(spread):
        return float("nan")
    return float(function(first, second).statistic)
