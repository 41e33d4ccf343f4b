"""Which mean and standard deviation a network's images are normalised with."""

from classifiers import networks
from misc.training import run_folder

# Networks that are usually fed with these are trained from scratch, on whatever data there are;
# all others come with weights that know one normalisation.
_OF_SMALL_DATA = ("cifar10", "cifar100")
_DIGITS = 9


def resolve(flags):
    """Returns the mean and the deviation of R, G and B in 0-255, two lists.

    Each of them is what --image_mean or --image_deviation says; else that of the run whose weights
    are restored; else, for CIFAR ResNets, that of the data set (--data_normalisation); else what
    the network is usually fed with, see `networks.NORMALISATIONS`.

    Args:
        flags: values of the flags of `classifiers.flags`.

    Raises:
        ValueError: unless there are three values each, which look like those of images in 0-255.
    """
    restored = {}
    if getattr(flags, "restore_path", None):
        restored = run_folder.read_arguments(flags.restore_path)
    usual = networks.NORMALISATIONS[_usual(flags)]
    values = []
    for name, fallback in zip(("image_mean", "image_deviation"), usual, strict=True):
        given = getattr(flags, name, None) or restored.get(name)
        # Rounded: 255 * (125.3 / 255) is not 125.3.
        values.append(given or [round(255 * value, _DIGITS) for value in fallback])
    _check(*values)
    return values


def _usual(flags):
    usual = networks.NETWORKS[flags.network].normalisation
    if usual in _OF_SMALL_DATA:
        return getattr(flags, "data_normalisation", None) or usual
    return usual


def _check(mean, deviation):
    if len(mean) != 3 or len(deviation) != 3:
        raise ValueError(
            "--image_mean and --image_deviation take three values each, for R, G and B. "
            f"Received: {mean}, {deviation}"
        )
    if min(deviation) < 1 or any(0 < value < 1 for value in mean):
        raise ValueError(
            "--image_mean and --image_deviation are on the scale 0-255, such as "
            "123.675,116.28,103.53 and 58.395,57.12,57.375: multiply values for 0-1 by 255. "
            f"Received: {mean}, {deviation}"
        )
