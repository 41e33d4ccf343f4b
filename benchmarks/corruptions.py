"""How fast are the ImageNet-C corruptions beside the package imagecorruptions?

    python -m benchmarks.corruptions [--oracle=FOLDER] [--severity=3] [--batch=16] [--only=fog,snow]

One thread each, 224x224, milliseconds of CPU time per image: the package on one image at a time,
the layers on a batch inside a tf.function. The package is a peer for measurements only: install it
into a folder of its own (pip install --no-deps --target FOLDER imagecorruptions) and name that
folder. Runs of both alternate, and the fastest of each counts, so that other work on the machine
disturbs both alike. Prints one row per corruption, then the sums.
"""

import argparse
import time

import cv2
import numpy as np
import skimage.data
import tensorflow as tf
from PIL import Image

import degradations
from benchmarks import imagecorruptions_peer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--oracle", help="folder that imagecorruptions was installed into")
    parser.add_argument("--severity", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--only", help="names, separated by commas")
    parser.add_argument("--xla", action="store_true", help="compile the layers with XLA")
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    cv2.setNumThreads(1)
    peer = imagecorruptions_peer.load(arguments.oracle)

    main_names = degradations.GROUPS["imagenet_c"]
    names = main_names + degradations.GROUPS["imagenet_c_extra"]
    if arguments.only:
        names = tuple(arguments.only.split(","))
    photo = Image.fromarray(skimage.data.astronaut()).resize((224, 224))
    batch = tf.constant(np.repeat(np.float32(photo)[None], arguments.batch, 0))
    print(
        f"{'severity ' + str(arguments.severity):24}{'package ms':>12}{'here ms':>10}{'ratio':>8}"
    )
    totals = {}
    for name in names:
        theirs, ours = measure(name, peer, photo, batch, arguments)
        totals[name] = theirs, ours
        print(f"{name:24}{theirs:12.2f}{ours:10.2f}{theirs / ours:8.2f}", flush=True)
    for title, left_out in (("sum of the 15", ()), ("without glass_blur", ("glass_blur",))):
        rows = [totals[n] for n in main_names if n in totals and n not in left_out]
        theirs, ours = np.sum(rows, axis=0) if rows else (0.0, 0.0)
        if len(rows) == 15 - len(left_out):
            print(f"{title:24}{theirs:12.2f}{ours:10.2f}{theirs / ours:8.2f}")


def measure(name, peer, photo, batch, arguments):
    """Returns milliseconds per image of the package and of the layer."""
    layer = degradations.parse(name, severity=arguments.severity)
    if layer.host_only:
        step = layer
    else:
        step = tf.function(lambda x, s: layer(x, seed=s), jit_compile=arguments.xla)
    theirs = getattr(peer, name)
    seed = tf.constant([1, 2])
    step(batch, seed=seed) if layer.host_only else step(batch, seed)
    slow = name == "glass_blur"
    best = [np.inf, np.inf]
    for _ in range(1 if slow else arguments.rounds):
        start = time.process_time()
        repeats = 1 if slow else 4
        for _ in range(repeats):
            np.asarray(theirs(photo, arguments.severity))
        best[0] = min(best[0], (time.process_time() - start) / repeats)
        start = time.process_time()
        np.asarray(step(batch, seed=seed) if layer.host_only else step(batch, seed))
        best[1] = min(best[1], (time.process_time() - start) / arguments.batch)
    if slow:
        for _ in range(arguments.rounds):
            start = time.process_time()
            np.asarray(step(batch, seed))
            best[1] = min(best[1], (time.process_time() - start) / arguments.batch)
    return 1e3 * best[0], 1e3 * best[1]


if __name__ == "__main__":
    main()
