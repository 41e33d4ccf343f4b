"""What a training step needs of the memory, found out before it is taken.

On a CPU the system ends a process that takes more than there is, without a word.
"""

import tensorflow as tf

from misc.images import pixel_store

# Steps whose images the dataloaders make ahead of the one that runs.
AHEAD = 2
_BACKWARD = "gradient_tape/"
# Their results are other names of what is there already, or what the model is made of.
_NO_COPIES = ("Identity", "Reshape", "Squeeze", "ExpandDims", "ReadVariableOp", "Placeholder")


def check_batch(values, what):
    """Raises ValueError if the images of one step and of those ahead exceed the memory.

    Args:
        values: number of the float32 values of the images of a step.
        what: the flags that decide it, with their values, for the message.
    """
    _check((1 + AHEAD) * values * 4, f"{what}: the images of {1 + AHEAD} steps")


def checked(run_step, what):
    """Returns a compiled step that is checked, on a CPU, before it first runs on a kind of batch.

    It raises ValueError if what it keeps for its backward pass exceeds the memory.

    Args:
        run_step: `tf.function` of a dict of tensors and a seed.
        what: as for `check_batch`.
    """
    if tf.config.list_physical_devices("GPU"):
        return run_step

    seen = set()

    def run(batch, seed):
        kind = tuple(tuple(tensor.shape) for tensor in tf.nest.flatten(batch, True))
        if kind not in seen:
            seen.add(kind)
            # Traced once: the call that follows finds the same function.
            graph = run_step.get_concrete_function(batch, seed).graph
            _check(count_kept_bytes(graph), f"{what}: what gradients are made of")
        return run_step(batch, seed)

    return run


def count_kept_bytes(graph):
    """Returns the bytes of all that the forward pass makes and the backward pass reads.

    All of it exists when the backward pass begins: the step needs at least as much.
    """
    kept = {
        (tensor.op.name, tensor.value_index): tensor
        for operation in graph.get_operations()
        if operation.name.startswith(_BACKWARD)
        for tensor in operation.inputs
        if not tensor.op.name.startswith(_BACKWARD)
        and tensor.op.type not in _NO_COPIES
        and tensor.shape.is_fully_defined()
    }
    return sum(tensor.shape.num_elements() * tensor.dtype.size for tensor in kept.values())


def _check(needed, what):
    available = pixel_store.available_memory()
    if available is not None and needed > available:
        raise ValueError(
            f"{what} need at least {needed / 2**30:.3g} GiB of memory. "
            f"Available: {available / 2**30:.3g} GiB"
        )
