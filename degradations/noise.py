"""Noise: additive Gaussian, salt-and-pepper, shot, impulse, speckle."""

import math

import numpy as np
from keras import ops

from degradations import random
from degradations.base import Degradation, per_image, register
from degradations.bitstreams import check_flag


@register
class Noise(Degradation):
    """Additive white Gaussian noise, drawn for each value.

    Sources: Zheng et al., "Improving the Robustness of Deep Neural Networks via Stability Training"
    (CVPR 2016), deviation 256 s; Daultani & Larochelle (WACV-W 2024), deviations 0 to 50.
    """

    parameters = ("deviation",)
    unit = "standard deviation in grey levels of 0-255"
    limits = ((0.0, 1000.0),)

    def apply(self, images, levels, seed):
        """Adds noise of standard deviation `levels` [B] to images [B, H, W, C]."""
        return images + random.normal(ops.shape(images), seed) * per_image(levels, images)


@register
class Saltpepper(Degradation):
    """Sets values to 0 (pepper), then values to 255 (salt), each with half the density.

    Each value of each channel is decided on its own. Salt is drawn after pepper and covers it, so
    that the share of values touched is density - density^2 / 4.
    Source: Daultani & Larochelle (WACV-W 2024), densities 0 to 0.25.

    Args:
        authors_variant: set salt to 1 instead of 255, as the authors' experiments did by giving the
            range (0, 1) for images of 0-255. Needed only to reproduce their table.
        **kwargs: see `Degradation`.
    """

    parameters = ("density",)
    options = ("authors_variant",)
    unit = "density: share of values"
    limits = ((0.0, 1.0),)

    def __init__(self, level=None, authors_variant=False, **kwargs):
        super().__init__(level, **kwargs)
        self.authors_variant = check_flag("authors_variant", authors_variant)

    def apply(self, images, levels, seed):
        """Replaces a share `levels` [B] of the values of images [B, H, W, C]."""
        half = per_image(levels, images) / 2
        draws = random.uniform(ops.shape(images), seed)
        salt = 1.0 if self.authors_variant else 255.0
        # One draw serves both: of what is not salt (1 - half), a share half is pepper.
        return _replace(images, draws, half * (1 - half), half, salt)


@register
class GaussianNoise(Degradation):
    """ImageNet-C's Gaussian noise: adds N(0, deviation) to images of 0-1.

    Source: Hendrycks & Dietterich (ICLR 2019).
    """

    severity_table = "gaussian_noise"
    parameters = ("deviation",)
    unit = "standard deviation, share of the full scale"
    limits = ((0.0, 4.0),)

    def apply(self, images, levels, seed):
        """Adds noise of standard deviation 255 `levels` [B] to images [B, H, W, C]."""
        return images + random.normal(ops.shape(images), seed) * per_image(255 * levels, images)


@register
class ImpulseNoise(Degradation):
    """ImageNet-C's impulse noise: a share of all values becomes 0 or 255, half each.

    Each value of each channel is decided on its own. Source: Hendrycks & Dietterich (ICLR 2019).
    """

    severity_table = "impulse_noise"
    parameters = ("share",)
    unit = "share of the values"
    limits = ((0.0, 1.0),)

    def apply(self, images, levels, seed):
        """Replaces a share `levels` [B] of the values of images [B, H, W, C]."""
        half = per_image(levels / 2, images)
        draws = random.uniform(ops.shape(images), seed)
        return _replace(images, draws, half, half, 255.0)


@register
class SpeckleNoise(Degradation):
    """ImageNet-C's speckle noise: x + x N(0, deviation).

    Source: Hendrycks & Dietterich (ICLR 2019).
    """

    severity_table = "speckle_noise"
    parameters = ("deviation",)
    unit = "standard deviation, share of the value"
    limits = ((0.0, 4.0),)

    def apply(self, images, levels, seed):
        """Multiplies images [B, H, W, C] by 1 + N(0, levels) for `levels` [B]."""
        noise = random.normal(ops.shape(images), seed) * per_image(levels, images)
        return images + images * noise


@register
class ShotNoise(Degradation):
    """ImageNet-C's shot noise: Poisson(photons x) / photons for images x of 0-1.

    Draws by inverting the distribution function of each of the 256 grey levels, for which images
    are rounded to 8 bits first. Source: Hendrycks & Dietterich (ICLR 2019).
    """

    severity_table = "shot_noise"
    parameters = ("photons",)
    unit = "mean number of photons at full scale"
    limits = ((0.1, 2000.0),)
    shares_level = True

    def apply(self, images, levels, seed):
        """Counts photons in images [B, H, W, C], `levels` [B] at full scale."""
        if self.fixed:
            return self._apply_fixed(images, levels, seed)
        rates = ops.reshape(levels, [-1, 1]) * np.arange(256, dtype=np.float32) / 255.0
        cumulative, steps = poisson_tables(rates, self.largest("photons"))
        size = 2**steps
        row = ops.cast(ops.floor(images + 0.5), "int32") * size
        if cumulative.shape[0] != 1:
            first = ops.arange(ops.shape(images)[0]) * (256 * size)
            row = row + ops.reshape(first, [-1, 1, 1, 1])
        cumulative = ops.reshape(cumulative, [-1])
        draws = random.uniform(ops.shape(images), seed)
        position = row
        for step in reversed(range(steps)):
            # The count is at least 2^step more if the draw is not below the sum up to there.
            below = ops.take(cumulative, position + (2**step - 1))
            position = position + ops.cast(draws >= below, "int32") * 2**step
        counts = ops.cast(position - row, "float32")
        return counts * per_image(255.0 / levels, images)

    def _apply_fixed(self, images, levels, seed):
        """One look-up per value instead of a search, from tables that are made beforehand."""
        photons = self.largest("photons")
        own, other = alias_tables(photons * np.arange(256) / 255.0, photons)
        size = own.shape[1]
        draws = random.uniform(ops.shape(images), seed) * float(size)
        column = ops.floor(draws)
        index = ops.cast(ops.floor(images + 0.5) * float(size) + column, "int32")
        keep = ops.cast(draws - column < ops.take(own.ravel(), index), "float32")
        swapped = ops.take(other.ravel().astype(np.float32), index)
        counts = swapped + keep * (column - swapped)
        return counts * per_image(255.0 / levels, images)


def alias_tables(rates, largest):
    """Returns tables to draw Poisson variables with one look-up each.

    The alias method of Walker, "An Efficient Method for Generating Discrete Random Variables with
    General Distributions" (ACM TOMS, 1977): a column is chosen evenly; it gives its own number with
    the probability that the first table holds, else the number in the second.

    Args:
        rates: float64 array [N].
        largest: the largest rate.

    Returns:
        (float32 [N, K] probabilities, int32 [N, K] other numbers).
    """
    counts = np.arange(math.ceil(largest + 6 * math.sqrt(largest) + 8))
    logs = np.array([math.lgamma(k + 1) for k in counts])
    shares = np.exp(counts * np.log(np.maximum(rates, 1e-30))[:, None] - rates[:, None] - logs)
    left = shares / shares.sum(axis=1, keepdims=True) * len(counts)
    own, other = np.ones_like(left), np.tile(counts, (len(rates), 1))
    rows, open_columns = np.arange(len(rates)), np.ones(left.shape, bool)
    for _ in counts[1:]:
        poor = np.where(open_columns, left, np.inf).argmin(axis=1)
        rich = np.where(open_columns, left, -np.inf).argmax(axis=1)
        own[rows, poor], other[rows, poor] = left[rows, poor], rich
        left[rows, rich] -= 1 - left[rows, poor]
        open_columns[rows, poor] = False
    return own.astype(np.float32), other.astype(np.int32)


def poisson_tables(rates, largest):
    """Returns distribution functions of Poisson variables, and the log2 of their length.

    Args:
        rates: float32 [B, N].
        largest: the largest rate, a plain number.

    Returns:
        (float32 [B, N, 2^steps], steps); entry k is the probability of at most k. Rates leave less
        than one in 10^8 beyond the end.
    """
    steps = math.ceil(math.log2(largest + 6 * math.sqrt(largest) + 8))
    counts = np.arange(2**steps, dtype=np.float32)
    log_factorials = np.float32([math.lgamma(k + 1) for k in range(2**steps)])
    rates = ops.expand_dims(rates, -1)
    # A rate of 0 has all its mass at 0, and no logarithm.
    logs = counts * ops.log(ops.maximum(rates, 1e-30)) - rates - log_factorials
    return ops.cumsum(ops.exp(logs), axis=-1), steps


def _replace(images, draws, low_share, high_share, high):
    """Sets a share of the values to 0 and another to `high`, by uniform draws of 0-1."""
    # Products instead of ops.where, which is ten times as slow on a CPU for random masks.
    lows = ops.cast(draws >= low_share, "float32")
    highs = ops.cast(draws >= 1 - high_share, "float32")
    return images * (lows - highs) + high * highs
