"""What does it save to look up the teacher of expert training instead of asking it?

    python -m benchmarks.expert_training_step [resnet50] [224]

A training step of 16 images, the teacher asked, against the same step with the teacher's answers in
files, and with no teacher (fine-tuning). Processor time; they take turns.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import sys
import tempfile
import time

import numpy as np
import tensorflow as tf

from classifiers import networks
from classifiers.labelled_images import LabelledData, LabelledImages
from classifiers.models.expert_training import ExpertTraining
from classifiers.training_copies import TrainingCopies
from misc.training import optimizers

BATCH = 16
ROUNDS = 3
SEED = tf.constant([0, 1])


def measure(folder, network="resnet50", side=224):
    tf.config.experimental.enable_op_determinism()  # as train.py does without a GPU
    side = int(side)
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, side, side, 3)).astype(np.uint8)
    images = LabelledImages(pixels, np.arange(BATCH, dtype=np.int32), [])
    teacher = networks.build(network, 1000)

    def create(weight, cache_path=None):
        method = ExpertTraining(
            networks.build(network, 1000),
            copies=TrainingCopies(flip=False, padding=0),
            optimizers={"classifier": optimizers.Adam(1e-5, 0.5, 0.99)},
            teacher=teacher,
            weight=weight,
            cache_path=cache_path,
        )
        method.prepare(
            LabelledData(
                images_per_step=BATCH,
                read=lambda split: images,
                evaluation_batch_size=BATCH,
                validation="held_out",
                held_out=0.0,
            )
        )
        return tf.function(method.train_step)

    steps = {"asked": create(1e-2), "cached": create(1e-2, folder), "none": create(0.0)}
    (batch,) = images.one_pass(BATCH)
    times = {name: [] for name in steps}
    for number in range(ROUNDS + 1):
        for name, step in steps.items():
            start = time.process_time()
            step(batch, SEED)["loss"].numpy()
            if number:  # the first step compiles
                times[name].append(time.process_time() - start)
    asked, cached, none = (float(np.median(values)) for values in times.values())
    saved = 100 * (1 - cached / asked)
    print(
        f"expert training step, {network}, {BATCH} images of {side}x{side}: {asked:.2f} s with the "
        f"teacher asked, {cached:.2f} s with its answers looked up, {none:.2f} s without it; "
        f"{saved:.1f} % saved (goal: at least 25 %)"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        measure(folder, *sys.argv[1:])
