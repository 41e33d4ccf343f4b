"""What do the host codecs cost inside tf.data, beside a bare loop over the same library?

    python -m benchmarks.codecs [--rounds=3]

Prints milliseconds of CPU time per image of 224x224 (worker processes counted) and the ratio of the
layer in `Dataset.map` to the loop. A ratio of CPU time is one per core: it does not depend on how
many cores work. Loop and layer take turns, and the best of all rounds counts.
"""

import io
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import skimage.data
import tensorflow as tf
from absl import app, flags
from PIL import Image

import degradations
from degradations import bitstream_worker, bitstreams

_IMAGES = flags.DEFINE_integer("images", 16, "images per round; ten times as many for JPEG")
_ROUNDS = flags.DEFINE_integer("rounds", 4, "turns; the best counts", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "images per element of the data set")


def _pillow(file_format, **options):
    def round_trip(image):
        file = io.BytesIO()
        Image.fromarray(image).save(file, file_format, **options)
        return np.asarray(Image.open(file).convert("RGB"))

    return round_trip


def _bare(codec, level):
    return lambda image: codec.decode(codec.encode(image, level))


def _loops():
    """Returns {text of the layer: function of one image that it is compared with}."""
    loops = {
        "jpeg:30": _pillow("JPEG", quality=30),
        "jpeg:30,subsampling=444": _pillow("JPEG", quality=30, subsampling="4:4:4"),
        "jpeg_host:30,optimize=true": _pillow("JPEG", quality=30, optimize=True),
        "jpeg2000:75": _pillow("JPEG2000", quality_mode="rates", quality_layers=[75]),
        "webp:50": _pillow("WEBP", quality=50),
        "avif:50": _pillow("AVIF", quality=50, max_threads=1),
    }
    for text, codec in (
        ("bpg:46", bitstreams.Bpg),
        ("heif:41", bitstreams.Heif),
        ("jpegxl:30", bitstreams.Jpegxl),
    ):
        try:
            loops[text] = _bare(codec(), int(text.split(":")[1]))
        except ImportError as error:
            print(f"{text} left out: {error}")
    return loops


def _cpu_seconds(counts_worker):
    # JPEG 2000 is measured with one image per element: one worker answers all calls, this one too.
    worker = bitstream_worker.call(time.process_time) if counts_worker else 0.0
    return time.process_time() + worker


def main(_):
    """Measures and prints the table."""
    print(f"{'layer':30}{'loop, ms':>10}{'tf.data, ms':>13}{'ratio':>8}")
    for text, loop in _loops().items():
        count = _IMAGES.value * (10 if text.startswith(("jpeg:", "jpeg_host:")) else 1)
        photo = skimage.data.astronaut()
        starts = [i % 140 for i in range(count)]
        images = np.stack([photo[i : i + 224, 2 * i : 2 * i + 224] for i in starts])
        layer = degradations.parse(text)
        counts_worker = text.startswith("jpeg2000")
        batch_size = 1 if counts_worker else _BATCH_SIZE.value
        data = tf.data.Dataset.from_tensor_slices(images).batch(batch_size)
        data = data.map(lambda x, layer=layer: layer(tf.cast(x, tf.float32), seed=1))
        # Work must happen when it is asked for, not while the loop is measured.
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        options.autotune.enabled = False
        data = data.with_options(options)
        # One iterator for all rounds: starting one takes longer than coding an image.
        elements = iter(data.repeat())
        times = {"loop": [], "layer": []}
        for round_number in range(_ROUNDS.value + 1):
            start = _cpu_seconds(counts_worker)
            for image in images:
                loop(image)
            middle = _cpu_seconds(counts_worker)
            for _ in range(-(-count // batch_size)):
                next(elements)
            end = _cpu_seconds(counts_worker)
            if round_number:  # The first only warms up.
                times["loop"].append(middle - start)
                times["layer"].append(end - middle)
        best = {name: min(values) * 1e3 / count for name, values in times.items()}
        ratio = best["layer"] / best["loop"]
        print(f"{text:30}{best['loop']:10.2f}{best['layer']:13.2f}{ratio:8.2f}", flush=True)


if __name__ == "__main__":
    app.run(main)
