"""Degradations that pass through a bit stream and know its length in bytes."""

from degradations.base import Degradation, to_8_bits


class SizedDegradation(Degradation):
    """Base class of the codecs, whose `call_with_bytes` returns sizes.

    Codecs store 8-bit values: `quantize` says how fractions are removed before encoding
    ("truncate", "round"; None rounds). What comes back is whole. A subclass implements
    `apply_to_8_bits`, which draws nothing.
    """

    whole = True

    @property
    def codec_name(self):
        """Name of the codec, to stand beside every result."""
        return type(self).__name__

    def apply(self, images, levels, seed):
        """Codes images by one level per image; nothing is drawn, the seed has no effect."""
        return self.apply_to_8_bits(images, levels, seed)[0]

    def to_whole(self, images):
        """Returns the 8-bit values that the codec stores."""
        return to_8_bits(images, self.quantize or "round")
