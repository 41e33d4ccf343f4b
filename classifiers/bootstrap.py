"""Confidence intervals by the bootstrap: the images are drawn anew, with replacement.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3 (percentile intervals).
"""

import numpy as np

RESAMPLES = 1000
COVERAGE = 0.95
# Drawn counts that are held at a time.
_CHUNK = 1 << 24


def resample_means(values, seed, resamples=RESAMPLES):
    """Returns the means of columns over images drawn with replacement, float64 `[resamples, F]`.

    In a resample all columns see the same images, so that differences of columns are paired.

    Args:
        values: `[N, F]`, one row for each image.
        seed: integer; the same gives the same draws.
        resamples: how many times the images are drawn.
    """
    values = np.asarray(values, np.float32)
    count = len(values)
    random = np.random.default_rng(seed)
    rows = max(1, _CHUNK // max(count, 1))
    means = np.empty([resamples, values.shape[1]])
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = random.integers(0, count, [size, count], dtype=np.int32)
        drawn += np.arange(size, dtype=np.int32)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        means[start : start + size] = times.astype(np.float32) @ values
    return means / count


def interval(samples, coverage=COVERAGE):
    """Returns (low, high): the percentiles between which `coverage` of the samples `[R]` lie."""
    low, high = np.quantile(samples, [(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)
