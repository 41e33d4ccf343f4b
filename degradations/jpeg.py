"""JPEG on tensors, bit for bit as Pillow writes and reads it, per-image quality in one batch.

The pixels equal those of `Image.fromarray(x).save(file, "JPEG", quality=q, subsampling=s)` read
back with `Image.open` (baseline, libjpeg-turbo, its default "slow integer" transform and fancy
upsampling), for every size and quality. Everything is built from elementary tensor operations: it
compiles under XLA, runs on accelerators, and has a differentiable form.
"""

import numpy as np
from keras import ops

from degradations import (
    bitstreams,
    jpeg_blocks,
    jpeg_color,
    jpeg_gradient,
    jpeg_size,
    random,
)
from degradations.base import check_images, per_image, register
from degradations.bitstreams import check_choice, check_flag
from degradations.sized import SizedDegradation

SUBSAMPLINGS = ("444", "422", "420", "400")
IMPLEMENTATIONS = ("auto", "tensor", "codec")

# Values of one plane that a part of the batch may have, so that its planes stay in a CPU's cache.
_PIXELS_PER_PART = 2**16

# One above the best quality: the image is left as it is (FusionDistill's clean level).
CLEAN = 101


def round_trip(images, quality, subsampling="420", differentiable=False, arithmetic=None):
    """Returns images as they come back from a JPEG file.

    Args:
        images: float32 [B, H, W, 3] RGB or [B, H, W, 1] grey, values 0-255; fractions are rounded.
            H and W must be known, B need not be.
        quality: integers 1-100, shape [] or [B].
        subsampling: chroma resolution, "444", "422" or "420" (Pillow's default); "400" stores RGB
            images as grey ones. Grey images have no chroma.
        differentiable: gives every rounding the gradient of the identity ("straight through"; Y.
            Bengio, N. Léonard and A. Courville, "Estimating or Propagating Gradients Through
            Stochastic Neurons", 2013) and cuts the gradient where values were clipped. The pixels
            stay the same.
        arithmetic: "float32" or "int32" for the block transform; None chooses by device
            (`jpeg_blocks.choose_arithmetic`). The pixels are the same.

    Returns:
        float32 of the shape of `images`, whole values 0-255.

    Raises:
        ValueError: if an argument is outside what is allowed, or H or W is unknown.
    """
    images, quality, arithmetic = _check(images, quality, subsampling, arithmetic)
    if not differentiable:
        return _in_parts(
            lambda images, quality: _code(_whole(images), quality, subsampling, arithmetic)[:1],
            arithmetic,
            images,
            quality,
        )[0]
    return _straight_through(images, quality, subsampling, arithmetic)


def byte_length(images, quality, subsampling="420", exact=True, arithmetic=None):
    """Returns the length in bytes of the JPEG files that Pillow would write, int32 [B].

    Counts the default Huffman tables (no `optimize`).

    Args:
        images: as in `round_trip`.
        quality: as in `round_trip`.
        subsampling: as in `round_trip`.
        exact: whether to build the bit stream to count its stuffed bytes. Otherwise these are
            estimated, many times faster; the length is then within 0.5 % on photos.
        arithmetic: as in `round_trip`.
    """
    return round_trip_and_bytes(images, quality, subsampling, exact, arithmetic)[1]


def round_trip_and_bytes(images, quality, subsampling="420", exact=True, arithmetic=None):
    """Returns what `round_trip` and `byte_length` return, for the work of one of them."""
    images, quality, arithmetic = _check(images, quality, subsampling, arithmetic)
    height, width = images.shape[1:3]

    def work(images, quality):
        decoded, luma, chroma, _ = _code(_whole(images), quality, subsampling, arithmetic)
        blocks, is_chroma = jpeg_size.stream_coefficients(
            luma, chroma, height, width, None if chroma is None else subsampling, ordered=exact
        )
        count = jpeg_size.exact_bytes if exact else jpeg_size.estimate_bytes
        return decoded, count(blocks, is_chroma, 1 if chroma is None else 3)

    return _in_parts(work, arithmetic, images, quality)


def _straight_through(images, quality, subsampling, arithmetic):
    """Returns the round trip of images, with the gradient that `round_trip` describes.

    The transforms of a block undo each other, so that all that is left is linear but for the values
    that were cut. It is written out in `jpeg_gradient`, which costs less than the forward pass.
    """

    @ops.custom_gradient
    def coded(images, quality):
        def forward(images, quality):
            decoded, _, _, uncut = _code(
                _whole(images), ops.cast(quality, "int32"), subsampling, arithmetic
            )
            return decoded, *uncut

        result, *uncut = _in_parts(forward, arithmetic, images, quality)

        def backward(gradient, images, *uncut):
            gradient = jpeg_gradient.backward(gradient, uncut, subsampling, arithmetic)
            return (gradient * ops.cast(_within(images), "float32"),)

        def gradient(*arguments, upstream=None):
            upstream = arguments[0] if upstream is None else upstream
            result = _in_parts(backward, arithmetic, upstream, images, *uncut)[0]
            return result, ops.zeros_like(quality)

        return result, gradient

    # Numbers without a gradient would need a special one on each backend.
    return coded(images, ops.cast(quality, "float32"))


def _in_parts(work, arithmetic, images, *others):
    """Returns work(images, *others), in a compiled loop over parts that fit a CPU's caches.

    `work` takes and returns a tuple of tensors whose first axis counts images. On an accelerator,
    eagerly, or if the batch size is unknown, the whole batch is one part.
    """
    batch_size, height, width, _ = images.shape
    if arithmetic != "float32" or not batch_size or random.concrete(images) is not None:
        return work(images, *others)
    wanted = max(_PIXELS_PER_PART // (height * width), 1)
    part = max(
        size for size in range(1, batch_size + 1) if batch_size % size == 0 and size <= wanted
    )
    if part == batch_size:
        return work(images, *others)
    if part == 1:
        # Without an axis of length 1 in between, around which XLA copies.
        def work_on_one(one):
            results = work(*(ops.expand_dims(x, 0) for x in one))
            return tuple(ops.squeeze(result, 0) for result in results)

        return tuple(ops.map(work_on_one, (images, *others)))
    results = ops.map(
        lambda parts: work(*parts),
        tuple(ops.reshape(x, (-1, part, *x.shape[1:])) for x in (images, *others)),
    )
    return tuple(ops.reshape(result, (batch_size, *result.shape[2:])) for result in results)


def _whole(images):
    """Rounds, after cutting to 0-255; NaN becomes 0 (eagerly, both have been refused)."""
    return ops.floor(ops.minimum(ops.where(images >= 0.0, images, 0.0), 255.0) + 0.5)


def _code(images, quality, subsampling, arithmetic):
    """Codes and decodes images of whole values.

    Returns:
        (decoded images, luma coefficients, chroma coefficients or None, masks); the masks tell what
        was not cut: of luma [B, h, w] and, if there is colour, of Cb and Cr [B, 2, h', w'] and of
        the images.
    """
    height, width, channels = images.shape[1:]
    tables = jpeg_blocks.tables_for(quality, chroma=False)
    if channels == 1 or subsampling == "400":
        y = images[..., 0] if channels == 1 else jpeg_color.luma(images)
        y, luma, uncut = _code_planes(y, tables, "444", arithmetic)
        decoded = ops.repeat(ops.expand_dims(y, -1), channels, axis=-1)
        return decoded, luma, None, (uncut,)

    y, chroma = jpeg_color.to_ycbcr(images, arithmetic)
    y, luma, uncut_y = _code_planes(y, tables, "444", arithmetic)
    tables = ops.tile(jpeg_blocks.tables_for(quality, chroma=True), (1, 1, 2, 1))
    planes, chroma, uncut = _code_planes(chroma, tables, subsampling, arithmetic)
    decoded = jpeg_color.to_rgb(y, planes)
    decoded = ops.reshape(decoded, (-1, height, width, 3))
    uncut = ops.transpose(ops.reshape(uncut, (2, -1, *uncut.shape[1:])), (1, 0, 2, 3))
    return ops.clip(decoded, 0.0, 255.0), luma, chroma, (uncut_y, uncut, _within(decoded))


def _code_planes(planes, tables, subsampling, arithmetic):
    """Returns (decoded planes, coefficients, mask of what was not cut) of planes [B, H, W]."""
    height, width = planes.shape[1:]
    reduced = jpeg_color.reduce(planes, subsampling)
    rows, columns = reduced.shape[1:]
    coefficients = jpeg_blocks.forward(reduced, tables, arithmetic)
    decoded = jpeg_blocks.inverse(coefficients, tables, rows, columns, arithmetic)
    planes = jpeg_color.enlarge(ops.clip(decoded, 0.0, 255.0), subsampling, height, width)
    return planes, coefficients, _within(decoded)


def _within(values):
    return ops.logical_and(values >= 0.0, values <= 255.0)


def _check(images, quality, subsampling, arithmetic):
    """Returns images [B, H, W, C] and quality [B] as tensors, and the arithmetic to use."""
    # `_whole` cleans what a graph brings, in passing.
    images = check_images(images, "JPEG", clean=False)
    if None in images.shape[1:]:
        raise ValueError(
            "JPEG on tensors needs a known height and width: set them with `set_shape`, or use the "
            f"codec on the host. Received: {tuple(images.shape)}"
        )
    check_choice("subsampling", subsampling, SUBSAMPLINGS)
    arithmetic = arithmetic or jpeg_blocks.choose_arithmetic()
    check_choice("arithmetic", arithmetic, ("float32", "int32"))
    return images, _check_quality(quality, images), arithmetic


def _check_quality(quality, images):
    values = random.concrete(quality)
    if values is not None:
        whole = np.issubdtype(values.dtype, np.number) and np.all(values == np.floor(values))
        if values.ndim > 1 or not whole or np.any(values < 1) or np.any(values > 100):
            raise ValueError(
                f"quality must be integers 1-100 of shape [] or [B]. Received: {quality!r}"
            )
    quality = ops.clip(ops.cast(quality, "int32"), 1, 100)
    return ops.broadcast_to(quality, (ops.shape(images)[0],))


@register
class Jpeg(SizedDegradation):
    """JPEG round trip at one quality per image, with the same pixels as Pillow's.

    Args:
        level: quality factor 1-100, or a pair to draw from; 101 leaves the image as it is
            (FusionDistill's range is 1-101).
        severity: instead of a level, ImageNet-C's severity 1-5.
        subsampling: "444", "422", "420" (Pillow's default), or "400" for grey.
        implementation: "tensor" computes with tensor operations, anywhere; "codec" calls the real
            codec, eagerly or in a `Dataset.map` on the host, and is several times faster on a CPU;
            "auto" takes the codec where it can run and no accelerator would be faster.
        differentiable: gives the tensor form a straight-through gradient, see `round_trip`; not
            with implementation="codec".
        size_estimate: whether `call_with_bytes` of the tensor form estimates the number of stuffed
            bytes (within 0.5 % on photos) instead of counting them.
        quantize: how fractions are removed before encoding: "truncate", "round", or None to round.
        **kwargs: p, step, size and name, as in `Degradation`.

    Raises:
        ValueError: if an argument is outside what is allowed.
    """

    severity_table = "jpeg_compression"
    parameters = ("quality",)
    options = ("subsampling", "implementation", "differentiable", "size_estimate")
    unit = "quality factor"
    limits = ((1, CLEAN),)
    integer = True

    def __init__(
        self,
        level=None,
        severity=None,
        subsampling="420",
        implementation="auto",
        differentiable=False,
        size_estimate=False,
        **kwargs,
    ):
        super().__init__(level, severity, **kwargs)
        subsampling = str(subsampling)
        check_choice("subsampling", subsampling, SUBSAMPLINGS)
        check_choice("implementation", implementation, IMPLEMENTATIONS)
        check_flag("differentiable", differentiable)
        check_flag("size_estimate", size_estimate)
        if differentiable and implementation == "codec":
            raise ValueError(
                "differentiable needs implementation 'auto' or 'tensor': a codec has no gradient. "
                "Received: implementation='codec'"
            )
        self.subsampling, self.implementation = subsampling, implementation
        self.differentiable, self.size_estimate = differentiable, size_estimate

    @property
    def codec(self):
        """The codec that gives the same bytes and pixels, on the host."""
        return bitstreams.Jpeg(self.subsampling)

    def draw_level(self, seed):
        """Returns the quality of a single image; see `SizedDegradation.draw_level`."""
        level = super().draw_level(seed)
        return None if level is None or level >= CLEAN else level

    def cleans(self, images):
        """True where every image goes through the codec, whose call cuts and rounds."""
        all_coded = not self.keeps_some and self.largest("quality") < CLEAN
        return all_coded and self._use_codec(images)

    def to_whole(self, images):
        """Returns the 8-bit values that are stored, with a gradient if the layer has one."""
        if self.cleans(images):
            return images
        whole = super().to_whole(images)
        return images + ops.stop_gradient(whole - images) if self.differentiable else whole

    def apply_to_8_bits(self, images, levels, seed, with_bytes=False):
        """Codes images by one quality per image; clean ones count 0 bytes."""
        images, quality, sizes = self.to_whole(images), ops.cast(levels, "int32"), None
        coding = images, ops.minimum(quality, 100), self.subsampling
        if self._use_codec(images):
            coded, sizes = self._codec(images, quality)
        elif with_bytes:
            coded, sizes = round_trip_and_bytes(*coding, not self.size_estimate)
        else:
            coded = round_trip(*coding, self.differentiable)
        sizes = ops.where(quality >= CLEAN, 0, sizes) if with_bytes else None
        return self._leave_clean(images, coded, quality), sizes

    def _leave_clean(self, images, coded, quality):
        if self.largest("quality") < CLEAN:
            return coded
        return ops.where(per_image(quality >= CLEAN, images), images, coded)

    def _use_codec(self, images):
        if self.implementation != "auto" or self.differentiable:
            return self.implementation == "codec"
        # Imported where needed: the tensor form does without codecs and TensorFlow.
        from degradations import codecs

        accelerated = jpeg_blocks.choose_arithmetic() == "int32"
        return codecs.is_on_host(images) and (codecs.is_in_dataset() or not accelerated)

    def _codec(self, images, quality):
        from degradations import codecs

        return codecs.round_trip(self.codec, images, ops.minimum(quality, 100), self.quantize)
