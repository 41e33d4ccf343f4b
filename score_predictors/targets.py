"""What a predictor learns: one distribution over the bins of a score axis per image.

Votes are such a distribution already. Where only their mean and standard deviation are known,
there are several ways to make one up; `from_moments` takes them by name.
"""

import numpy as np
import scipy.special
from absl import logging

KINDS = ("gaussian", "mean_preserving", "maximum_entropy", "maximum_entropy_mean")
# tf-perceptual-eusr adds it to the standard deviation, which is 0 in two rows of TID2013.
_LEAST_STD = 1e-10
# Relative distance from the least and the largest possible moments at which the solution is taken
# from the limit, because its exponents grow without bound.
_AT_THE_LIMIT = 1e-6
_NEWTON_STEPS = 200


def from_counts(counts, source="counts"):
    """Returns the shares of the votes, float32 `[N, K]`; takes counts or shares.

    Args:
        counts: `[N, K]`, not negative.
        source: what error messages call the rows' origin.

    Raises:
        ValueError: for negative or undefined counts, and rows without a vote.
    """
    counts = np.asarray(counts, np.float64)
    totals = counts.sum(axis=1)
    wrong = ~(np.all(counts >= 0, axis=1) & (totals > 0) & np.isfinite(totals))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"{source}: counts of votes must be numbers of at least 0, and not all 0. "
            f"Received {counts[row].tolist()} in row {row + 1} ({int(wrong.sum())} such rows)"
        )
    return (counts / totals[:, None]).astype(np.float32)


def from_moments(kind, means, stds, values, source):
    """Returns distributions with these means and standard deviations, float32 `[N, K]`.

    What had to be clamped is logged.

    Args:
        kind: `'gaussian'`, the bins of tf-perceptual-eusr, whose mean differs by up to half a bin;
            `'mean_preserving'`; `'maximum_entropy'`, from the mean and, in rows that have one, the
            standard deviation; or `'maximum_entropy_mean'`, from the mean alone.
        means: `[N]`, on the axis of `values`.
        stds: `[N]`, may be NaN where unknown.
        values: `[K]` ascending scores of the bins.
        source: what messages call the rows' origin.

    Raises:
        ValueError: for an unknown kind, means beyond the bins, or a standard deviation that is
            negative or that the kind needs and a row lacks.
    """
    means, stds, values = _checked(means, stds, values, source)
    if kind not in KINDS:
        raise ValueError(f"The target must be one of {', '.join(KINDS)}. Received: {kind!r}")
    if kind in ("gaussian", "mean_preserving"):
        if np.isnan(stds).any():
            raise ValueError(
                f"{source}: the target {kind} needs a standard deviation in every row; "
                f"{int(np.isnan(stds).sum())} of {len(stds)} rows have none"
            )
        make = gaussian_bins if kind == "gaussian" else mean_preserving_bins
        return make(means, stds, values)
    if kind == "maximum_entropy_mean":
        stds = np.full_like(stds, np.nan)
    known = ~np.isnan(stds)
    scores = np.empty((len(means), len(values)), np.float32)
    scores[~known] = maximum_entropy(means[~known], values)
    scores[known], raised, lowered = maximum_entropy_with_std(means[known], stds[known], values)
    for clamped, side in ((raised, "raised to the least"), (lowered, "lowered to the largest")):
        if clamped.any():
            logging.info(
                "%s: the standard deviation of %d of %d rows was %s that their mean allows on "
                "these bins",
                source,
                clamped.sum(),
                len(means),
                side,
            )
    return scores


def gaussian_bins(means, stds, values):
    """Returns the normal distribution's shares of the bins, float32 `[N, K]`.

    p_k = Phi((k + 0.5 - m) / s) - Phi((k - 0.5 - m) / s) with s = std + 1e-10, divided by the sum,
    as tf-perceptual-eusr does for TID2013. With a standard deviation far below the bins' width,
    the target is nearly one-hot and its mean is off by up to half a bin.

    Args:
        means: `[N]`, within half a bin of `values`.
        stds: `[N]`.
        values: `[K]` ascending scores of the bins; bins end half-way between two of them.
    """
    means, stds, values = (np.asarray(array, np.float64) for array in (means, stds, values))
    inner = (values[1:] + values[:-1]) / 2
    edges = np.concatenate([[2 * values[0] - inner[0]], inner, [2 * values[-1] - inner[-1]]])
    below = scipy.special.ndtr((edges - means[:, None]) / (stds[:, None] + _LEAST_STD))
    shares = np.diff(below, axis=1)
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def mean_preserving_bins(means, stds, values):
    """Returns a normal distribution shared out so that the mean stays, float32 `[N, K]`.

    Each score between two bins counts for both, the more for the nearer one (linear interpolation,
    which keeps means); scores beyond the first and last bin count for those. Where that cuts off a
    tail, the normal distribution is shifted until the mean is right. The variance grows by the
    interpolation, at most by a quarter of a squared bin width.

    Args:
        means: `[N]`, from the first to the last of `values`.
        stds: `[N]`.
        values: `[K]` ascending scores of the bins.
    """
    means, stds, values = (np.asarray(array, np.float64) for array in (means, stds, values))
    scale = stds + _LEAST_STD
    low, high = values[0] - 40 * scale, values[-1] + 40 * scale
    # Bisection: the mean of the clipped normal distribution grows with its location.
    for _ in range(100):
        middle = (low + high) / 2
        excess = _mean_excess(values[[0, -1]], middle, scale)
        too_low = values[0] + excess[:, 0] - excess[:, 1] < means
        low, high = np.where(too_low, middle, low), np.where(too_low, high, middle)
    excess = _mean_excess(values, (low + high) / 2, scale)
    # Mean part of each interval between two bins that lies below the score.
    covered = np.clip((excess[:, :-1] - excess[:, 1:]) / np.diff(values), 0, 1)
    ones, zeros = np.ones((len(means), 1)), np.zeros((len(means), 1))
    shares = -np.diff(np.hstack([ones, covered, zeros]), axis=1)
    return np.maximum(shares, 0).astype(np.float32)


def _mean_excess(thresholds, locations, scales):
    """Returns E[max(X - c, 0)] `[N, C]` for X normal with `locations` and `scales`, `[N]`."""
    distance = locations[:, None] - thresholds
    scaled = distance / scales[:, None]
    density = np.exp(-(scaled**2) / 2) / np.sqrt(2 * np.pi)
    return distance * scipy.special.ndtr(scaled) + scales[:, None] * density


def maximum_entropy(means, values):
    """Returns the distributions of largest entropy with these means, float32 `[N, K]`.

    p_k ~ exp(a k), as idealo/image-quality-assessment fits them.

    Args:
        means: `[N]`, from the first to the last of `values`.
        values: `[K]` ascending scores of the bins.
    """
    means, values = np.asarray(means, np.float64), np.asarray(values, np.float64)
    width = values[-1] - values[0]
    inside = np.minimum(means - values[0], values[-1] - means) > _AT_THE_LIMIT * width
    scores = _between(means, np.zeros(len(means), int), np.full(len(means), -1), values)
    features = (values[None, :, None] - means[inside, None, None]) / width
    scores[inside] = _fit(features, np.zeros((int(inside.sum()), 1)))
    return scores.astype(np.float32)


def maximum_entropy_with_std(means, stds, values):
    """Returns the distributions of largest entropy with these means and standard deviations.

    p_k ~ exp(a k + b k^2). On separate bins the variance cannot be below (m - u) (w - m), u and w
    being the bins beside the mean m (bins of width 1: f (1 - f), f the mean's fractional part),
    nor above (m - first) (last - m): it is clamped to that range.

    Args:
        means: `[N]`, from the first to the last of `values`.
        stds: `[N]`.
        values: `[K]` ascending scores of the bins.

    Returns:
        `(scores, raised, lowered)`: float32 `[N, K]`, and bool `[N]` that tell whose standard
        deviation was below the least, or above the largest possible one.
    """
    means, stds, values = (np.asarray(array, np.float64) for array in (means, stds, values))
    below = np.clip(np.searchsorted(values, means, side="right") - 1, 0, len(values) - 2)
    least = (means - values[below]) * (values[below + 1] - means)
    largest = (means - values[0]) * (values[-1] - means)
    variances = stds**2
    # What differs by rounding alone was not clamped.
    tolerance = 1e-9 * (values[-1] - values[0]) ** 2
    raised, lowered = variances < least - tolerance, variances > largest + tolerance

    step = values[below + 1] - values[below]
    at_least = variances <= least + _AT_THE_LIMIT * step**2
    at_largest = ~at_least & (variances >= largest * (1 - _AT_THE_LIMIT))
    inside = ~at_least & ~at_largest
    scores = np.empty((len(means), len(values)))
    scores[at_least] = _between(means[at_least], below[at_least], below[at_least] + 1, values)
    ends = np.zeros(int(at_largest.sum()), int)
    scores[at_largest] = _between(means[at_largest], ends, ends - 1, values)
    # Measured from the mean in bins: exponents stay small, and the system well conditioned.
    distance = (values - means[inside, None]) / step[inside, None]
    spread = variances[inside] / step[inside] ** 2
    scores[inside] = _fit(
        np.stack([distance, distance**2], axis=2),
        np.stack([np.zeros_like(spread), spread], axis=1),
        np.stack([np.zeros_like(spread), -0.5 / spread], axis=1),
    )
    return scores.astype(np.float32), raised, lowered


def _between(means, lower, upper, values):
    """Returns distributions `[N, K]` of two bins each that have these means."""
    rows = np.arange(len(means))
    share = (means - values[lower]) / (values[upper] - values[lower])
    scores = np.zeros((len(means), len(values)))
    scores[rows, lower] = 1 - share
    scores[rows, upper] += share
    return scores


def _fit(features, moments, start=None):
    """Returns p ~ exp(theta . features) `[N, K]` whose mean features are `moments`.

    Newton's method on the convex log-partition function minus theta . moments, whose gradient is
    the error of the moments; steps are halved until the function falls.

    Args:
        features: float64 `[N, K, F]`.
        moments: `[N, F]`, inside what distributions can have.
        start: first theta, `[N, F]`; default 0.
    """
    theta = np.zeros_like(moments) if start is None else start.copy()
    shares, value = _exponential(features, moments, theta)
    for _ in range(_NEWTON_STEPS):
        mean = np.einsum("nk,nkf->nf", shares, features)
        gradient = mean - moments
        if np.abs(gradient).max(initial=0) < 1e-12:
            break
        centred = features - mean[:, None]
        curvature = np.einsum("nk,nkf,nkg->nfg", shares, centred, centred)
        # Keeps the system solvable where nearly all mass is in one or two bins.
        curvature += 1e-14 * np.eye(features.shape[2])
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        decrease = np.einsum("nf,nf->n", step, gradient)
        size = np.ones(len(theta))
        for _ in range(40):
            shares, tried = _exponential(features, moments, theta - size[:, None] * step)
            # The allowance is rounding: near the minimum the function no longer changes.
            worse = tried > value - 1e-4 * size * decrease + 1e-13 * (1 + np.abs(value))
            if not worse.any():
                break
            size = np.where(worse, size / 2, size)
        theta = theta - size[:, None] * step
        value = tried
    return shares


def _exponential(features, moments, theta):
    exponents = np.einsum("nkf,nf->nk", features, theta)
    total = scipy.special.logsumexp(exponents, axis=1)
    value = total - np.einsum("nf,nf->n", theta, moments)
    return np.exp(exponents - total[:, None]), value


def _checked(means, stds, values, source):
    means, stds, values = (np.asarray(array, np.float64) for array in (means, stds, values))
    if len(values) < 2 or np.any(np.diff(values) <= 0):
        raise ValueError(
            f"The bins need at least two ascending scores. Received: {values.tolist()}"
        )
    outside = ~((means >= values[0]) & (means <= values[-1]))
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise ValueError(
            f"{source}: mean scores must be from {values[0]:g} to {values[-1]:g}, as the bins are. "
            f"Received {means[row]:g} in row {row + 1} ({int(outside.sum())} such rows)"
        )
    if np.any(stds < 0) or np.isinf(stds).any():
        row = int(np.flatnonzero((stds < 0) | np.isinf(stds))[0])
        raise ValueError(
            f"{source}: standard deviations must not be negative or infinite. "
            f"Received {stds[row]:g} in row {row + 1}"
        )
    return means, stds, values
