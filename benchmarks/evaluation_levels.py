"""Is the input ever the limit of an evaluation over all levels of the four degradations?

    python -m benchmarks.evaluation_levels [cifar_resnet20]

An evaluation of FusionDistill makes 229 passes over the test set: every level of jpeg, blur,
saltpepper and noise. Here every 20th level is measured on 500 random images, beside the same number
of bare network passes. Processor time; the two take turns.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import dataclasses
import sys
import time

import numpy as np
import tensorflow as tf

from classifiers import levels, networks
from classifiers.evaluation import Evaluation
from classifiers.models.classifier import Classifier

IMAGES = 500
ROUNDS = 2


def measure(network="cifar_resnet56"):
    evaluation = Evaluation(list(levels.FUSION_DISTILL), "all")
    evaluation.tested = [
        dataclasses.replace(tested, values=tested.values[::20]) for tested in evaluation.tested
    ]
    passes = 1 + sum(len(tested.values) for tested in evaluation.tested)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (IMAGES, 32, 32, 3)).astype(np.float32)
    labels = random.integers(0, 10, IMAGES).astype(np.int32)
    batches = tf.data.Dataset.from_tensor_slices({"image": images, "label": labels}).batch(250)
    method = Classifier(networks.build(network, 10), evaluation)
    bare = tf.function(method.classify)
    held = [batch["image"] for batch in batches]

    def run_bare():
        for _ in range(passes):
            for batch in held:
                bare(batch).numpy()

    parts = {"evaluation": lambda: method.evaluate(batches), "network": run_bare}
    times = {name: [] for name in parts}
    for number in range(ROUNDS + 1):
        for name, function in parts.items():
            start = time.process_time()
            function()
            if number:  # the first one compiles
                times[name].append(time.process_time() - start)
    whole, alone = (float(np.median(values)) for values in times.values())
    print(
        f"Evaluation, {network}, {passes} passes over {IMAGES} images: {whole:.2f} s, network "
        f"alone {alone:.2f} s, ratio {whole / alone:.2f}; degradations, input and counting take "
        f"{100 * (1 - alone / whole):.0f} % (goal: less than the network)"
    )


if __name__ == "__main__":
    measure(*sys.argv[1:])
