"""The four changes of light and colour that SyMPIE trains on.

Their level is the severity itself, 0 (no change) to 5; fractions lie in between. Shifts of colours
are whole grey levels, and results are rounded, not truncated.

Source: Barbato, Michieli, Yucel, Zanuttigh and Ozay, "A Modular System for Enhanced Robustness of
Multimedia Understanding Networks via Deep Parametric Estimation", ACM MMSys 2024, section on the
training distortions.
"""

from keras import ops

from degradations import random
from degradations.base import Degradation, is_grey, per_image, register


class ColourWarp(Degradation):
    """Base class of the colour corruptions.

    Args:
        level: see `Degradation`.
        severity: see `Degradation`.
        quantize: see `Degradation`; these round where the others truncate.
        **kwargs: see `Degradation`.
    """

    unit = "severity, 0 to 5"
    limits = ((0.0, 5.0),)
    # Number and largest size of the shifts, in grey levels, that are drawn per image.
    shifts = 0
    largest_shift = 0

    def __init__(self, level=None, severity=None, quantize="round", **kwargs):
        super().__init__(level, severity, quantize=quantize, **kwargs)

    @classmethod
    def severities(cls, size=224):
        """Returns 1 to 5: the level is the severity."""
        return (1.0, 2.0, 3.0, 4.0, 5.0)

    def draw_shifts(self, batch_size, seed):
        """Returns the shifts of colours in whole grey levels, float32 `[B, shifts]`."""
        ends = -self.largest_shift, self.largest_shift + 1
        return ops.cast(random.integers([batch_size, self.shifts], seed, *ends), "float32")

    def transform(self, images, levels, shifts):
        """Changes RGB images by given shifts; see the class for the formula."""
        raise NotImplementedError

    def apply(self, images, levels, seed):
        """Draws the shifts of each image and applies them.

        A grey image is changed as the RGB image of the same grey; the result is its channels' mean.
        """
        shifts = None
        if self.shifts:
            shifts = self.draw_shifts(ops.shape(images)[0], seed)
        if not is_grey(images):
            return self.transform(images, levels, shifts)
        changed = self.transform(ops.repeat(images, 3, axis=-1), levels, shifts)
        return ops.mean(changed, axis=-1, keepdims=True)


def _blend_by_severity(images, changed, levels):
    return images + per_image(levels / 5.0, images) * (changed - images)


def _colour(shifts, *channels):
    """Stacks three channels, numbers or tensors like `shifts` [B], to colours [B, 1, 1, 3]."""
    channels = [channel + ops.zeros_like(shifts) for channel in channels]
    return ops.stack(channels, axis=-1)[:, None, None, :]


@register
class Darken(ColourWarp):
    """`x / (severity + 1)`."""

    def transform(self, images, levels, shifts=None):
        """Divides the images by severity + 1."""
        return images / per_image(levels + 1.0, images)


@register
class Sunset(ColourWarp):
    """Orange light: `c = colour x / 255 + colour / 10`, blended in by severity / 5.

    The colour is (255, 192 + d, 192 - d), d from -32 to 32.
    """

    shifts = 1
    largest_shift = 32

    def transform(self, images, levels, shifts):
        """Blends with the coloured image; shifts `[B, 1]` hold d."""
        shift = shifts[:, 0]
        colour = _colour(shift, 255.0, 192.0 + shift, 192.0 - shift)
        return _blend_by_severity(images, colour * images / 255.0 + colour / 10.0, levels)


@register
class Night(ColourWarp):
    """Blue darkness: `0.8 colour x / 255 + 0.2 copy`, blended in by severity / 5.

    The colour is (32, 32, 64 + d), d from -24 to 24; in the copy of the image, pixels whose
    channels' mean is above 128 are inverted.
    """

    shifts = 1
    largest_shift = 24

    def transform(self, images, levels, shifts):
        """Blends with the dark image; shifts `[B, 1]` hold d."""
        is_bright = ops.mean(images, axis=-1, keepdims=True) > 128.0
        copy = ops.where(is_bright, 255.0 - images, images)
        colour = _colour(shifts[:, 0], 32.0, 32.0, 64.0 + shifts[:, 0])
        return _blend_by_severity(images, 0.8 * colour * images / 255.0 + 0.2 * copy, levels)


@register
class White(ColourWarp):
    """Shifted white point: `x colour / 255` with colour `255 + severity shift / 5` per channel.

    Each channel has its own shift from -32 to 32.
    """

    shifts = 3
    largest_shift = 32

    def transform(self, images, levels, shifts):
        """Multiplies each channel; shifts `[B, 3]`."""
        colour = 255.0 + levels[:, None] * shifts / 5.0
        return images * colour[:, None, None, :] / 255.0
