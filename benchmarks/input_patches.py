"""How many training patches per second does the input give, and within how much memory?

    python -m benchmarks.input_patches
    python -m benchmarks.input_patches --memory_images=800

Peer: decoding a 2040x1356 PNG for every patch, as the original loader of TF-EUSR does without a
cache. Both give 16 LR patches of 48x48 with their x4 truth per batch. The second figure is the
memory of a process that trains from a made-up set of that many 2040x1356 images in the cache on
disk (800, as DIV2K has, take 8.8 GB on disk for x2, x4 and x8).
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import PIL.Image
import tensorflow as tf

from degradations import resize
from eusr import patches
from misc.images import pixel_store, sample_data

ROWS, COLUMNS, SCALE, PATCH, BATCH = 1356, 2040, 4, 48, 16
SCALES = [2, 4, 8]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10, help="time per measurement")
    parser.add_argument("--memory_images", type=int, default=100, help="0 leaves the figure out")
    parser.add_argument("--folder", help="where the temporary files go")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure_memory(arguments.measure, arguments.seconds)
        return
    with tempfile.TemporaryDirectory(prefix="input_patches.", dir=arguments.folder) as folder:
        compare_rates(pathlib.Path(folder), arguments.seconds)
        if arguments.memory_images:
            report_memory(pathlib.Path(folder), arguments.memory_images, arguments.seconds)


def photograph():
    """A 2040x1356 photograph: sample photos side by side, so that the PNG is of a usual size."""
    photos = [photo[:427, :500] for _, photo in sample_data.sample_photos("train")]
    rows = [np.concatenate((photos * 3)[start : start + 5], axis=1) for start in range(4)]
    return np.ascontiguousarray(np.concatenate(rows)[:ROWS, :COLUMNS])


def compare_rates(folder, seconds):
    high = photograph()
    low = resize.matlab_bicubic(high, 1 / SCALE)
    paths = []
    for number in range(8):
        for name, pixels in (("high", high), ("low", low)):
            path = folder / f"{name}{number}.png"
            PIL.Image.fromarray(pixels).save(path)
            paths.append(path)
    size = paths[0].stat().st_size / 1e6
    print(f"PNG of {size:.1f} MB, {COLUMNS}x{ROWS}; {os.cpu_count()} cores")

    def fill(write):
        for number in range(8):
            write(number, 0, high)
            write(number, 1, low)

    stores = {
        "decoded in memory": pixel_store.build_in_memory(fill),
        "decoded on disk, mapped": pixel_store.build_on_disk(fill, folder / "cache", ["rate"], 0),
    }
    peer = rate(decoding_batches(folder), seconds)
    print(f"{'decoding a PNG for every patch':32}{peer:10.0f} patches/s")
    for name, store in stores.items():
        sampler = patches.PatchSampler(store, [SCALE], PATCH, BATCH, seed=0)
        found = rate(sampler.local_batches(), seconds)
        print(f"{name:32}{found:10.0f} patches/s, {found / peer:.0f} times as many")


def decoding_batches(folder):
    """The peer: tf.data with one decode of both files per patch, on all cores."""

    def cut(step):
        draw = tf.random.stateless_uniform([4], [0, step], dtype=tf.float64)
        number = tf.strings.as_string(tf.cast(draw[0] * 8, tf.int32))
        low = tf.io.decode_png(tf.io.read_file(str(folder / "low") + number + ".png"), 3)
        high = tf.io.decode_png(tf.io.read_file(str(folder / "high") + number + ".png"), 3)
        top = tf.cast(draw[1] * (ROWS // SCALE - PATCH + 1), tf.int32)
        left = tf.cast(draw[2] * (COLUMNS // SCALE - PATCH + 1), tf.int32)
        turns = tf.cast(draw[3] * 4, tf.int32)
        windows = {}
        for name, pixels, factor in (("low", low, 1), ("high", high, SCALE)):
            size, y, x = PATCH * factor, top * factor, left * factor
            window = tf.image.rot90(pixels[y : y + size, x : x + size], turns)
            windows[name] = tf.cast(tf.reshape(window, [size, size, 3]), tf.float32)
        return windows

    steps = tf.data.Dataset.range(2**60)
    return steps.map(cut, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(2)


def rate(dataset, seconds):
    """Patches per second, after one batch of warm-up."""
    batches = iter(dataset)
    next(batches)["high"].numpy()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(batches)["high"].numpy()
        count += BATCH
    return count / (time.perf_counter() - start)


def report_memory(folder, count, seconds):
    cache = folder / "memory"
    command = [sys.executable, "-m", "benchmarks.input_patches", f"--seconds={seconds}"]
    subprocess.run([*command, f"--measure={cache},{count}"], check=True)
    # Again, now that the cache is there: the decoding is over, only training is measured.
    subprocess.run([*command, f"--measure={cache},{count}"], check=True)
    shutil.rmtree(cache)


def measure_memory(argument, seconds):
    """Builds or opens the made-up set and reads batches from it, in a process of its own."""
    cache, count = argument.split(",")
    high = photograph()
    lows = [resize.matlab_bicubic(high, size=(ROWS // scale, COLUMNS // scale)) for scale in SCALES]

    def fill(write):
        for number in range(int(count)):
            for position, pixels in enumerate([high, *lows]):
                write(number, position, np.roll(pixels, number, axis=0))

    size = int(count) * (high.size + sum(low.size for low in lows))
    present = pathlib.Path(cache).exists()
    store = pixel_store.build_on_disk(fill, cache, [count], size)
    found = rate(patches.PatchSampler(store, SCALES, PATCH, BATCH, seed=0).local_batches(), seconds)
    status = dict(
        line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines()
    )
    own, mapped, peak = (
        int(status[name].split()[0]) / 1e6 for name in ("RssAnon", "RssFile", "VmHWM")
    )
    print(
        f"{count} images, {size / 1e9:.1f} GB decoded, cache {'there' if present else 'built'}: "
        f"own memory {own:.2f} GB, mapped files in memory now {mapped:.2f} GB (the system takes "
        f"them back when it needs room), peak of both {peak:.2f} GB; {found:.0f} patches/s"
    )


if __name__ == "__main__":
    main()
