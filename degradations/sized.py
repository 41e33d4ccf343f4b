"""Degradations that pass through a bit stream and know its length in bytes."""

from keras import ops

from degradations import random
from degradations.base import Degradation, to_8_bits


class SizedDegradation(Degradation):
    """Base class of the codecs, whose `call_with_bytes` returns sizes.

    Codecs store 8-bit values: `quantize` says how fractions are removed before encoding
    ("truncate", "round"; None rounds). What comes back is whole. A subclass implements
    `apply_to_8_bits`, which draws nothing, and has a `codec`, a `bitstreams.Codec`.
    """

    whole = True

    @property
    def codec_name(self):
        """Name of the codec, to stand beside every result."""
        return type(self).__name__

    def apply(self, images, levels, seed):
        """Codes images by one level per image; nothing is drawn, the seed has no effect."""
        return self.apply_to_8_bits(images, levels, seed)[0]

    def draw_level(self, seed):
        """Returns the level of a single image, a number; None if the image is to stay as it is.

        `codec.encode` with it gives the bit stream whose size `call_with_bytes` tells of this image
        and seed.

        Args:
            seed: integer, or integers of shape [2].
        """
        if self.fixed and not self.keeps_some and self._table is None:
            return float(self._ranges[0, 0])  # nothing is drawn
        seed = random.make_seed(seed)
        values = self._draw_values(1, random.fold_in(seed, 0))
        keep = self._keep(values, 1, seed)
        if keep is not None and bool(ops.convert_to_numpy(keep)[0]):
            return None
        return ops.convert_to_numpy(self._to_levels(values))[0].item()

    def to_whole(self, images):
        """Returns the 8-bit values that the codec stores."""
        return to_8_bits(images, self.quantize or "round")
