"""Graphs that do more than compute are refused before any of it runs."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from misc.export import frozen, frozen_saved_model

IMAGES = tf.TensorSpec([None, None, None, 3], tf.float32, "images")
DESCRIPTION = frozen.Description("images", None, {"output": "output"}, (None,), (None,), (1,))


def write_file(images, path):
    with tf.control_dependencies([tf.io.write_file(path, "harm")]):
        return tf.identity(images)


def read_file(images, path):
    return images + tf.cast(tf.strings.length(tf.io.read_file(path)), tf.float32)


def read_records(images, path):
    dataset = tf.data.TFRecordDataset(path)
    return images + dataset.reduce(0.0, lambda total, _: total + 1)


def call_python(images, path):
    return tf.ensure_shape(tf.numpy_function(lambda x: x, [images], tf.float32), images.shape)


def print_to_file(images, path):
    tf.print("harm", output_stream=f"file://{path}")
    return tf.identity(images)


def in_a_branch(images, path):
    return tf.cond(tf.shape(images)[0] > 9, lambda: write_file(images, path), lambda: images)


HARM = {
    "WriteFile": write_file,
    "ReadFile": read_file,
    "TFRecordDatasetV2": read_records,
    "PyFunc": call_python,
    "PrintV2": print_to_file,
    "WriteFile, in a branch": in_a_branch,
}


def create(harm, path):
    @tf.function(input_signature=[IMAGES], autograph=False)
    def serve(images):
        return {"output": tf.identity(HARM[harm](images, str(path)), "output")}

    return serve


def write_graph(path, serve, lowered):
    function = convert_variables_to_constants_v2(serve.get_concrete_function(), lowered)
    graph = function.graph.as_graph_def()
    node = graph.node.add(name="description", op="Const")
    node.attr["dtype"].type = tf.string.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(DESCRIPTION.to_json()))
    path.write_bytes(graph.SerializeToString())


def write_saved_model(path, serve, module=None):
    module = module or tf.Module()
    module.serve = serve
    tf.saved_model.save(module, str(path), {"serving_default": serve.get_concrete_function()})
    (path / frozen_saved_model.DESCRIPTION_FILE).write_text(DESCRIPTION.to_json())


@pytest.mark.parametrize(
    ("harm", "lowered"), [*((harm, True) for harm in HARM), ("WriteFile, in a branch", False)]
)
def test_frozen_graphs(harm, lowered, tmp_path):
    write_graph(tmp_path / "model.pb", create(harm, tmp_path / "harm"), lowered)
    with pytest.raises(ValueError, match=rf"model\.pb cannot be used.* it has the .* {harm[:8]}"):
        frozen.load(tmp_path / "model.pb")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("harm", ["PyFunc", "WriteFile, in a branch"])
def test_saved_models(harm, tmp_path):
    write_saved_model(tmp_path / "model", create(harm, tmp_path / "harm"))
    with pytest.raises(ValueError, match=rf"model cannot be used.* it has the .* {harm[:8]}"):
        frozen.load(tmp_path / "model")
    assert not (tmp_path / "harm").exists()


@tf.function(input_signature=[IMAGES], autograph=False)
def harmless(images):
    return {"output": tf.identity(images, "output")}


def test_what_runs_while_a_saved_model_is_loaded(tmp_path):
    (tmp_path / "words").write_text("a\nb\n")
    module = tf.Module()
    module.table = tf.lookup.StaticVocabularyTable(
        tf.lookup.TextFileInitializer(
            str(tmp_path / "words"),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        1,
    )
    write_saved_model(tmp_path / "model", harmless, module)
    with pytest.raises(ValueError, match="InitializeTableFromTextFileV2"):
        frozen.load(tmp_path / "model")


def test_functions_of_the_saver_are_allowed_to_the_saver_alone(tmp_path):
    module = tf.Module()
    module.weight = tf.Variable(1.0)
    write_saved_model(tmp_path / "model", harmless, module)
    assert np.all(frozen.load(tmp_path / "model").predict(np.ones((1, 2, 2, 3)))["output"] == 1)
    file = tmp_path / "model/saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    graph = model.meta_graphs[0].graph_def
    (saver,) = [f for f in graph.library.function if "traced_save" in f.signature.name]
    (serve,) = [f for f in graph.library.function if "signature_wrapper" in f.signature.name]
    call = serve.node_def.add(name="harm", op="StatefulPartitionedCall")
    call.attr["f"].func.name = saver.signature.name
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="MergeV2Checkpoints, SaveV2"):
        frozen.load(tmp_path / "model")


@pytest.mark.parametrize("other", ["saved_model.cpb", "TensorFlow 1"])
def test_models_that_tensorflow_loads_otherwise(other, tmp_path):
    write_saved_model(tmp_path / "model", harmless)
    if other == "TensorFlow 1":
        file = tmp_path / "model/saved_model.pb"
        model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
        model.meta_graphs[0].ClearField("object_graph_def")
        file.write_bytes(model.SerializeToString())
        other = "TensorFlow 2"
    else:
        (tmp_path / "model" / other).write_bytes(b"")
    with pytest.raises(ValueError, match=rf"model cannot be used.*{other}"):
        frozen.load(tmp_path / "model")


def test_constants_that_fill_memory(tmp_path):
    graph = tf.compat.v1.GraphDef()
    node = graph.node.add(name="huge", op="Const")
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(0.0))
    for length in (1 << 20, 1 << 20):
        node.attr["value"].tensor.tensor_shape.dim.add(size=length)
    (tmp_path / "model.pb").write_bytes(graph.SerializeToString())
    with pytest.raises(
        ValueError, match=r"model\.pb cannot be used.*its constants would fill 4398"
    ):
        frozen.load(tmp_path / "model.pb")


def write_onnx(path, location):
    """Writes a graph that adds the values of another file to its images."""
    onnx = pytest.importorskip("onnx")
    values = onnx.TensorProto(data_type=onnx.TensorProto.FLOAT, name="values", dims=[1, 2, 2, 3])
    values.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("length", "48")):
        values.external_data.add(key=key, value=value)
    images, output = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", "h", "w", 3])
        for name in ("images", "output")
    )
    add = onnx.helper.make_node("Add", ["images", "values"], ["output"])
    graph = onnx.helper.make_graph([add], "graph", [images], [output], [values])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    model.ir_version = 9
    model.metadata_props.add(key="description", value=DESCRIPTION.to_json())
    path.write_bytes(model.SerializeToString())


def test_onnx_files_read_nothing_outside_of_their_folder(tmp_path):
    path = tmp_path / "models/model.onnx"
    path.parent.mkdir()
    for file in (tmp_path / "secret", path.with_name("values")):
        file.write_bytes(np.ones(12, np.float32).tobytes())
    write_onnx(path, "values")
    assert np.all(frozen.load(path).predict(np.ones((1, 2, 2, 3)))["output"] == 2)
    for location in ("../secret", str(tmp_path / "secret")):
        write_onnx(path, location)
        with pytest.raises(ValueError, match=r"model\.onnx cannot be used.*[Ee]xternal"):
            frozen.load(path)
