"""Degradations that pass through a bit stream and know its length in bytes."""

from keras import ops

from degradations import random
from degradations.base import Degradation, check_images, choose, to_8_bits


class SizedDegradation(Degradation):
    """Base class of the codecs: `call_with_bytes` returns pixels and sizes.

    Codecs store 8-bit values: `quantize` says how fractions are removed before encoding
    ("truncate", "round"; None rounds). What comes back is whole. A subclass implements
    `apply_with_bytes`.
    """

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

    def call(self, images, seed):
        """Draws and applies; the result holds whole values already."""
        values = self._draw_values(ops.shape(images)[0], random.fold_in(seed, 0))
        degraded = self.apply(images, self._to_levels(values), seed)
        keep = self._keep(values, ops.shape(images)[0], seed)
        return degraded if keep is None else choose(keep, images, degraded)

    def to_whole(self, images):
        """Returns the 8-bit values that the codec stores."""
        return to_8_bits(images, self.quantize or "round")

    def call_with_bytes(self, images, seed):
        """Returns what the layer returns, and the bytes of each image's stream, int32 [B].

        An image that stays as it is, because of `p` or a severity of 0, counts 0 bytes: it has no
        bit stream, and belongs in no mean.

        Args:
            images: float32 [B, H, W, 3] or [B, H, W, 1], values 0-255.
            seed: integer, or integer tensor of shape [2].
        """
        images = check_images(images, type(self).__name__)
        seed = random.make_seed(seed)
        values = self._draw_values(ops.shape(images)[0], random.fold_in(seed, 0))
        degraded, sizes = self.apply_with_bytes(self.to_whole(images), self._to_levels(values))
        keep = self._keep(values, ops.shape(images)[0], seed)
        if keep is None:
            return degraded, sizes
        return choose(keep, images, degraded), ops.where(keep, 0, sizes)
