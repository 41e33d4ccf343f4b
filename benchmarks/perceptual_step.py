"""What does a training step of 4PP-EUSR cost beside the sum of its parts?

    python -m benchmarks.perceptual_step               # small sizes, about a minute
    python -m benchmarks.perceptual_step 2 48 64 32    # batch, LR patch, features, shared blocks

The parts are what the step cannot do without, each in a process of its own: the three images made
by the generator and its gradient; each predictor on the truth, on the outputs, and back to the
outputs; the discriminator on both, back to the outputs and to its own weights; the two Adams.
Processor time, in turn, medians; memory is the peak above what weights and graph need.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pathlib
import re
import subprocess
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from eusr.discriminator import Discriminator
from eusr.models.perceptual_eusr import PATHS, PerceptualEUSR
from eusr.network import Generator

SMALL = (2, 24, 32, 8)
ROUNDS = 7
PARTS = ("generator", "aesthetic", "subjective", "discriminator", "updates")


class Predictor:
    """MobileNetV2 with ten scores; the weights' values do not change what it costs."""

    def __init__(self):
        base = keras.applications.MobileNetV2((None, None, 3), include_top=False, weights=None)
        features = keras.layers.GlobalAveragePooling2D()(base.output)
        scores = keras.layers.Dense(10, "softmax")(features)
        self.network = keras.Model(base.input, {"scores": scores, "features": features})

    def predict(self, images):
        return self.network((images - 127.5) / 127.5, training=False)


def create_step(sizes):
    """Returns a function that runs one whole step."""
    batch = random_batch(sizes)
    method = PerceptualEUSR(
        create_generator(sizes),
        optimizers={
            "generator": keras.optimizers.Adam(1e-5, epsilon=1e-8),
            "discriminator": keras.optimizers.Adam(2e-5, epsilon=1e-8),
        },
        discriminator=Discriminator(),
        predictors={"aesthetic": Predictor(), "subjective": Predictor()},
    )
    step = tf.function(lambda: method.train_step(batch, None)["loss"]).get_concrete_function()
    return lambda: step().numpy()


def create_part(name, sizes):
    """Returns a function that runs one of `PARTS`; what comes from the others is random."""
    batch = random_batch(sizes)
    truth = batch["high"]
    outputs = tf.concat([truth[::-1]] * len(PATHS), 0)
    if name == "generator":
        method = PerceptualEUSR(create_generator(sizes))
        variables = values_of(method.generator)

        def run():
            with watching(variables) as tape:
                made = tf.concat([method.predict(batch["low"], p)["output"] for p in PATHS], 0)
            return tape.gradient(made, variables, outputs)

    elif name in ("aesthetic", "subjective"):
        predictor = Predictor()

        def run():
            judged = predictor.predict(truth)
            with watching(outputs) as tape:
                found = predictor.predict(outputs)
            return judged, tape.gradient(found, outputs)

    elif name == "discriminator":
        network = Discriminator()
        variables = values_of(network)

        def run():
            with watching(outputs) as outer, watching(variables) as inner:
                made, real = network(outputs), network(truth)
            return outer.gradient(made, outputs), inner.gradient([made, real], variables)

    else:
        pairs = []
        for network in (create_generator(sizes), Discriminator()):
            optimizer = keras.optimizers.Adam(1e-5)
            optimizer.build(network.trainable_variables)
            gradients = [tf.ones_like(value) for value in values_of(network)]
            pairs.append((optimizer, gradients, network.trainable_variables))

        def run():
            for optimizer, gradients, variables in pairs:
                optimizer.apply(gradients, variables)
            return tf.constant(0)

    function = tf.function(lambda: [tf.reduce_sum(x) for x in tf.nest.flatten(run())])
    function = function.get_concrete_function()
    return lambda: function()[0].numpy()


def create_generator(sizes):
    return Generator(PATHS, sizes[2], sizes[3])


def random_batch(sizes):
    random = np.random.default_rng(0)
    return {
        name: tf.constant(random.uniform(0, 255, (sizes[0], side, side, 3)), tf.float32)
        for name, side in (("low", sizes[1]), ("high", 4 * sizes[1]))
    }


def values_of(network):
    return [variable.value for variable in network.trainable_variables]


def watching(values):
    tape = tf.GradientTape(watch_accessed_variables=False)
    with tape:
        tape.watch(values)
    return tape


def serve(function):
    """Prints MiB of the first calls, then processor seconds of a call for each line of input."""
    before = status("VmRSS")
    for _ in range(2):
        function()
    print((status("VmHWM") - before) / 1024, flush=True)
    for _ in sys.stdin:
        start = time.process_time()
        function()
        print(time.process_time() - start, flush=True)


def status(name):
    text = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+)", text).group(1))


def main(sizes):
    names = ("step", *PARTS)
    workers = {}
    for name in names:
        workers[name] = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.perceptual_step", name, *map(str, sizes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(name):
        workers[name].stdin.write("step\n")
        workers[name].stdin.flush()
        return float(workers[name].stdout.readline())

    memory = [float(worker.stdout.readline()) for worker in workers.values()]
    times = [[ask(name) for name in names] for _ in range(ROUNDS)]
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    rows = np.stack([np.median(times, axis=0), memory], axis=1)
    batch, patch, features, blocks = sizes
    print(
        f"4PP-EUSR, {features} features, {blocks} shared blocks, batch {batch} of {patch}x{patch}"
    )
    rows = np.vstack([rows, rows[1:].sum(axis=0)])
    for name, (seconds, size) in zip((*names, "sum of parts"), rows, strict=True):
        print(f"{name:>14}: {seconds:8.3f} s processor time, {size:8.1f} MiB")
    time_ratio, memory_ratio = rows[0] / rows[-1]
    print(f"step / sum of its parts: time {time_ratio:.3f}, memory {memory_ratio:.3f}")


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in ("step", *PARTS):
        chosen = tuple(int(number) for number in sys.argv[2:])
        create = create_step if sys.argv[1] == "step" else None
        serve(create(chosen) if create else create_part(sys.argv[1], chosen))
    else:
        main(tuple(int(number) for number in sys.argv[1:]) or SMALL)
