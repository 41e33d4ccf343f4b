"""Real codecs as degradations, each with the size of its bit stream; on the host only.

They work eagerly and in a `Dataset.map`, and raise in a step compiled by XLA. Images of a batch are
coded side by side in threads (libraries release Python's lock while they compute, or run in worker
processes), so one layer keeps all cores busy, whether the map is parallel or not.

Source of the family and its levels: Marie, Desnos, Morin & Zhang, "Expert Training: Enhancing AI
Resilience to Image Coding Artifacts" (Electronic Imaging 2022).
"""

import concurrent.futures
import functools
import inspect
import os

import keras
import numpy as np
from keras import ops

from degradations import bitstreams, random
from degradations.base import ROUNDING_SLACK, register
from degradations.sized import SizedDegradation

_ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
if _ON_TENSORFLOW:
    import tensorflow as tf


def is_on_host(images):
    """Returns whether host code can run here: eagerly, or in a graph that XLA does not compile.

    Args:
        images: the tensor at hand, which tells eager from traced values on the JAX backend.
    """
    if not _ON_TENSORFLOW:
        return random.concrete(images) is not None
    return not random.is_static()


def is_in_dataset():
    """Returns whether a `tf.data.Dataset` is tracing this function, which then runs on the CPU."""
    if not _ON_TENSORFLOW or tf.executing_eagerly():
        return False
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        if getattr(graph, "name", "").startswith("Dataset_"):
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


@functools.cache
def _threads():
    return concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1, "codec")


def _to_uint8(image, quantize):
    """Returns a float32 image as uint8, just as `check_images` and `to_8_bits` would."""
    if not (image.min() >= 0 and image.max() <= 255):  # also false for NaN
        image = np.clip(np.nan_to_num(image), 0, 255)
    slack = ROUNDING_SLACK if quantize == "truncate" else 0.5
    return (image + np.float32(slack)).astype(np.uint8)


def _round_trip_numpy(codec, quantize, images, levels):
    """Codes float32 images [B, H, W, C] by levels [B]; returns (uint8 images, int32 sizes [B])."""
    decoded, sizes = np.empty(images.shape, np.uint8), np.empty(len(images), np.int32)

    def code(indices):
        for i in indices:
            # Here, in the threads, and not in the graph, which would pass over the whole batch
            # several times.
            pixels = _to_uint8(images[i], quantize)
            decoded[i], sizes[i] = codec.round_trip(pixels, levels[i].item())

    # Every n-th image: neighbours, alike in cost or not, go to different threads.
    workers = min(len(images), os.cpu_count() or 1)
    if workers > 1:
        list(_threads().map(code, [range(i, len(images), workers) for i in range(workers)]))
    else:
        code(range(len(images)))
    return decoded, sizes


def round_trip(codec, images, levels, quantize="round"):
    """Sends images through a codec, eagerly or in a graph on the host.

    Args:
        codec: a `bitstreams.Codec`.
        images: float32 [B, H, W, C], values 0-255; what lies outside is cut, NaN becomes 0.
        levels: [B], as the codec takes them.
        quantize: how fractions are removed before, "truncate" or "round".

    Returns:
        float32 [B, H, W, C], and the length of each bit stream in bytes, int32 [B].

    Raises:
        RuntimeError: inside a function that is compiled for a device.
    """
    if not is_on_host(images):
        raise RuntimeError(
            f"{codec.codec_name} is a codec library: it runs on the host, eagerly or in "
            "Dataset.map, not in a compiled step. Degrade the images in the input pipeline "
            "(--degrade_on=host), or use a tensor form such as jpeg with implementation=tensor"
        )
    code = functools.partial(_round_trip_numpy, codec, quantize)
    if _ON_TENSORFLOW and not tf.executing_eagerly():
        decoded, sizes = tf.numpy_function(
            code, [images, levels], [tf.uint8, tf.int32], stateful=False
        )
        decoded.set_shape(images.shape)
        sizes.set_shape(images.shape[:1])
    else:
        decoded, sizes = code(ops.convert_to_numpy(images), ops.convert_to_numpy(levels))
    return ops.cast(decoded, "float32"), ops.convert_to_tensor(sizes)


class CodecDegradation(SizedDegradation):
    """Base class of the layers around a codec of `bitstreams`.

    Args:
        level: one level for every image, or a pair (low, high) to draw from per image.
        **kwargs: the codec's `options`; p, step, quantize and name, as in `Degradation`.
    """

    host_only = True
    codec_class = bitstreams.Codec

    def __init_subclass__(cls):
        """Takes the allowed levels from the codec."""
        super().__init_subclass__()
        cls.limits, cls.integer = (cls.codec_class.limits,), cls.codec_class.integer

    def __init__(self, level=None, **kwargs):
        known = inspect.signature(self.codec_class).parameters
        options = {name: kwargs.pop(name, known[name].default) for name in self.options}
        super().__init__(level, **kwargs)
        self.codec = self.codec_class(**options)
        for name, value in options.items():
            setattr(self, name, value)

    @property
    def codec_name(self):
        """Name of the codec that really runs, to stand beside every result."""
        return self.codec.codec_name

    def apply_to_8_bits(self, images, levels, seed, with_bytes=False):
        """Codes images by one level per image; `round_trip` removes fractions, image by image."""
        coded, sizes = round_trip(self.codec, images, levels, self.quantize)
        return coded, sizes if with_bytes else None

    def cleans(self, images):
        """True where every image goes through `round_trip`, which cuts its values."""
        del images
        return not self.keeps_some


@register
class JpegHost(CodecDegradation):
    """JPEG by the codec, with what `jpeg.Jpeg` does not offer; see `bitstreams.Jpeg`."""

    codec_class = bitstreams.Jpeg
    options = ("subsampling", "optimize", "progressive")
    parameters = ("quality",)
    unit = "quality factor"


@register
class Jpeg2000(CodecDegradation):
    """JPEG 2000, see `bitstreams.Jpeg2000`."""

    codec_class = bitstreams.Jpeg2000
    options = ("mode", "irreversible")
    parameters = ("rate",)

    @property
    def unit(self):
        """What the level means, which the mode says."""
        return "PSNR in dB" if getattr(self, "mode", None) == "dB" else "compression ratio"


@register
class Webp(CodecDegradation):
    """WebP, see `bitstreams.Webp`."""

    codec_class = bitstreams.Webp
    options = ("lossless", "method")
    parameters = ("quality",)
    unit = "quality"


@register
class Avif(CodecDegradation):
    """AVIF, see `bitstreams.Avif`."""

    codec_class = bitstreams.Avif
    options = ("subsampling", "speed")
    parameters = ("quality",)
    unit = "quality"


@register
class Bpg(CodecDegradation):
    """BPG, or HEVC at the same QP where BPG's programs are not installed; see `bitstreams.Bpg`.

    Marie et al. use QP 41, 46 and 51.
    """

    codec_class = bitstreams.Bpg
    options = ("program",)
    parameters = ("qp",)
    unit = "QP"


@register
class Heif(CodecDegradation):
    """HEIF, see `bitstreams.Heif`."""

    codec_class = bitstreams.Heif
    options = ("subsampling",)
    parameters = ("qp",)
    unit = "QP"


@register
class Jpegxl(CodecDegradation):
    """JPEG XL, see `bitstreams.Jpegxl`; quality 100 is without loss."""

    codec_class = bitstreams.Jpegxl
    options = ("effort",)
    parameters = ("quality",)
    unit = "quality"
