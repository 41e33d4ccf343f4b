"""Flags that all classifiers share: network, training copies, optimization, evaluation."""

from absl import flags

from classifiers import levels, networks
from classifiers.training_copies import CUTOUT_ON, DEGRADE_ON, IMAGES
from misc.training import common_flags, optimizers, settings

# The flags belong to the modules that call this, also in --helpfull.
flags.disclaim_key_flags()


def define_network_flags():
    """Defines the flags of the network, its weights and the data set that it is made for."""
    define_architecture_flags()
    common_flags.define_names(
        "weights",
        None,
        "File of weights to start from, PyTorch's or Keras', or several that belong together; "
        "absent: random ones.",
    )
    flags.DEFINE_bool(
        "weights_head",
        True,
        "Take the last layer from --weights too; --noweights_head lets it start at random, for "
        "another number of classes.",
    )


def define_architecture_flags():
    """Defines the flags of the network and of the data set that it is made for."""
    flags.DEFINE_enum("network", "cifar_resnet56", networks.NAMES, "Architecture.")
    flags.DEFINE_integer(
        "num_classes", None, "Number of classes; default: the data set's.", lower_bound=1
    )
    flags.DEFINE_integer(
        "image_size",
        None,
        "Side in pixels of the images, for networks that are made for one size: vit_b16 and "
        "clip_rn50, default 224.",
        lower_bound=1,
    )
    common_flags.define_numbers(
        "image_mean",
        None,
        "Mean of R, G and B in 0-255, which networks subtract and Cutout covers with; default: "
        "that of the run that is restored, else --data_normalisation for CIFAR ResNets, and what "
        "the network is usually fed with for all others.",
        float,
        length=3,
        at_least=0,
        at_most=255,
    )
    common_flags.define_numbers(
        "image_deviation",
        None,
        "Standard deviation of R, G and B in 0-255; default: as for --image_mean.",
        float,
        length=3,
        above=0,
        at_most=255,
    )
    flags.DEFINE_enum(
        "data_normalisation",
        None,
        sorted(networks.NORMALISATIONS),
        "Mean and deviation of the data, which CIFAR ResNets are fed with; default: the data "
        "set's.",
    )


def define_copies_flags():
    """Defines the flags of the copies that are trained on, and of their degradations."""
    define_degradation_flags()
    flags.DEFINE_enum(
        "degrade_on",
        "device",
        DEGRADE_ON,
        "Where training images are degraded: device: in the training step; host: in the input "
        "pipeline, which codecs need.",
    )
    flags.DEFINE_enum(
        "copies_images",
        "shared",
        IMAGES,
        "shared: each degradation gets the same --batch_size images, as in the authors' code; "
        "independent: as many images of its own.",
    )
    flags.DEFINE_bool("augment_flip", True, "Mirror training images at random.")
    flags.DEFINE_integer(
        "augment_padding", 4, "Pixels by which training images are shifted at most.", lower_bound=0
    )
    flags.DEFINE_integer(
        "augment_cutout", 0, "Side of Cutout's square in pixels; 0: none.", lower_bound=0
    )
    flags.DEFINE_enum(
        "augment_cutout_on", "both", CUTOUT_ON, "Copies that Cutout covers a square of."
    )


def define_degradation_flags():
    """Defines the flags of degradations."""
    flags.DEFINE_multi_string(
        "degradations",
        [],
        "One degradation: jpeg, blur, saltpepper or noise (over the range of FusionDistill; "
        "blur_authors and saltpepper_authors are the variants of the authors' code), "
        "'noise:0-50,step=5', fog@3, 'blur:2|jpeg:10' or a group such as imagenet_c. Repeat the "
        "flag for several: those of a recipe and of the command line add up. Each gets a block of "
        "the batch.",
    )
    flags.DEFINE_integer(
        "degradation_size", 32, "Image size whose severities are meant: 32, 64 or 224."
    )
    flags.register_validator(
        "degradation_size", levels.SIZES.__contains__, "it must be 32, 64 or 224"
    )


def define_optimizer_flags():
    """Defines the flags of optimization."""
    flags.DEFINE_enum("classifier_optimizer", "sgd", optimizers.OPTIMIZERS, "Optimizer.")
    common_flags.define_float(
        "classifier_learning_rate", 0.1, "Learning rate of the first step.", at_least=0
    )
    common_flags.define_float(
        "classifier_learning_rate_decay",
        0.2,
        "Factor of --schedule=step and milestones.",
        above=0,
        at_most=1,
    )
    flags.DEFINE_integer(
        "classifier_learning_rate_decay_steps",
        20000,
        "Steps between two reductions of --schedule=step and cosine_staircase.",
        lower_bound=1,
    )
    common_flags.define_float(
        "classifier_momentum",
        0.9,
        "Momentum of --classifier_optimizer=sgd.",
        at_least=0,
        below=1,
    )
    common_flags.define_float(
        "classifier_weight_decay", 1e-4, "Strength of the weight decay.", at_least=0
    )
    flags.DEFINE_enum(
        "classifier_weight_decay_kind",
        "l2",
        optimizers.WEIGHT_DECAYS,
        "l2: added to the gradient; decoupled: weights shrink by rate times decay on their own.",
    )


def define_cache_flag():
    """Defines where the answers of teachers are kept."""
    flags.DEFINE_string(
        "teacher_cache_path",
        None,
        "Folder for what teachers say about clean images, computed once for all runs; default: "
        "teacher_outputs beside --train_path; empty: they are asked in each step.",
    )
    settings.local("teacher_cache_path", changeable=True)


def define_evaluation_flags():
    """Defines the flags of evaluation."""
    define_levels_flag()
    flags.DEFINE_bool(
        "confusion_matrix", False, "Also write confusion.csv, and a picture for each degradation."
    )


def define_levels_flag():
    """Defines the flag of the levels that degradations are tested at."""
    flags.DEFINE_string(
        "levels",
        "random",
        "Levels that --degradations are tested at: random: drawn per image as in training; all: "
        "every level of the range; or numbers such as 10,30,50.",
    )


def define_reestimation_flag():
    """Defines the flag of batch statistics that are estimated anew on what is tested."""
    flags.DEFINE_integer(
        "reestimated_prior",
        None,
        "Evaluations also measure classifiers with batch statistics that are estimated anew on "
        "each --evaluation_batch_size images, which then come in a random order; those of training "
        "weigh as so many images (Schneider et al., NeurIPS 2020). Default: no.",
        lower_bound=0,
    )
    settings.local("reestimated_prior")


def create_optimizer(flags):
    """Returns the optimizer with the schedule that the flags describe."""
    rate = common_flags.create_schedule(
        flags,
        flags.classifier_learning_rate,
        flags.classifier_learning_rate_decay,
        flags.classifier_learning_rate_decay_steps,
    )
    return optimizers.create(
        flags.classifier_optimizer,
        rate,
        flags.classifier_weight_decay,
        flags.classifier_weight_decay_kind,
        flags.classifier_momentum,
    )
