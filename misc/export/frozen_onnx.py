"""ONNX files, one per scale: batch, height and width are free."""

import logging
import os

import numpy as np

from misc.export import frozen_graph

# The newest that tf2onnx 1.17 writes.
OPSET = 18
METADATA_KEY = "description"
# Else onnxruntime writes to the user's cache folder and reports to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def write(method, description, path):
    """Writes the file; see `misc.export.frozen`."""
    import onnx
    import tf2onnx

    function = frozen_graph.serving_function(method, description)
    logging.disable(logging.INFO)  # a dozen lines for each file
    try:
        model, _ = tf2onnx.convert.from_function(
            function,
            input_signature=function.input_signature,
            opset=OPSET,
            # What tf2onnx does not know: TensorFlow has the exact GELU of transformers in it.
            custom_op_handlers={"Erfc": (_write_erfc, [])},
        )
    finally:
        logging.disable(logging.NOTSET)
    model.graph.doc_string = ""  # tf2onnx has a number there that grows with every file
    model.metadata_props.add(key=METADATA_KEY, value=description.to_json())
    onnx.save(model, str(path))


def _write_erfc(graph, node, name, arguments):
    """Replaces a node erfc(x) by 1 - erf(x)."""
    del arguments
    inputs, outputs = list(node.input), list(node.output)
    shapes, dtypes = node.output_shapes, node.output_dtypes
    graph.remove_node(node.name)
    erf = graph.make_node("Erf", inputs, shapes=shapes, dtypes=dtypes)
    one = graph.make_const(f"{name}_one", np.ones([], np.float32))
    graph.make_node(
        "Sub", [one.output[0], erf.output[0]], outputs=outputs, shapes=shapes, dtypes=dtypes
    )


def read(path):
    """Returns the file's description, `None` if it has none, and its path, for `open_model`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    try:
        # Only what the file says of itself is read here, so nothing need be optimized.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's exceptions have no common public base
        raise ValueError(f"it is no ONNX file that can be run: {error}") from error
    return session.get_modelmeta().custom_metadata_map.get(METADATA_KEY), path


def open_model(path, description, threads):
    """Returns the file as a function; see `misc.export.frozen`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(path), options, providers=onnxruntime.get_available_providers()
    )
    names = list(description.outputs.values())

    def run(images, scale):
        del scale  # the file has one
        results = session.run(names, {description.images: np.asarray(images, np.float32)})
        return dict(zip(description.outputs, results, strict=True))

    return run
