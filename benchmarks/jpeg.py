"""How much does JPEG on tensors cost beside the codec, and beside kornia's differentiable JPEG?

    python -m benchmarks.jpeg [--peer_python=/path/to/python]

Prints milliseconds of CPU time per image of 224x224 at one thread, batch 64, a quality per image,
and ratios to Pillow's encode and decode in the same run. Everything takes turns, and the best of
all rounds counts, so that other work on the machine weighs little.
"""

import io
import json
import os
import subprocess
import sys
import time

# Before TensorFlow starts: one thread for XLA's matrix products and for everything else.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import skimage.data
import tensorflow as tf
from absl import app, flags
from PIL import Image

from degradations import jpeg

_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "images per batch", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 15, "turns; the best counts", lower_bound=1)
_PEER = flags.DEFINE_string(
    "peer_python",
    sys.executable,
    "interpreter that has torch and kornia (extra 'benchmarks'); empty to leave kornia out",
)

SIZE = 224


def photos(count, seed=0):
    """Returns random crops of scikit-image's photos, uint8 [count, 224, 224, 3]."""
    generator = np.random.default_rng(seed)
    sources = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
    crops = []
    for index in range(count):
        source = sources[index % len(sources)]
        y = generator.integers(source.shape[0] - SIZE + 1)
        x = generator.integers(source.shape[1] - SIZE + 1)
        crops.append(source[y : y + SIZE, x : x + SIZE])
    return np.stack(crops)


def pillow_loop(images, qualities, subsampling):
    """Encodes and decodes every image; returns uint8 images."""
    decoded = []
    for image, quality in zip(images, qualities, strict=True):
        file = io.BytesIO()
        options = {"quality": int(quality), "subsampling": ":".join(subsampling)}
        Image.fromarray(image).save(file, "JPEG", **options)
        decoded.append(np.asarray(Image.open(file)))
    return np.stack(decoded)


def best_times(functions, rounds):
    """Returns the least CPU milliseconds of each function, which take turns."""
    times = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.process_time()
            function()
            times[name].append((time.process_time() - start) * 1e3)
    return {name: min(values) for name, values in times.items()}


def _tensor_functions(images, quality, subsampling):
    def compiled(**options):
        return tf.function(
            lambda x, q: jpeg.round_trip(x, q, subsampling, **options), jit_compile=True
        )

    plain, differentiable = compiled(), compiled(differentiable=True)
    size = tf.function(
        lambda x, q: jpeg.round_trip_and_bytes(x, q, subsampling, exact=False), jit_compile=True
    )

    @tf.function(jit_compile=True)
    def gradient(x, q):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(jpeg.round_trip(x, q, subsampling, differentiable=True) ** 2)
        return tape.gradient(loss, x)

    graph = tf.function(lambda x, q: jpeg.round_trip(x, q, subsampling))
    return {
        "tensor, XLA": lambda: plain(images, quality),
        "tensor, XLA, differentiable": lambda: differentiable(images, quality),
        "tensor, XLA, and gradient": lambda: gradient(images, quality),
        "tensor, XLA, and size estimate": lambda: size(images, quality),
        "tensor, graph": lambda: graph(images, quality),
    }


def _kornia(count, rounds):
    command = [_PEER.value, "-m", "benchmarks.jpeg_kornia", str(count), str(rounds)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        print(f"kornia left out: {result.stderr.strip().splitlines()[-1]}")
        return {}
    return json.loads(result.stdout.splitlines()[-1])


def main(_):
    """Measures and prints one table per subsampling."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    count = _BATCH_SIZE.value
    pixels = photos(count)
    qualities = np.random.default_rng(1).integers(5, 96, count)
    images, quality = tf.constant(pixels.astype(np.float32)), tf.constant(qualities)
    compared = {}
    for subsampling in jpeg.SUBSAMPLINGS[:3]:
        functions = {"Pillow loop": lambda s=subsampling: pillow_loop(pixels, qualities, s)}
        functions |= _tensor_functions(images, quality, subsampling)
        different = np.sum(functions["tensor, XLA"]().numpy() != functions["Pillow loop"]())
        times = best_times(functions, _ROUNDS.value)
        print(f"\nJPEG {subsampling}, batch {count}, {different} values differ from Pillow's")
        print(f"{'':34}{'CPU ms/image':>14}{'/ Pillow':>10}")
        for name, value in times.items():
            print(f"{name:34}{value / count:14.3f}{value / times['Pillow loop']:10.2f}")
        compared[subsampling] = times
    if _PEER.value:
        ours = compared["420"]
        print(
            "\nkornia's differentiable JPEG (4:2:0), and how many times faster the tensor form is"
        )
        pairs = {
            "forward": "tensor, XLA, differentiable",
            "forward and gradient": "tensor, XLA, and gradient",
        }
        for name, value in _kornia(count, max(_ROUNDS.value // 3, 1)).items():
            print(f"{name:34}{value / count:14.3f}{value / ours[pairs[name]]:10.1f}x")


if __name__ == "__main__":
    app.run(main)
