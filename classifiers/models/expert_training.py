"""Expert training: a classifier learns to say of degraded images what it said of clean ones.

Marie, Desnos, Morin & Zhang, "Expert Training: Enhancing AI Resilience to Image Coding Artifacts",
Electronic Imaging 2022.

    python train.py --model=expert_training --network=resnet50 --weights=resnet50.pth \\
        --dataloader=class_folders --data_path=ImageNet/train --data_test_path=ImageNet/val \\
        --degradations=jpeg:10 --train_path=runs/jpeg_10

The student starts from --weights (or --restore_path) and sees degraded images; the teacher is the
same network, frozen, and sees the clean ones:

    loss = cross-entropy(student, label) + alpha * KL(teacher || student), summed over the batch

With --expert_training_alpha=0 that is fine-tuning.
"""

from absl import flags

from classifiers import flags as classifier_flags
from classifiers import losses, published, teacher_cache
from classifiers.models import _tuned, classifier
from classifiers.models._tuned import Tuned
from misc.training import common_flags

DATALOADER = "digits"
NETWORK_FLAGS = classifier.NETWORK_FLAGS
WEIGHTS_FLAG = classifier.WEIGHTS_FLAG
# Validations without a better result after which the rate falls; with the third fall, to 1/125 of
# its start, the training ends.
PATIENCE, FALLS = 3, 3
# A run of seconds, to try things.
TINY = classifier.TINY | {
    "degradations": ["jpeg:10"],
    "degrade_on": "device",
    "expert_training_learning_rate": 1e-4,
    "expert_training_alpha": 1e-2,
}


def define_flags():
    """Defines the flags of expert training."""
    _tuned.define_flags(PATIENCE)
    flags.FLAGS.set_default("degrade_on", "host")
    common_flags.define_float(
        "expert_training_learning_rate",
        None,
        "Learning rate of the first step; default: the published one of --network and the "
        "degradation, where there is one (docs/expert_training.md).",
        at_least=0,
    )
    common_flags.define_float(
        "expert_training_alpha",
        None,
        "Weight of the divergence from the teacher's answers; 0: fine-tuning; default: the "
        "published one, as for the rate.",
        at_least=0,
    )
    _tuned.define_reduction_flag("expert_training")
    classifier_flags.define_cache_flag()


def create_model(flags, training=False):
    """Returns the `ExpertTraining` that the flags describe; the teacher is made for training."""
    rate, alpha = create_choice(flags) if training else (0.0, 0.0)
    made = _tuned.create(
        ExpertTraining,
        flags,
        training,
        rate,
        weight=alpha,
        reduction=flags.expert_training_reduction,
        falls=FALLS,
        cache_path=teacher_cache.create_path(flags),
    )
    if training:
        made.settings |= {"expert_training_learning_rate": rate, "expert_training_alpha": alpha}
        if alpha:
            made.teacher = create_teacher(flags, made.network)
    return made


def create_choice(flags):
    """Returns the learning rate and alpha: those of the flags, or else the published ones."""
    chosen = [flags.expert_training_learning_rate, flags.expert_training_alpha]
    stored = flags.get("stored_degradation")
    texts = [stored] if stored else list(flags.degradations)
    found = published.find(flags.network, texts, fine_tuning=chosen[1] == 0)
    names = ("expert_training_learning_rate", "expert_training_alpha")
    if found is None and None in chosen:
        missing = " and ".join(
            f"--{name}" for name, value in zip(names, chosen, strict=True) if value is None
        )
        raise ValueError(
            f"Nothing is published for --network={flags.network} and "
            f"{', '.join(texts) or 'clean images'}: give {missing}. {published.KNOWN}"
        )
    if found is not None and flags.expert_training_reduction == "mean":
        # The same balance as in a batch of the published size.
        found = found[0], found[1] * published.BATCH_SIZES[flags.network]
    rate, alpha = (
        given if given is not None else known
        for given, known in zip(chosen, found or chosen, strict=True)
    )
    print(f"Learning rate {rate:g}, alpha {alpha:g}" + (" (published)" if None in chosen else ""))
    return rate, alpha


def create_teacher(flags, network):
    """Returns the frozen network that training starts from."""
    if flags.get("restore_path"):
        return classifier.create_trained_network(flags, flags.restore_path, "restore_path")
    if not flags.weights:
        print("Neither --weights nor --restore_path: the teacher knows nothing.")
    elif not flags.weights_head:
        raise ValueError(
            "--noweights_head: the teacher would answer at random. Train the last layer first "
            "(--model=classifier), or give --expert_training_alpha=0."
        )
    teacher = classifier.create_network(flags | {"num_classes": network.output_shape[-1]})
    teacher.set_weights(network.get_weights())
    return teacher


class ExpertTraining(Tuned):
    """A student of degraded images, and its frozen self of before, which sees the clean ones."""

    def __init__(self, network, *args, teacher=None, cache_path=None, **kwargs):
        """Sets the method up; see `Tuned` too.

        Args:
            network: the student.
            *args: for `Tuned`.
            teacher: network that is not trained; `None` without a divergence.
            cache_path: folder for the teacher's answers, `None`: it is asked in each step.
            **kwargs: for `Tuned`.
        """
        super().__init__(network, *args, **kwargs)
        self.teacher, self.cache_path = teacher, cache_path
        self._outputs = {}

    def prepare(self, data):
        """Looks up, or computes, what the teacher says about all clean images."""
        if not self.weight or not self.cache_path or not self.copies.draws_nothing:
            return
        self._outputs = teacher_cache.open_splits(self.cache_path, self.teacher, "logits", data)

    def measure(self, copies, training):
        """See `Tuned`."""
        logits = self.network(copies["degraded"], training=training)
        cross_entropy = losses.cross_entropy(copies["label"], logits)
        if not self.weight:
            return cross_entropy, 0.0 * cross_entropy, logits
        outputs = self._outputs.get("train" if training else "validation")
        taught = teacher_cache.teach(outputs, self.teacher, copies)
        return cross_entropy, losses.kl_divergence(taught, logits), logits
