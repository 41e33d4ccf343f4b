"""Frozen TensorFlow graphs (.pb), for importers of TensorFlow 1 style.

Scales are chosen by classic Switch and Merge nodes, so that only the chosen branch is computed and
no function library is needed.
"""

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from misc.export import graph_operations

DESCRIPTION_NODE = "description"


def serving_function(method, description):
    """Returns the `tf.function` that is written: images and scale, if any, to {name: tensor}.

    Without a `scale` input in the `Description`, its only scale is used. A scale that the method
    does not have is an InvalidArgumentError when the graph runs.
    """
    signature = [tf.TensorSpec([None, None, None, 3], tf.float32, description.images)]
    if description.scale:
        signature.append(tf.TensorSpec([], tf.float32, description.scale))
    offset, divisor = description.input_offset, description.input_divisor

    @tf.function(input_signature=signature, autograph=False)
    def serve(images, scale=None):
        if scale is not None:
            known = tf.reduce_any(tf.equal(scale, tf.constant(description.scales, tf.float32)))
            message = f"{description.scale} must be one of {list(description.scales)}. Received:"
            # Without this dependency, freezing would drop the check.
            with tf.control_dependencies([tf.debugging.Assert(known, [message, scale])]):
                scale = tf.identity(scale)
        if (offset, divisor) != (0.0, 1.0):
            images = images * divisor + offset
        outputs = _switch(method, images, scale, description.scales)
        # Without identity the nodes would be called Identity, Identity_1, ... in order of the keys.
        return {
            name: tf.identity(outputs[key], name=name) for key, name in description.outputs.items()
        }

    return serve


def with_constants(function):
    """Returns a `tf.function` with an input signature as a function whose weights are constants.

    TensorFlow then folds batch normalisation into the convolutions before it, which makes
    MobileNetV2 about 1.4 times faster on a CPU. Later changes of the weights have no effect.
    """
    constant = convert_variables_to_constants_v2(function.get_concrete_function())
    # By itself it is called in a second way after the first has failed, whose message, which nobody
    # sees, holds all its input as text.
    return tf.function(lambda *inputs: constant(*inputs), function.input_signature, autograph=False)


def write(method, description, path):
    """Writes the graph; see `misc.export.frozen`."""
    function = serving_function(method, description).get_concrete_function()
    frozen = convert_variables_to_constants_v2(function, lower_control_flow=True)
    graph = frozen.graph.as_graph_def()
    node = graph.node.add(name=DESCRIPTION_NODE, op="Const")
    node.attr["dtype"].type = tf.string.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(description.to_json()))
    path.write_bytes(graph.SerializeToString(deterministic=True))


def read(path):
    """Returns the file's description, `None` if it has none, and its graph, for `open_model`.

    A graph that does anything else than compute is a ValueError; see `graph_operations`.
    """
    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ValueError(f"it is no frozen TensorFlow graph: {error}") from error
    graph_operations.check_graph(graph)
    text = None
    for node in graph.node:
        if node.name == DESCRIPTION_NODE and node.op == "Const":
            text = tf.make_ndarray(node.attr["value"].tensor).item().decode()
    return text, graph


def open_model(graph, description, threads):
    """Returns the graph of `read` as a function; see `misc.export.frozen`."""
    del threads  # one setting for the whole process
    # Inputs of our own, because those of original graphs are fixed to one size.
    inputs = {description.images: [None, None, None, 3]}
    if description.scale:
        inputs[description.scale] = []
    placeholders = []

    def import_graph():
        for number, shape in enumerate(inputs.values()):
            placeholders.append(
                tf.compat.v1.placeholder(tf.float32, shape, f"frozen_input_{number}")
            )
        names = [f"{name}:0" for name in inputs]
        input_map = dict(zip(names, placeholders, strict=True))
        tf.compat.v1.import_graph_def(graph, input_map, name="")

    wrapped = tf.compat.v1.wrap_function(import_graph, signature=[])
    function = wrapped.prune(
        placeholders,
        {key: _tensor(wrapped.graph, name) for key, name in description.outputs.items()},
    )

    def run(images, scale):
        arguments = [tf.convert_to_tensor(images, tf.float32)]
        if description.scale:
            arguments.append(tf.constant(scale, tf.float32))
        return function(*arguments)

    return run


def _tensor(graph, name):
    try:
        return graph.get_tensor_by_name(f"{name}:0")
    except KeyError as error:
        raise ValueError(f"The frozen graph has no node called {name}") from error


def _switch(method, images, scale, scales):
    if len(scales) == 1:
        return method.predict(images, scales[0])
    return tf.cond(
        tf.equal(scale, float(scales[0])),
        lambda: method.predict(images, scales[0]),
        lambda: _switch(method, images, scale, scales[1:]),
    )
