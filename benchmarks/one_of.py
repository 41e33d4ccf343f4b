"""What does a choice of many corruptions cost beside the mean of its parts?

    python -m benchmarks.one_of [--batch=32] [--sides=32,64] [--xla]

All corruptions of ImageNet-C and ImageNet-C-bar at severity 3, each alone on the whole batch, then
one of them per image. Prints milliseconds of processor time per image, and the ratio; computing
every part for every image would cost as many times the mean as there are parts.
"""

import argparse
import time

import numpy as np
import tensorflow as tf

import degradations

ROUNDS = 8


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--sides", default="32,64")
    parser.add_argument("--xla", action="store_true", help="compile with XLA")
    arguments = parser.parse_args()
    groups = degradations.GROUPS
    names = list(dict.fromkeys(groups["imagenet_c"] + groups["imagenet_c_bar"]))
    print(f"{'side':>4}{'parts':>7}{'mean ms':>10}{'one of ms':>11}{'ratio':>7}")
    for side in map(int, arguments.sides.split(",")):
        shape = (arguments.batch, side, side, 3)
        batch = tf.constant(np.random.default_rng(0).uniform(0, 255, shape), tf.float32)
        mean = np.mean([measure(name, batch, arguments.xla) for name in names])
        one_of = measure("/".join(names), batch, arguments.xla)
        print(f"{side:4}{len(names):7}{mean:10.3f}{one_of:11.3f}{one_of / mean:7.2f}", flush=True)


def measure(text, batch, xla):
    """Returns the median of the rounds, each of which draws anew, in milliseconds per image."""
    layer = degradations.parse(text, 32 if batch.shape[1] <= 32 else 64, severity=3)
    step = tf.function(lambda x, seed: layer(x, seed=seed), jit_compile=xla, autograph=False)
    step(batch, tf.constant([0, 0]))
    times = []
    for number in range(ROUNDS):
        start = time.process_time()
        step(batch, tf.constant([1, number])).numpy()
        times.append(time.process_time() - start)
    return 1e3 * np.median(times) / len(batch)


if __name__ == "__main__":
    main()
