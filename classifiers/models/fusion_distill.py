"""Distillation from one teacher per degradation: steps 2 and 4 of FusionDistill.

Daultani & Larochelle, "Consolidating Separate Degradations Model via Weights Fusion and
Distillation", WACV Workshops 2024.

Step 2, one model for a degradation, taught by the clean model that it starts from:

    python train.py --model=fusion_distill --degradations=jpeg --teacher_weights=runs/clean/best \\
        --restore_path=runs/clean/best --restore_target=classifier ...

Step 4, one model for all, from fused weights (`misc.fuse_weights`), taught by the models of step 2
(the shell repeats the flag in braces):

    python train.py --model=fusion_distill --degradations={jpeg,blur,saltpepper,noise} \\
        --teacher_weights=runs/jpeg/best,runs/blur/best,runs/saltpepper/best,runs/noise/best \\
        --restore_path=runs/fused --restore_target=classifier \\
        --fusion_distill_cross_entropy_weight=0.1 ...
"""

import re

import tensorflow as tf
from absl import flags

import degradations
from classifiers import flags as classifier_flags
from classifiers import losses, networks, teacher_cache, training_copies
from classifiers.models import classifier
from classifiers.models.classifier import Classifier, batch_accuracy
from misc.training import common_flags

DATALOADER = "digits"
NETWORK_FLAGS = classifier.NETWORK_FLAGS
SELF = "self"
TEACHER_INPUTS = ("clean", "degraded")
WEIGHTS_FLAG = classifier.WEIGHTS_FLAG
# A run that a CPU finishes within the hour.
SMALL_RECIPE = "classifiers/recipes/quick_distill.flags"
# A run of seconds, to try things.
TINY = classifier.TINY | {"degradations": ["noise"], "teacher_weights": [SELF]}


def define_flags():
    """Defines the flags of classifiers and of distillation."""
    classifier.define_flags()
    common_flags.define_names(
        "teacher_weights",
        None,
        "Teachers in the order of --degradations, or one for all of them: folders or checkpoints "
        "of runs, files of weights, or self: the student itself, without gradient.",
        repeats=True,
    )
    flags.DEFINE_enum(
        "fusion_distill_teacher_input",
        "clean",
        TEACHER_INPUTS,
        "Copies that the teachers see: clean, as in the authors' configuration, or degraded.",
    )
    common_flags.define_float(
        "fusion_distill_cross_entropy_weight",
        1.0,
        "Weight of the cross-entropy beside the sum of the teachers' losses: 1 in step 2, 0.1 in "
        "step 4.",
        at_least=0,
    )
    flags.DEFINE_string(
        "fusion_distill_stage",
        None,
        "Stage of the networks that is compared; default: the last one, after its ReLU.",
    )
    classifier_flags.define_cache_flag()


def create_model(flags, training=False):
    """Returns the `FusionDistill` that the flags describe; teachers are loaded for training."""
    teachers = create_teachers(flags) if training else []
    return classifier.create_method(
        FusionDistill,
        flags,
        training,
        teachers=teachers,
        teacher_input=flags.fusion_distill_teacher_input,
        cross_entropy_weight=flags.fusion_distill_cross_entropy_weight,
        stage=flags.fusion_distill_stage,
        cache_path=teacher_cache.create_path(flags),
    )


def create_teachers(flags):
    """Returns the networks that --teacher_weights names; `None` stands for the student itself."""
    paths = flags.teacher_weights
    if not paths:
        raise ValueError(
            "--teacher_weights is missing: one teacher, or one for each of --degradations."
        )
    blocks = max(len(degradations.expand(flags.degradations)), 1)
    if len(paths) not in (1, blocks):
        raise ValueError(
            f"--teacher_weights must name one teacher, or one for each of the {blocks} "
            f"--degradations. Received: {len(paths)}"
        )
    return [
        None if path == SELF else classifier.create_trained_network(flags, path, "teacher_weights")
        for path in paths
    ]


class FusionDistill(Classifier):
    """A student of degraded copies, and frozen teachers of clean (or the same) ones."""

    def __init__(
        self,
        network,
        evaluation=None,
        copies=None,
        optimizers=None,
        teachers=(),
        teacher_input="clean",
        cross_entropy_weight=1.0,
        stage=None,
        cache_path=None,
        **kwargs,
    ):
        """Sets the method up; see `Classifier` too.

        Args:
            network: the student, of `networks.build`.
            evaluation: as there.
            copies: as there.
            optimizers: as there.
            teachers: networks in the order of the degradations, or one for all of them; `None`
                stands for the student itself. Empty without training.
            teacher_input: "clean" or "degraded".
            cross_entropy_weight: weight of the cross-entropy.
            stage: stage that is compared; `None`: the last one, after its ReLU.
            cache_path: folder for what teachers say about clean images that no flip, crop or
                Cutout changes (45,000 images of CIFAR need 2.9 GB for four teachers); `None`: they
                are asked every time.
            **kwargs: for `Method`.

        Raises:
            ValueError: if a network has not that stage, or with other features than the student.
        """
        super().__init__(network, evaluation, copies, optimizers, **kwargs)
        self.teacher_input = "image" if teacher_input == "clean" else "degraded"
        self.cross_entropy_weight = cross_entropy_weight
        stage = stage or last_stage(network)
        for compared in (network, *teachers):
            if compared is not None:
                _check_stage(compared, stage, network)
        self.stage = stage
        self._student = networks.with_stages(network, ["logits", stage])
        self.teachers = [
            networks.with_stages(network if teacher is None else teacher, [stage])
            for teacher in teachers
        ]
        self._blocks = max(len(copies.layers), 1) if copies else 1
        # Only frozen teachers that see unchanged images say the same every time.
        constant = copies and copies.draws_nothing and teacher_input == "clean"
        self._cached = list(teachers) if constant and None not in teachers else []
        self._cache_path = cache_path
        self._outputs = []

    def prepare(self, data):
        """Looks up, or computes, what the teachers say about all clean images."""
        if self._cache_path:
            found = [
                teacher_cache.open_splits(self._cache_path, teacher, self.stage, data, ["train"])
                for teacher in self._cached
            ]
            self._outputs = [outputs["train"] for outputs in found if outputs]

    def train_step(self, batch, seed):
        """Runs one update on {"image", "label"} batches; see `Method.train_step`."""
        context = tf.distribute.get_replica_context()
        if "degraded" in batch and self._blocks > 1 and context.num_replicas_in_sync > 1:
            raise ValueError(
                "--degrade_on=host with several degradations works on one device alone, because "
                "the blocks of a batch would be torn apart. Give --degrade_on=device."
            )
        copies = self.make_copies(batch, seed)
        taught = self._teach(copies)
        with tf.GradientTape() as tape:
            student = self._student(copies["degraded"], training=True)
            logits = student["logits"]
            cross_entropy = losses.cross_entropy(copies["label"], logits)
            distances = [
                losses.cosine_embedding(block, target)
                for block, target in zip(
                    tf.split(student[self.stage], self._blocks), taught, strict=True
                )
            ]
            distance = tf.add_n(distances)
            loss = self.cross_entropy_weight * cross_entropy + distance
        self.update_weights("classifier", loss, tape)
        self.synchronize_statistics("classifier")
        return {
            "loss": loss,
            "cross_entropy": cross_entropy,
            "distance": distance / self._blocks,
            "accuracy": batch_accuracy(copies["label"], logits),
        }

    def _teach(self, copies):
        """Returns the teachers' features of each block, without gradient."""
        if self._outputs and "index" in copies:
            numbers = tf.split(copies["index"], self._blocks)
            outputs = self._outputs * (self._blocks // len(self._outputs))
            return [rows.get(index) for rows, index in zip(outputs, numbers, strict=True)]
        clean = self.teacher_input == "image"
        images = training_copies.clean(copies) if clean else copies["degraded"]
        if len(self.teachers) == 1:
            features = self.teachers[0](images, training=False)[self.stage]
            return [tf.stop_gradient(block) for block in tf.split(features, self._blocks)]
        return [
            tf.stop_gradient(teacher(block, training=False)[self.stage])
            for teacher, block in zip(self.teachers, tf.split(images, self._blocks), strict=True)
        ]


def _check_stage(network, stage, student):
    if stage not in network.stages:
        raise ValueError(
            f"--fusion_distill_stage={stage} is no stage of {network.name}, which has "
            f"{', '.join(network.stages)}."
        )
    shapes = [tuple(model.stages[stage].shape[1:]) for model in (network, student)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{stage} of {network.name}, a teacher of --teacher_weights, has the shape "
            f"{shapes[0]}, that of the student, {student.name}, {shapes[1]}."
        )


def last_stage(network):
    """Returns the name of a network's last stage, such as "stage3"."""
    numbers = [re.fullmatch(r"stage(\d+)", name) for name in network.stages]
    numbers = [int(match.group(1)) for match in numbers if match]
    if not numbers:
        raise ValueError(
            f"{network.name} has no stages to compare. Received: {', '.join(network.stages)}"
        )
    return f"stage{max(numbers)}"
