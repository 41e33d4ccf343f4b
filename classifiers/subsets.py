"""A part of a data set: a balanced choice of its images."""

import numpy as np


def choose(labels, count, seed):
    """Returns the sorted indices of a random choice with as many of each class as can be.

    The choice of a smaller number is a part of that of a larger one.

    Args:
        labels: integers `[N]`.
        count: number of images; of more than N all are chosen.
        seed: integer.
    """
    labels = np.asarray(labels)
    order = np.random.default_rng(seed).permutation(len(labels))
    turns = np.zeros(len(labels), np.int64)  # 0 for the first of its class in this order, ...
    for label in np.unique(labels):
        members = order[labels[order] == label]
        turns[members] = np.arange(len(members))
    return np.sort(order[np.argsort(turns[order], kind="stable")][:count])
