"""Scikit-learn's handwritten digits as 32x32 RGB: the embedded data, which need no download.

1,797 digits of 43 writers (Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits", UCI,
1998); the last 360, of other writers, are the test set.
"""

from classifiers import labelled_images
from misc.images import sample_data

MODEL = "classifier"


def define_flags():
    """Defines the flags of this dataloader."""
    labelled_images.define_flags()
    labelled_images.define_defaults(
        num_classes=10,
        data_normalisation="digits",
        # A mirrored 2 is no 2.
        augment_flip=False,
    )


def create_batches(flags, split, seed, first_step=0, shard=(0, 1)):
    """Returns the batches of a split; see `labelled_images.create_batches`."""
    return labelled_images.create_batches(_read, flags, split, seed, first_step, shard)


def count_images(flags):
    """Returns the number of training images."""
    return len(labelled_images.part(_read, flags, "train"))


def describe_data(flags):
    """Returns what a run keeps of its data; see `labelled_images.describe`."""
    return labelled_images.describe(_read, flags)


@labelled_images.remember
def _read(split):
    images, labels = sample_data.sample_digits(split)
    return labelled_images.LabelledImages(images, labels, [str(digit) for digit in range(10)])
