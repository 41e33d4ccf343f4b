"""Differences between two curves of rate and quality as one number each.

G. Bjontegaard, "Calculation of average PSNR differences between RD-curves", ITU-T VCEG-M33, 2001,
with piecewise cubic Hermite interpolation (PCHIP) over the logarithm of the rate, as the ITU-T's
and JVET's common test conditions have it since JCTVC-L1100 (2013; JVET-T2010 for VVC). Quality is
whatever grows with the rate: PSNR there, the accuracy of a classifier here.
"""

import numpy as np
from scipy.interpolate import PchipInterpolator


def front(points):
    """Returns the points that cost less than all that are as good, by growing rate, `[N, 2]`.

    Along them both rate and quality grow, which `bd_rate` needs. Measured accuracies do not always
    grow with the rate: a point that is no better than a cheaper one is left out.

    Args:
        points: pairs (rate, quality), rates above 0.

    Raises:
        ValueError: for a rate that is not positive, or a number that is not finite.
    """
    points = np.asarray(list(points), np.float64).reshape(-1, 2)
    if not (np.isfinite(points).all() and (points[:, 0] > 0).all()):
        raise ValueError("Curves take finite numbers and rates above 0.")
    best, kept = -np.inf, []
    for rate, quality in points[np.lexsort((-points[:, 1], points[:, 0]))]:
        if quality > best:
            best = quality
            kept.append((rate, quality))
    return np.array(kept).reshape(-1, 2)


def bd_rate(anchor, other):
    """Returns how much more rate `other` needs for the same quality, in percent; below 0: less.

    The mean of the difference of the logarithms of the rates over the qualities that both curves
    reach. NaN if these do not overlap or a curve has less than two points on its `front`.

    Args:
        anchor: pairs (rate, quality) of what is compared with; four or more are usual.
        other: those of what is compared.
    """
    fronts = [front(points) for points in (anchor, other)]
    difference = _mean_difference(*((q, np.log(rate)) for rate, q in (f.T for f in fronts)))
    return 100 * float(np.expm1(difference))


def bd_quality(anchor, other):
    """Returns how much better `other` is at the same rate, in the unit of the quality.

    The mean of the difference of the qualities over the logarithms of the rates that both curves
    have; see `bd_rate`. Points of a curve need not be on its front, but of those of equal rate only
    the best one counts.
    """
    curves = []
    for points in (anchor, other):
        best = {}
        for rate, quality in points:
            best[rate] = max(quality, best.get(rate, -np.inf))
        rates = sorted(best)
        curves.append((np.log(rates), np.array([best[rate] for rate in rates], np.float64)))
    return float(_mean_difference(*curves))


def overlap(anchor, other):
    """Returns the (lowest, highest) quality that both fronts reach, `None` if there is none."""
    fronts = [front(points)[:, 1] for points in (anchor, other)]
    return _common(*fronts)


def _common(first, second):
    if min(len(first), len(second)) < 2:
        return None
    low, high = max(first[0], second[0]), min(first[-1], second[-1])
    return (float(low), float(high)) if low < high else None


def _mean_difference(anchor, other):
    """Returns the mean of other's y minus anchor's over the x that both, (x, y), have."""
    common = _common(anchor[0], other[0])
    if common is None:
        return np.nan
    areas = [PchipInterpolator(x, y).integrate(*common) for x, y in (anchor, other)]
    return (areas[1] - areas[0]) / (common[1] - common[0])
