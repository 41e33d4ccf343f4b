"""Stability training: what a classifier says of a clean image should not change with noise.

Zheng, Song, Leung & Goodfellow, "Improving the Robustness of Deep Neural Networks via Stability
Training", CVPR 2016, with the settings of Marie et al., Electronic Imaging 2022:

    python train.py --model=stability_training --network=resnet50 --weights=resnet50.pth \\
        --dataloader=class_folders --data_path=ImageNet/train --data_test_path=ImageNet/val

    loss = cross-entropy(clean, label) + lambda * sum over batch and classes of KL(clean || noisy)

The noisy answer has no gradient. The last layer alone is trained, with the network in training
mode, so that the statistics of batch normalisation move.
"""

import tensorflow as tf

from classifiers import losses, networks, training_copies
from classifiers.models import _tuned, classifier
from classifiers.models._tuned import Tuned
from misc.training import common_flags

DATALOADER = "digits"
NETWORK_FLAGS = classifier.NETWORK_FLAGS
WEIGHTS_FLAG = classifier.WEIGHTS_FLAG
# Validations without a better result after which the rate falls, which ends the training.
PATIENCE, FALLS = 4, 1
# Deviations of the noise, of which 1 is 256 grey levels, and learning rates (Marie et al.).
PUBLISHED = {"resnet50": (5e-4, 1e-7), "mnasnet1_0": (4e-2, 1e-6)}
# A run of seconds, to try things.
TINY = classifier.TINY | {
    "stability_training_noise": 0.04,
    "stability_training_learning_rate": 1e-4,
}


def define_flags():
    """Defines the flags of stability training."""
    _tuned.define_flags(PATIENCE)
    common_flags.define_float(
        "stability_training_noise",
        None,
        "Deviation of the Gaussian noise, of which 1 is 256 grey levels, where --degradations does "
        "not name another degradation; default: the published one of --network.",
        at_least=0,
        at_most=1,
    )
    common_flags.define_float(
        "stability_training_learning_rate",
        None,
        "Learning rate of the first step; default: the published one of --network.",
        at_least=0,
    )
    common_flags.define_float(
        "stability_training_lambda",
        5e-3,
        "Weight of the divergence of noisy from clean answers.",
        at_least=0,
    )
    _tuned.define_reduction_flag("stability_training")


def create_model(flags, training=False):
    """Returns the `StabilityTraining` that the flags describe."""
    chosen = {}
    if training:
        noise, rate = create_choice(flags)
        # Noise of a fraction of a grey level would be lost, or doubled, by whole numbers.
        texts = list(flags.degradations) or [f"noise:{256 * noise:g},quantize=none"]
        chosen = {"stability_training_learning_rate": rate, "degradations": texts}
    flags = flags | chosen
    made = _tuned.create(
        StabilityTraining,
        flags,
        training,
        flags.stability_training_learning_rate,
        weight=flags.stability_training_lambda,
        reduction=flags.stability_training_reduction,
        falls=FALLS,
    )
    made.settings |= chosen
    return made


def create_choice(flags):
    """Returns deviation of the noise and learning rate: the flags', or else the published ones."""
    chosen = [flags.stability_training_noise, flags.stability_training_learning_rate]
    if flags.degradations and chosen[0] is None:
        chosen[0] = 0.0  # not used
    if None in chosen and flags.network not in PUBLISHED:
        raise ValueError(
            f"Nothing is published for --network={flags.network}, but for "
            f"{' and '.join(PUBLISHED)}: give --stability_training_learning_rate, and "
            "--stability_training_noise or --degradations."
        )
    known = PUBLISHED.get(flags.network, chosen)
    return [
        given if given is not None else value for given, value in zip(chosen, known, strict=True)
    ]


class StabilityTraining(Tuned):
    """A classifier whose last layer learns to say the same of clean and of noisy images."""

    def __init__(self, network, *args, **kwargs):
        """Freezes all but the last layer; see `Tuned`."""
        head = networks.head_of(network)
        for variable in network.trainable_variables:
            # Not the layers: batch normalisation that is frozen follows no batch.
            variable.trainable = any(variable is own for own in head.variables)
        super().__init__(network, *args, **kwargs)

    def measure(self, copies, training):
        """See `Tuned`; the answers that count are those of the noisy images."""
        clean = self.network(training_copies.clean(copies), training=training)
        noisy = tf.stop_gradient(self.network(copies["degraded"], training=training))
        cross_entropy = losses.cross_entropy(copies["label"], clean)
        return cross_entropy, losses.kl_divergence(clean, noisy), noisy
