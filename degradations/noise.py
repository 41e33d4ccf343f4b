"""Noise: additive Gaussian, salt-and-pepper, shot, impulse, speckle."""

from keras import ops

from degradations import random, severity
from degradations.base import Degradation, per_image, register


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
    unit = "density: share of values"
    limits = ((0.0, 1.0),)

    def __init__(self, level=None, authors_variant=False, **kwargs):
        super().__init__(level, **kwargs)
        if not isinstance(authors_variant, bool):
            raise ValueError(
                f"authors_variant must be true or false. Received: {authors_variant!r}"
            )
        self.authors_variant = authors_variant

    def apply(self, images, levels, seed):
        """Replaces a share `levels` [B] of the values of images [B, H, W, C]."""
        half = per_image(levels, images) / 2
        draws = random.uniform(ops.shape(images), seed)
        salt = 1.0 if self.authors_variant else 255.0
        # One draw serves both: of what is not salt (1 - half), a share half is pepper.
        pepper = half * (1 - half)
        result = ops.where(draws < pepper, 0.0, images)
        return ops.where(draws >= 1 - half, salt, result)

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "authors_variant": self.authors_variant}


@register
class GaussianNoise(Degradation):
    """ImageNet-C's Gaussian noise: adds N(0, deviation) to images of 0-1.

    Source: Hendrycks & Dietterich (ICLR 2019).
    """

    parameters = ("deviation",)
    unit = "standard deviation, share of the full scale"
    limits = ((0.0, 4.0),)

    @classmethod
    def severities(cls, size=224):
        """Returns the deviations of severity 1 to 5, shape [5, 1]."""
        return severity.table("gaussian_noise", size)

    def apply(self, images, levels, seed):
        """Adds noise of standard deviation 255 `levels` [B] to images [B, H, W, C]."""
        return images + random.normal(ops.shape(images), seed) * per_image(255 * levels, images)
