"""Earth mover's distance of score distributions."""

import keras


def earth_movers_distance(predicted, target, r=2.0):
    """Returns the mean distance of two batches of distributions (scalar, 0-1).

    Talebi and Milanfar, "NIMA: Neural Image Assessment", 2018, equation 1:
    `(mean over the bins of |CDF_p - CDF_q| ** r) ** (1 / r)`. They train with r = 2.

    Rows of `[batch, bins]` sum to 1; an exponent r below 1 is a ValueError. The gradient at a
    perfect match, where the root has none, is 0.
    """
    return keras.ops.mean(distances(predicted, target, r))


def distances(predicted, target, r=2.0):
    """Returns the distance `[batch]` of each pair; see `earth_movers_distance`."""
    if r < 1:
        raise ValueError(
            f"The exponent r of the earth mover's distance is at least 1. Received: {r}"
        )
    ops = keras.ops
    target = ops.cast(target, predicted.dtype)
    gaps = ops.abs(ops.cumsum(predicted - target, axis=-1))
    if r == 1:
        return ops.mean(gaps, axis=-1)
    # Both branches of where() are differentiated: the inner ones must be finite at gap 0, too.
    powers = ops.where(gaps > 0, ops.power(ops.where(gaps > 0, gaps, 1.0), r), 0.0)
    means = ops.mean(powers, axis=-1)
    safe = ops.where(means > 0, means, 1.0)
    return ops.where(means > 0, ops.power(safe, 1.0 / r), 0.0)
