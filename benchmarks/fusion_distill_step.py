"""How much does a step of FusionDistill cost beyond its network passes?

    python -m benchmarks.fusion_distill_step [cifar_resnet20]

512 images of four degradations and four teachers: the whole step against the sum of one training
step of the student on 512 images that are there and of four teacher passes on 128 each; and a step
without flips and shifts, where what the teachers said before is looked up. Processor time; they
take turns.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import sys
import tempfile
import time

import numpy as np
import tensorflow as tf

from classifiers import levels, networks
from classifiers.labelled_images import LabelledData, LabelledImages
from classifiers.models.classifier import Classifier
from classifiers.models.fusion_distill import FusionDistill
from classifiers.training_copies import TrainingCopies
from misc.training import optimizers

BATCH = 128
ROUNDS = 3
SEED = tf.constant([0, 1])


def random_batch(count):
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (count, 32, 32, 3)).astype(np.float32)
    labels = random.integers(0, 10, count).astype(np.int32)
    return {"image": tf.constant(images), "label": tf.constant(labels)}


def seconds(function):
    start = time.process_time()
    function()
    return time.process_time() - start


def measure(folder, network="cifar_resnet56"):
    tf.config.experimental.enable_op_determinism()  # as train.py does without a GPU
    layers = tuple(levels.training_layers(list(levels.FUSION_DISTILL), 32))
    teachers = [networks.build(network, 10) for _ in layers]

    def create_distill(**settings):
        return FusionDistill(
            networks.build(network, 10),
            copies=TrainingCopies(layers, cutout=16, cutout_on="degraded", **settings),
            optimizers={"classifier": optimizers.RAdam(1e-3, decay=1e-4)},
            teachers=teachers,
            cross_entropy_weight=0.1,
            cache_path=folder,
        )

    distill, cached = create_distill(), create_distill(flip=False, padding=0)
    student = Classifier(
        networks.build(network, 10),
        copies=TrainingCopies(flip=False, padding=0),
        optimizers={"classifier": optimizers.RAdam(1e-3, decay=1e-4)},
    )
    few, many = random_batch(BATCH), random_batch(BATCH * len(layers))
    images = LabelledImages(few["image"].numpy().astype(np.uint8), few["label"].numpy(), [])
    cached.prepare(
        LabelledData(
            images_per_step=BATCH,
            read=lambda split: images,
            evaluation_batch_size=BATCH,
            validation="held_out",
            held_out=0.0,
        )
    )
    whole_step = tf.function(distill.train_step)
    cached_step = tf.function(cached.train_step)
    student_step = tf.function(student.train_step)
    teach = tf.function(distill._teach)
    parts = {
        "whole": lambda: whole_step(few, SEED)["loss"].numpy(),
        "student": lambda: student_step(many, SEED)["loss"].numpy(),
        "teachers": lambda: [block.numpy() for block in teach({"image": many["image"]})],
        "cached": lambda: cached_step(few | {"index": tf.range(BATCH)}, SEED)["loss"].numpy(),
    }
    times = {name: [] for name in parts}
    for number in range(ROUNDS + 1):
        for name, function in parts.items():
            taken = seconds(function)
            if number:  # the first step compiles
                times[name].append(taken)
    whole, *others = (float(np.median(values)) for values in times.values())
    print(
        f"FusionDistill step, {network}, 512 images: {whole:.2f} s; its network passes: student "
        f"{others[0]:.2f} s, teachers {others[1]:.2f} s; ratio {whole / sum(others[:2]):.2f} "
        f"(goal: at most 1.15); with cached teachers {others[2]:.2f} s"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        measure(folder, *sys.argv[1:])
