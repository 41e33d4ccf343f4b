"""Damage of LR images: what a network learns to repair, and is measured on."""

import degradations

DEGRADE_ON = ("device", "host")


def create(flags, training=False):
    """Returns the layer that --degradations describes, `None` without any.

    Args:
        flags: settings with --degradations and, in training, --degrade_on.
        training: whether it is to run in the training step.

    Raises:
        ValueError: if the text cannot be read, or names a codec that the step cannot run.
    """
    text = flags.get("degradations")
    if not text:
        return None
    try:
        layer = degradations.parse(text)
    except ValueError as error:
        raise ValueError(f"--degradations={text}: {error}") from error
    if training and flags.degrade_on == "device" and layer.host_only:
        raise ValueError(f"--degradations={text} runs on the host: give --degrade_on=host.")
    return layer
