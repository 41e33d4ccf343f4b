"""Flags that all score predictors share; the names are the original project's where it has them."""

from absl import flags

from misc.training import common_flags
from score_predictors import network

# The flags belong to the modules that call this, also in --helpfull.
flags.disclaim_key_flags()
RUN_DEFAULTS = {"epochs": 5, "weight_filename": "score_predictor.h5", "train_path": "train"}


def define_common_flags():
    """Defines the flags of scores, training and weights, and sets the defaults of training."""
    for name, value in RUN_DEFAULTS.items():
        if name in flags.FLAGS:
            flags.FLAGS.set_default(name, value)
    common_flags.define_numbers(
        "score_values",
        [float(value) for value in range(1, 11)],
        "Scores that the bins of a distribution stand for; default: the dataloader's.",
        float,
        order="ascending",
    )
    flags.DEFINE_integer("input_patch_size", 192, "Side of the images in pixels.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 32, "Images of a training step.", lower_bound=1)
    common_flags.define_float("learning_rate", 1e-3, "Learning rate of the first step.", at_least=0)
    common_flags.define_float(
        "learning_rate_decay",
        1.0,
        "Factor of --schedule=step; 1 keeps the rate.",
        above=0,
        at_most=1,
    )
    flags.DEFINE_integer(
        "learning_rate_decay_steps", 10000, "Steps between two reductions.", lower_bound=1
    )
    common_flags.define_float(
        "dropout",
        network.DROPOUT,
        "Share of the features that a training step leaves out.",
        at_least=0,
        at_most=0.99,
    )
    common_flags.define_float(
        "emd_r", 2.0, "Exponent r of the earth mover's distance that is trained.", at_least=1
    )
    common_flags.define_float(
        "batch_norm_momentum",
        None,
        "Share of the batch normalisation's averages that a training step keeps; default: the "
        "backbone's own, 0.999 in MobileNetV2, which needs thousands of steps from random weights.",
        at_least=0,
        below=1,
    )
    flags.DEFINE_string(
        "pretrained_weights",
        "imagenet",
        "Where the backbone starts, if nothing is restored: imagenet (downloaded by Keras), none, "
        "or a file .h5 as Keras publishes it.",
    )
