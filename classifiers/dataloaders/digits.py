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


def create_data(flags):
    """Returns the `LabelledData`."""
    return labelled_images.create_data(flags, read, sample_data.DIGITS_SIDE)


def read(split):
    """Returns the `LabelledImages` of "train" or "test"."""
    images, labels = sample_data.sample_digits(split)
    return labelled_images.LabelledImages(images, labels, [str(digit) for digit in range(10)])
