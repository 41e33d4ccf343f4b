"""Degradations that pass through a bit stream and know its length in bytes."""

from degradations.base import Degradation, to_8_bits


class SizedDegradation(Degradation):
    """Base class of the codecs, whose `call_with_bytes` returns sizes.

    Codecs store 8-bit values: `quantize` says how fractions are removed before encoding
    ("truncate", "round"; None rounds). What comes back is whole. A subclass implements
    `apply_with_bytes`.
    """

    whole = True

    @property
    def codec_name(self):
        """Name of the codec, to stand beside every result."""
        return type(self).__name__

    def apply_with_bytes(self, images, levels):
        """Codes images by one level per image.

        Args:
            images: float32 [B, H, W, C] of whole values 0-255.
            levels: float32 [B].

        Returns:
            float32 [B, H, W, C] of whole values 0-255, and the bytes of each bit stream, int32 [B].
        """
        raise NotImplementedError(f"{type(self).__name__} has no apply_with_bytes")

    def apply(self, images, levels, seed):
        """Codes images by one level per image; nothing is drawn, the seed has no effect."""
        del seed
        return self.apply_with_bytes(self.to_whole(images), levels)[0]

    def apply_to_8_bits(self, images, levels, seed, with_bytes=False):
        """Codes images; see `Degradation`."""
        if not with_bytes:
            return self.apply(images, levels, seed), None
        return self.apply_with_bytes(self.to_whole(images), levels)

    def to_whole(self, images):
        """Returns the 8-bit values that the codec stores."""
        return to_8_bits(images, self.quantize or "round")
