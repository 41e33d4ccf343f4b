"""CIFAR-10: 32x32 photos of 10 classes, 50,000 to train and 10,000 to test.

python train.py --model=classifier --dataloader=cifar10 --data_path=FOLDER
"""

from classifiers import labelled_images
from classifiers.dataloaders import _cifar

MODEL = "classifier"


def define_flags():
    """Defines the flags of this dataloader."""
    _cifar.define_flags(_cifar.CIFAR10)
    labelled_images.define_defaults(num_classes=10, data_normalisation="cifar10")


def create_batches(flags, split, seed, first_step=0, shard=(0, 1)):
    """Returns the batches of a split; see `labelled_images.create_batches`."""
    return labelled_images.create_batches(_reader(flags), flags, split, seed, first_step, shard)


def count_images(flags):
    """Returns the number of training images."""
    return len(labelled_images.part(_reader(flags), flags, "train"))


def describe_data(flags):
    """Returns what a run keeps of its data; see `labelled_images.describe`."""
    return labelled_images.describe(_reader(flags), flags)


def _reader(flags):
    return lambda split: _cifar.read("cifar10", flags.data_path, flags.data_tfds, split)
