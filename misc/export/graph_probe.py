"""What a frozen graph does not say of itself, found by running it: scales, sizes, reach."""

import contextlib

import numpy as np
import tensorflow as tf

from misc.export import frozen_graph

# Farther than this many input pixels on either side, no reach is measured.
FARTHEST = 256


def measure(path, graph, description):
    """Returns the fields "scales", "radius" and "factor" of a `frozen.Description`.

    Args:
        path: the graph's file, for messages.
        graph: GraphDef of convolutions whose padding is zero.
        description: `frozen.Description` whose scales are those to try; without an input for the
            scale, the graph is taken to serve the one that its output shows.

    Returns:
        The reach is `None` where it is larger than `FARTHEST`.

    Raises:
        ValueError: if the graph runs at none of the scales, or its output is no enlarged image.
    """
    run = frozen_graph.open_model(_with_equal_weights(graph), description, threads=0)
    (key,) = description.outputs
    found = {}
    for scale in description.scales if description.scale else (None,):
        # The originals have an assertion in the branch of the scales that they lack.
        with contextlib.suppress(tf.errors.InvalidArgumentError):
            radius, factor = _measure(path, lambda images, at=scale: run(images, at)[key])
            found[scale or factor] = radius, factor
    if not found:
        raise ValueError(f"{path} runs at none of the scales {list(description.scales)}")
    radius, factor = zip(*found.values(), strict=True)
    return {"scales": tuple(found), "radius": radius, "factor": factor}


def _with_equal_weights(graph):
    """Returns a copy whose kernels are 1 and whose biases and means are 0, for the CPU.

    Exactly what depends on a pixel differs from 0 then when that pixel alone is 1: nothing cancels,
    no ReLU hides it, and no algorithm of a GPU spreads what overflows.
    """
    copy = tf.compat.v1.GraphDef()
    copy.CopyFrom(graph)
    compared = {name for node in graph.node if node.op == "Equal" for name in node.input}
    for node in copy.node:
        node.device = "/device:CPU:0"
        if node.op != "Const" or node.name in compared:  # with the scale
            continue
        value = node.attr["value"].tensor
        shape = tf.TensorShape(value.tensor_shape)
        if value.dtype == tf.float32.as_datatype_enum and shape.rank:
            value.CopyFrom(tf.make_tensor_proto(float(shape.rank > 1), tf.float32, shape))
    return copy


def _measure(path, function):
    # One row shows the reach of square kernels, and costs little.
    images = np.zeros((1, 1, 2 * FARTHEST + 1, 3), np.float32)
    images[:, :, FARTHEST] = 1
    output = np.asarray(function(images))
    factor = output.shape[2] // images.shape[2] if output.ndim == 4 else 0
    if not factor or output.shape[1:3] != (factor, factor * images.shape[2]):
        raise ValueError(
            f"{path} makes an output of the shape {list(output.shape)} of an image of "
            f"{images.shape[1]}x{images.shape[2]} pixels, which is no enlarged image"
        )
    reached = np.flatnonzero((output != 0).any(axis=(0, 1, 3))) // factor
    if not len(reached) or reached[0] == 0 or reached[-1] == images.shape[2] - 1:
        return None, factor
    return int(max(FARTHEST - reached[0], reached[-1] - FARTHEST)), factor
