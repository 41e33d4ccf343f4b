"""Damage of LR images: what a network learns to repair, and is measured on."""

import degradations

DEGRADE_ON = ("device", "host")


def create(flags, training=False):
    """Returns the layer that --degradations describes, `None` without any.

    Args:
        flags: settings with --degradations and, in training, --degrade_on.
        training: whether it is to run in the training step.

    Raises:
        ValueError: if the text cannot be read, names a codec that the step cannot run, or the
            command neither trains nor measures.
    """
    text = flags.get("degradations")
    if not text:
        return None
    if "seed" not in flags:  # whatever draws has one
        raise ValueError(
            f"--degradations={text} is for training and validation: here images are taken as they "
            "are. Leave it out."
        )
    try:
        layer = degradations.parse(text)
    except ValueError as error:
        raise ValueError(f"--degradations={text}: {error}") from error
    if training and flags.degrade_on == "device" and layer.host_only:
        raise ValueError(f"--degradations={text} runs on the host: give --degrade_on=host.")
    return layer
