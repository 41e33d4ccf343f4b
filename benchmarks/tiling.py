"""What a tile size costs: peak memory against time per pixel of the result.

python -m benchmarks.tiling --scales=2,4,8 --tiles=256,384,512

Each size runs in a process of its own on one random tile. The cost is the time per kept pixel
divided by the time per computed pixel: 1 would be a tile without overlap.
"""

import json
import resource
import subprocess
import sys
import time

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS


def measure(scale, tile, features, blocks):
    import tensorflow as tf

    from eusr import network

    generator = network.Generator(scales=(scale,), features=features, shared_blocks=blocks)
    radius = generator.receptive_radius(scale)
    function = tf.function(
        lambda images: generator(images, scale=scale),
        input_signature=[tf.TensorSpec([None, None, None, 3])],
    )
    images = np.random.default_rng(0).uniform(0, 255, (1, tile, tile, 3)).astype(np.float32)
    function(images[:, :32, :32])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    function(images)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kept = max(0, tile - 2 * radius)
    return {
        "scale": scale,
        "tile": tile,
        "overlap": radius,
        "seconds": seconds,
        "before_mib": before / 1024,
        "peak_mib": peak / 1024,
        "cost": tile**2 / kept**2 if kept else float("inf"),
        "kept_pixels_per_second": kept**2 / seconds,
    }


def main(argv):
    if FLAGS.single:
        scale, tile = (int(value) for value in FLAGS.single)
        print(json.dumps(measure(scale, tile, FLAGS.features, FLAGS.blocks)))
        return
    print("scale  tile  overlap  seconds  peak MiB  cost  input pixels/s")
    for scale in FLAGS.scales:
        for tile in FLAGS.tiles:
            command = [sys.executable, "-m", "benchmarks.tiling", f"--single={scale},{tile}"]
            command += [f"--features={FLAGS.features}", f"--blocks={FLAGS.blocks}"]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            row = json.loads(output.splitlines()[-1])
            print(
                f"x{scale:<5} {tile:4}  {row['overlap']:7}  {row['seconds']:7.1f}  "
                f"{row['peak_mib']:8.0f}  {row['cost']:4.2f}  {row['kept_pixels_per_second']:8.0f}",
                flush=True,
            )


if __name__ == "__main__":
    flags.DEFINE_list("scales", ["2", "4", "8"], "Upscaling factors.")
    flags.DEFINE_list("tiles", ["256", "384", "512"], "Tile sizes in input pixels.")
    flags.DEFINE_integer("features", 64, "Features of the network.")
    flags.DEFINE_integer("blocks", 32, "Shared blocks of the network.")
    flags.DEFINE_list("single", None, "SCALE,TILE to measure in this process.")
    app.run(main)
