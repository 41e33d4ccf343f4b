"""How many training patches per second does the input of a score predictor give?

    python -m benchmarks.rated_input           # decoding
    python -m benchmarks.rated_input --steps   # training steps with input, against a fixed batch

Files: made-up 1024x768 JPEGs (4:2:0, quality 90) of the sample photographs. Peers, on the same
files, both with tf.data on as many threads: the whole picture is decoded, then a random square and
a random patch of it are cut out and flipped, as tf-perceptual-eusr does for AVA; once with the
exact decoder, which gives the same pixels as ours, once with TensorFlow's fast default. Each line
ends with the ratio of CPU seconds per patch, measured in turn, in one run; the median of the
rounds. The last lines are about progressive JPEGs, which have to be decoded nearly whole.
"""

import argparse
import functools
import os
import pathlib
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import PIL.Image
import tensorflow as tf

from misc.images import sample_data
from score_predictors import network, rated_images, windows
from score_predictors.models import nima

ROWS, COLUMNS, PATCH, BATCH, FILES = 768, 1024, 192, 32, 24
# Batches that the pipelines make ahead, at most.
BUFFERED = 4


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=8, help="batches per measurement")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--steps", action="store_true", help="measure training steps instead")
    arguments = parser.parse_args()
    if arguments.steps:
        measure_steps(arguments)
        return
    print(f"{FILES} JPEGs of {COLUMNS}x{ROWS}, patches of {PATCH}; {os.cpu_count()} cores")
    for kind in ("baseline", "progressive"):
        with tempfile.TemporaryDirectory(prefix="rated_input.") as folder:
            paths = write_files(pathlib.Path(folder), kind == "progressive")
            compare(kind, paths, arguments)


def write_files(folder, progressive):
    photos = [photo for split in ("train", "validation") for _, photo in sample_photos(split)]
    paths = []
    for number in range(FILES):
        photo = np.roll(photos[number % len(photos)], 37 * number, axis=1)
        pixels = np.tile(photo, (3, 3, 1))[:ROWS, :COLUMNS]
        path = folder / f"{number}.jpg"
        PIL.Image.fromarray(pixels).save(
            path, quality=90, subsampling="4:2:0", progressive=progressive
        )
        paths.append(str(path))
    return paths


def sample_photos(split):
    # The picture of space is mostly black, and so unusually small.
    return [item for item in sample_data.sample_photos(split) if "hubble" not in item[0]]


def compare(kind, paths, arguments):
    size = np.mean([os.path.getsize(path) for path in paths]) / 1e3
    print(f"\n{kind} JPEGs, {size:.0f} kB on average")
    sources = {
        "decoding the window": crop_decoding(paths, arguments.threads),
        "exact decoder, whole": decoding_whole(paths, arguments.threads, "INTEGER_ACCURATE"),
        "default decoder, whole": decoding_whole(paths, arguments.threads, ""),
    }
    iterators = {name: iter(dataset) for name, dataset in sources.items()}
    seconds = {name: [] for name in sources}
    rates = {name: [] for name in sources}
    for batches in iterators.values():
        measure(batches, BUFFERED)
    for _ in range(arguments.rounds):
        for name, batches in iterators.items():
            cpu, wall = measure(batches, arguments.batches)
            seconds[name].append(cpu / BATCH)
            rates[name].append(BATCH / wall)
    ours = np.array(seconds["decoding the window"])
    for name in sources:
        found = np.array(seconds[name])
        print(
            f"{name:24}{np.median(rates[name]):7.0f} patches/s, "
            f"{1e3 * np.median(found):6.2f} ms of CPU each, "
            f"{np.median(found / ours):.2f} times ours"
        )


def measure(batches, count):
    """CPU seconds and wall seconds per batch.

    The CPU time runs from full buffers to full buffers, so that it is that of `count` batches; the
    wall time starts when the buffers are empty.
    """
    cpu = time.process_time()
    for _ in range(BUFFERED):
        next(batches)["image"].numpy()
    start = time.perf_counter()
    for _ in range(count):
        next(batches)["image"].numpy()
    wall = time.perf_counter() - start
    before = -1.0
    while time.process_time() - before > 0.005:
        before = time.process_time()
        time.sleep(0.2)
    return (time.process_time() - cpu) / (count + BUFFERED), wall / count


def crop_decoding(paths, threads):
    scores = np.full((len(paths), 10), 0.1, np.float32)
    unknown = np.full(len(paths), np.nan, np.float32)
    rated = rated_images.RatedImages(paths, scores, unknown, unknown, paths)
    cropping = windows.Cropping(PATCH, square=True, small="resize")
    data = rated_images.RatedData(
        images_per_step=BATCH, find=lambda split: rated, cropping=cropping, threads=threads
    )
    return data.training_batches(seed=0)


def measure_steps(arguments):
    """Steps of both stages of training that take their batches from the loader."""
    with tempfile.TemporaryDirectory(prefix="rated_input.") as folder:
        paths = write_files(pathlib.Path(folder), progressive=False)
        batches = iter(crop_decoding(paths, arguments.threads))
        fixed = next(batches)
        for last_only in (False, True):
            predictor = nima.ScorePredictor(
                network.create_network(),
                last_only=last_only,
                optimizers={"predictor": keras.optimizers.Adam(1e-3)},
            )
            step = tf.function(predictor.train_step)
            seed = tf.constant([0, 0])

            def run(batch, step=step, seed=seed):
                start = time.perf_counter()
                step(batch() if callable(batch) else batch, seed)["loss"].numpy()
                return time.perf_counter() - start

            run(fixed)
            run(functools.partial(next, batches))
            alone, loaded = [], []
            for _ in range(arguments.batches):
                alone.append(run(fixed))
                loaded.append(run(functools.partial(next, batches)))
            print(
                f"MobileNetV2, batch {BATCH} of {PATCH}x{PATCH}, "
                f"{'last layer only' if last_only else 'all layers'}: fixed batch "
                f"{np.median(alone):.3f} s, with input {np.median(loaded):.3f} s, ratio "
                f"{np.median(np.divide(loaded, alone)):.3f}"
            )


def decoding_whole(paths, threads, method):
    def read(number):
        draw = tf.random.stateless_uniform([5], [0, number])
        encoded = tf.io.read_file(tf.gather(paths, number % len(paths)))
        pixels = tf.io.decode_jpeg(encoded, channels=3, dct_method=method)
        side = tf.minimum(tf.shape(pixels)[0], tf.shape(pixels)[1])
        for size, (first, second) in ((side, (0, 1)), (PATCH, (2, 3))):
            top = tf.cast(
                draw[first] * tf.cast(tf.shape(pixels)[0] - size + 1, tf.float32), "int32"
            )
            left = tf.cast(
                draw[second] * tf.cast(tf.shape(pixels)[1] - size + 1, tf.float32), "int32"
            )
            pixels = pixels[top : top + size, left : left + size]
        pixels = tf.cond(draw[4] < 0.5, lambda: pixels[:, ::-1], lambda: pixels)
        return {"image": tf.cast(tf.ensure_shape(pixels, [PATCH, PATCH, 3]), tf.float32)}

    numbers = tf.data.Dataset.range(2**60)
    return numbers.map(read, threads, deterministic=True).batch(BATCH).prefetch(2)


if __name__ == "__main__":
    main()
