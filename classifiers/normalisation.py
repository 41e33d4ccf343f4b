"""Which mean and standard deviation a network's images are normalised with."""

from classifiers import networks
from misc.training import run_folder

# Networks that are usually fed with these are trained from scratch, on whatever data there are;
# all others come with weights that know one normalisation.
_OF_SMALL_DATA = ("cifar10", "cifar100")
_DIGITS = 9


def create(flags):
    """Returns the mean and the deviation of R, G and B in 0-255, two lists of three.

    Each of them is what --image_mean or --image_deviation says; else that of the run whose weights
    are restored; else see `usual`.
    """
    restored = {}
    if flags.get("restore_path"):
        restored = run_folder.read_arguments(flags.restore_path)
    mean, deviation = usual(flags.network, flags.data_normalisation)
    mean = flags.image_mean or restored.get("image_mean") or mean
    deviation = flags.image_deviation or restored.get("image_deviation") or deviation
    _check(mean, deviation)
    return mean, deviation


def usual(network, data_normalisation=None):
    """Returns what a network is usually fed with, see `networks.NORMALISATIONS`, in 0-255.

    CIFAR ResNets are fed with the mean and the deviation of the data, where these are known.
    """
    name = networks.NETWORKS[network].normalisation
    if name in _OF_SMALL_DATA:
        name = data_normalisation or name
    # Rounded: 255 * (125.3 / 255) is not 125.3.
    both = networks.NORMALISATIONS[name]
    return [[round(255 * value, _DIGITS) for value in values] for values in both]


def _check(mean, deviation):
    if min(deviation) < 1 or any(0 < value < 1 for value in mean):
        raise ValueError(
            "--image_mean and --image_deviation are on the scale 0-255, such as "
            "123.675,116.28,103.53 and 58.395,57.12,57.375: multiply values for 0-1 by 255. "
            f"Received: {mean}, {deviation}"
        )
