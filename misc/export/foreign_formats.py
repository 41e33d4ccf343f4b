"""Files of networks that were not written by freeze.py: opened, with what they tell of their input.

Frozen graphs and SavedModels are programs: see `graph_operations` for what is refused of them.
.keras files are read without running code of theirs.
"""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from misc.export import frozen_graph, frozen_saved_model

# A layer that normalises makes a network take images in 0-255.
_NORMALISING = (keras.layers.Rescaling, keras.layers.Normalization)


@dataclasses.dataclass(frozen=True)
class Opened:
    """A network in a file.

    Attributes:
        run: function of the values `[B, ...]` in the file's layout that returns a list of arrays
            `[B, ...]`, one for each output.
        shape: of the input, four sides, `None` where one is free.
        dtype: type of the values.
        on_tensors: whether `run` takes tensors, too.
        normalises: whether the file itself normalises images in 0-255.
        layout: layout of the input where the format has only one, else `None`.
    """

    run: Callable
    shape: tuple
    dtype: str = "float32"
    on_tensors: bool = False
    normalises: bool = False
    layout: str | None = None


def open_onnx(path, read, threads=0):
    """Returns the `Opened` ONNX file."""
    del read
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(path), options, providers=onnxruntime.get_available_providers()
    )
    inputs = session.get_inputs()
    shape = _single([(one.name, one.shape) for one in inputs])
    types = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
    dtype = types.get(inputs[0].type)
    if dtype is None:
        raise ValueError(f"its input is {inputs[0].type}; images are {', '.join(types)}")
    shape = tuple(side if isinstance(side, int) and side > 0 else None for side in shape)

    def run(values):
        return session.run(None, {inputs[0].name: values})

    return Opened(run, shape, dtype)


def open_tflite(path, read, threads=0):
    """Returns the `Opened` TFLite file; of quantised ones input and output are converted."""
    del read
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads or None)
    details = interpreter.get_input_details()
    _single([(one["name"], one["shape"]) for one in details])
    (given,) = details
    shape = tuple(int(side) if side > 0 else None for side in given["shape_signature"])
    dtype, scale = np.dtype(given["dtype"]), given["quantization"]
    quantised = dtype.kind in "iu" and scale[0]

    def run(values):
        if tuple(values.shape) != tuple(interpreter.get_input_details()[0]["shape"]):
            interpreter.resize_tensor_input(given["index"], values.shape)
        interpreter.allocate_tensors()
        if quantised:
            limits = np.iinfo(dtype)
            values = np.rint(values / scale[0] + scale[1]).clip(limits.min, limits.max)
        interpreter.set_tensor(given["index"], values.astype(dtype))
        interpreter.invoke()
        return [
            _dequantised(interpreter.get_tensor(one["index"]), one["quantization"])
            for one in interpreter.get_output_details()
        ]

    return Opened(run, shape, "float32" if quantised else str(dtype))


def _dequantised(values, scale):
    if values.dtype.kind not in "iu" or not scale[0]:
        return values
    return (values.astype(np.float32) - scale[1]) * np.float32(scale[0])


def open_saved_model(path, read, threads=0):
    """Returns the `Opened` SavedModel folder of TensorFlow 2."""
    del read, threads  # one setting for the whole process
    model = tf.saved_model.load(str(path))
    name = frozen_saved_model.SIGNATURE
    if name not in model.signatures:
        name = _single([(key, None) for key in model.signatures], "signature", with_value=False)
    function = model.signatures[name]
    inputs = function.structured_input_signature[1]
    _single(list(inputs.items()))
    ((key, spec),) = inputs.items()

    def run(values, keep=model):  # the function alone does not keep its variables alive
        return [np.asarray(value) for value in function(**{key: values}).values()]

    return Opened(run, _sides(spec.shape), spec.dtype.name, on_tensors=True)


def open_graph(path, graph, threads=0):
    """Returns the `Opened` frozen graph; its outputs are the nodes that feed no other."""
    del path, threads
    feeds = {name.lstrip("^").partition(":")[0] for node in graph.node for name in node.input}
    inputs = [node for node in graph.node if node.op == "Placeholder"]
    name = _single([(node.name, None) for node in inputs], with_value=False)
    (given,) = inputs
    ends = [node.name for node in graph.node if node.name not in feeds and node.op != "Const"]
    ends = [end for end in ends if end != name and not _is_control(graph, end)]
    if not ends:
        raise ValueError("it has no output: a node that feeds no other")
    shape = _sides(tf.TensorShape(given.attr["shape"].shape))
    dtype = tf.dtypes.as_dtype(given.attr["dtype"].type)
    placeholders = []

    def import_graph():
        placeholders.append(tf.compat.v1.placeholder(dtype, shape, "foreign_input"))
        tf.compat.v1.import_graph_def(graph, {f"{name}:0": placeholders[0]}, name="")

    wrapped = tf.compat.v1.wrap_function(import_graph, signature=[])
    function = wrapped.prune(
        placeholders, [wrapped.graph.get_tensor_by_name(f"{end}:0") for end in ends]
    )

    def run(values):
        return [np.asarray(value) for value in function(tf.convert_to_tensor(values))]

    return Opened(run, shape, dtype.name, on_tensors=True)


def _is_control(graph, name):
    return any(node.name == name and node.op in ("NoOp", "Assert") for node in graph.node)


def open_keras(path, read=None, threads=0):
    """Returns the `Opened` .keras file, read in safe mode: without code of its own."""
    del read, threads
    network = keras.saving.load_model(path, compile=False, safe_mode=True)
    inputs = [(one.name, one.shape) for one in getattr(network, "inputs", None) or ()]
    if not inputs:
        raise ValueError("it is no functional or sequential network that knows its input")
    shape = _single(inputs)
    signature = [tf.TensorSpec(shape, tf.float32)]
    function = frozen_graph.with_constants(
        tf.function(
            lambda values: tf.nest.flatten(network(values, training=False)),
            input_signature=signature,
            autograph=False,
        )
    )

    def run(values):
        return [np.asarray(value) for value in tf.nest.flatten(function(tf.constant(values)))]

    normalises = any(isinstance(layer, _NORMALISING) for layer in network._flatten_layers())
    return Opened(run, _sides(shape), on_tensors=True, normalises=normalises)


def _single(found, what="input", with_value=True):
    """Returns the value (or name) of the only (name, value), else raises ValueError."""
    if len(found) != 1:
        names = ", ".join(name for name, _ in found) or "none"
        raise ValueError(f"networks that classify images have one {what}. Found: {names}")
    return found[0][1] if with_value else found[0][0]


def _sides(shape):
    shape = tf.TensorShape(shape)
    if shape.rank is None:
        return (None,) * 4
    return tuple(shape.as_list())


OPENERS = {
    "onnx": open_onnx,
    "tflite": open_tflite,
    "saved_model": open_saved_model,
    "pb": open_graph,
    "keras": open_keras,
}
