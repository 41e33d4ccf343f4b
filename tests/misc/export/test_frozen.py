"""Frozen files: parity with the method, errors, and what they say of themselves."""

import contextlib
import shutil
import zipfile

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf

from misc.export import frozen
from misc.images import files
from misc.training.method import Method
from tests import forks

FORMATS = tuple(frozen.FORMATS)


class SmallUpscaler(Method):
    """One convolution for each scale: the mechanics of freezing do not depend on the network."""

    scales = (2, 4)
    export_names = {  # noqa: RUF012
        "images": "sr_input",
        "scale": "sr_input_scale",
        "outputs": {"output": "sr_output"},
    }

    def __init__(self):
        keras.utils.set_random_seed(0)
        networks = {}
        for scale in self.scales:
            inputs = keras.Input((None, None, 3))
            x = keras.layers.Conv2D(3 * scale**2, 3, padding="same")(inputs)
            networks[f"x{scale}"] = keras.Model(inputs, keras.ops.depth_to_space(x, scale))
        super().__init__(networks)
        self.restored_step = 7

    def train_step(self, batch, seed):
        raise AssertionError("not used here")

    def predict(self, images, scale=None):
        return {"output": self.networks[f"x{scale}"](images)}

    def evaluate(self, batches, report=None):
        raise AssertionError("not used here")

    def receptive_radius(self, scale=None):
        return 1


@pytest.fixture(scope="module")
def method():
    return SmallUpscaler()


@pytest.fixture(scope="module")
def folder(method, tmp_path_factory):
    folder = tmp_path_factory.mktemp("frozen")
    results = list(frozen.freeze(method, folder / "model", FORMATS))
    assert [result.error for result in results] == [None] * 6
    assert all(result.size > 1000 for result in results)
    assert all(result.difference < 1e-2 for result in results)
    return folder


def random_images(size, seed=1):
    return np.random.default_rng(seed).uniform(0, 255, (*size, 3)).astype(np.float32)


def test_files_are_called_after_scales(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "model.pb",
        "model_saved_model",
        "model_x2.onnx",
        "model_x2.tflite",
        "model_x4.onnx",
        "model_x4.tflite",
    ]


@pytest.mark.parametrize(
    "name", ["model.pb", "model_saved_model", "model_x2.onnx", "model_x2.tflite"]
)
@pytest.mark.parametrize("size", [(1, 5, 40), (3, 17, 8)])
def test_loaded_file_equals_the_method_at_any_size(method, folder, name, size):
    model = frozen.load(folder / name)
    images = random_images(size)
    expected = method.predict(images, 2)["output"]
    np.testing.assert_allclose(model.predict(images, 2)["output"], expected, atol=1e-2)
    assert model.receptive_radius(2) == method.receptive_radius(2)
    assert model.factor(2) == 2
    assert model.description.step == 7
    with pytest.raises(ValueError, match="Received: 8"):
        model.predict(images, 8)


@pytest.mark.parametrize("name", ["model_x4.onnx", "model_x4.tflite"])
def test_file_of_one_scale_needs_no_scale(method, folder, name):
    model = frozen.load(folder / name, threads=1)
    assert model.scales == (4,)
    images = random_images((1, 6, 7))
    expected = method.predict(images, 4)["output"]
    np.testing.assert_allclose(model(images)["output"], expected, atol=1e-2)


def read_graph(path):
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString(path.read_bytes())
    return graph


def run_client(graph, images, scale, fetched="sr_output"):
    """Runs a frozen graph the way that clients of TensorFlow 1 do."""
    with tf.Graph().as_default():
        image_input = tf.compat.v1.placeholder(tf.float32, [None, None, None, 3])
        scale_input = tf.compat.v1.placeholder(tf.float32, [])
        (output,) = tf.compat.v1.import_graph_def(
            graph,
            input_map={"sr_input:0": image_input, "sr_input_scale:0": scale_input},
            return_elements=[f"{fetched}:0"],
        )
        with tf.compat.v1.Session() as session:
            return session.run(output, {image_input: images, scale_input: scale})


@pytest.mark.parametrize("scale", [2, 4])
def test_client_of_tensorflow_1(method, folder, scale):
    graph = read_graph(folder / "model.pb")
    assert not graph.library.function
    assert {"Switch", "Merge"} <= {node.op for node in graph.node}
    images = random_images((2, 9, 14))
    expected = method.predict(images, scale)["output"]
    np.testing.assert_allclose(run_client(graph, images, scale), expected, atol=1e-2)


@pytest.mark.parametrize("scale", [3, 8, 2.5, -2, float("nan")])
def test_unsupported_scale_is_an_error_when_the_graph_runs(folder, scale):
    images = random_images((1, 4, 4))
    with pytest.raises(tf.errors.InvalidArgumentError, match="sr_input_scale must be one of"):
        run_client(read_graph(folder / "model.pb"), images, scale)
    signature = tf.saved_model.load(str(folder / "model_saved_model")).signatures["serving_default"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="sr_input_scale must be one of"):
        signature(sr_input=tf.constant(images), sr_input_scale=tf.constant(scale, tf.float32))


@pytest.mark.parametrize("scale", [2, 4])
def test_only_the_chosen_branch_is_computed(folder, scale):
    graph = read_graph(folder / "model.pb")
    channels = []
    convolutions = [node.name for node in graph.node if node.op == "Conv2D"]
    for name in convolutions:
        # A node that is not computed has no value to fetch.
        with contextlib.suppress(tf.errors.InvalidArgumentError):
            channels.append(run_client(graph, random_images((1, 8, 8)), scale, name).shape[-1])
    assert len(convolutions) == 2
    assert channels == [3 * scale**2]


def test_saved_model_has_the_same_names(method, folder):
    signature = tf.saved_model.load(str(folder / "model_saved_model")).signatures["serving_default"]
    images = random_images((1, 5, 6))
    outputs = signature(sr_input=tf.constant(images), sr_input_scale=tf.constant(4.0))
    np.testing.assert_allclose(outputs["sr_output"], method.predict(images, 4)["output"], atol=1e-2)


def test_what_a_stopped_call_wrote_is_kept(method, folder, tmp_path):
    shutil.copy(folder / "model.pb", tmp_path)
    shutil.copytree(folder / "model_saved_model", tmp_path / "model_saved_model")
    before = (tmp_path / "model.pb").stat().st_mtime_ns
    results = list(frozen.freeze(method, tmp_path / "model", ["pb", "saved_model", "onnx"]))
    assert [result.kept for result in results] == [True, True, False, False]
    assert all(result.error is None and result.size > 1000 for result in results)
    assert all(result.difference < 1e-2 for result in results)
    assert (tmp_path / "model.pb").stat().st_mtime_ns == before


def test_files_do_not_tell_when_they_were_written(folder):
    assert onnx.load(folder / "model_x2.onnx").graph.doc_string == ""
    with zipfile.ZipFile(folder / "model_x2.tflite") as archive:
        assert [info.date_time[0] for info in archive.infolist()] == [1980]


def test_other_files_are_an_error_without_overwrite(method, folder, tmp_path, monkeypatch):
    for name, content in {"a.pb": b"", "b.onnx": b"mine"}.items():
        (tmp_path / name.replace(".onnx", "_x2.onnx")).write_bytes(content)
        with pytest.raises(FileExistsError, match=rf"{name[0]}\S+ exists and is not.*--overwrite"):
            list(frozen.freeze(method, tmp_path / name[0], ["onnx", "pb"]))
    before = {path: path.read_bytes() for path in folder.glob("model*.*")}
    with monkeypatch.context() as patch:
        patch.setattr(method, "restored_step", 8)
        with pytest.raises(FileExistsError, match=r"model\.pb exists.*of step 7, not 8"):
            list(frozen.freeze(method, folder / "model", ["pb"]))
    with monkeypatch.context() as patch:
        patch.setattr(SmallUpscaler, "metadata", {"other": "model"})
        with pytest.raises(FileExistsError, match=r"model_x2\.onnx exists.*of another model"):
            list(frozen.freeze(method, folder / "model", ["onnx"]))
    # Of the same step, but other weights.
    original = method.predict
    monkeypatch.setattr(
        method, "predict", lambda images, scale: {"output": original(images, scale)["output"] + 1}
    )
    with pytest.raises(FileExistsError, match=r"model_x2\.tflite exists.*differs by 1"):
        list(frozen.freeze(method, folder / "model", ["tflite"]))
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_ends_the_call_and_leaves_what_was_whole(method, tmp_path, name):
    base = tmp_path / "model"
    assert [result.error for result in frozen.freeze(method, base, ["pb"])] == [None]
    with forks.full_disk(1000), pytest.raises(files.DiskFullError, match=r"model\S* cannot be"):
        list(frozen.freeze(method, base, [name], overwrite=True))
    assert [path.name for path in tmp_path.iterdir()] == ["model.pb"]
    assert frozen.load(tmp_path / "model.pb").description.step == 7


def test_overwrite_replaces_file_and_folder(method, tmp_path):
    for _ in range(2):
        results = list(
            frozen.freeze(method, tmp_path / "model", ["pb", "saved_model"], overwrite=True)
        )
        assert [result.error for result in results] == [None, None]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pb", "model_saved_model"]


def test_file_that_differs_is_not_left_behind(method, tmp_path, monkeypatch):
    original = method.predict
    (tmp_path / "model.pb").write_bytes(b"an older file")
    calls = []

    def changing(images, scale=None):
        # The traces that are written see other weights than the reference that comes after.
        calls.append(scale)
        offset = 0.5 if isinstance(images, tf.Tensor) else 0.0
        return {"output": original(images, scale)["output"] + offset}

    monkeypatch.setattr(method, "predict", changing)
    (result,) = frozen.freeze(method, tmp_path / "model", ["pb"], overwrite=True)
    assert "differs by 0.5" in result.error
    assert [path.name for path in tmp_path.iterdir()] == ["model.pb"]
    assert (tmp_path / "model.pb").read_bytes() == b"an older file"


def test_nothing_but_float32_is_frozen(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        method = SmallUpscaler()
    finally:
        keras.config.set_dtype_policy("float32")
    with pytest.raises(ValueError, match="bfloat16"):
        list(frozen.freeze(method, tmp_path / "model"))


def test_missing_package_says_how_to_install_it(method, tmp_path, monkeypatch):
    monkeypatch.setattr(frozen, "missing_packages", lambda name: ["onnxruntime"])
    with pytest.raises(ValueError, match=r"pip install degraded-vision\[deploy\]"):
        list(frozen.freeze(method, tmp_path / "model", ["onnx"]))
    (tmp_path / "model.onnx").touch()
    with pytest.raises(ValueError, match=r"pip install degraded-vision\[deploy\]"):
        frozen.load(tmp_path / "model.onnx")


def test_what_cannot_be_loaded_is_named(tmp_path):
    with pytest.raises(ValueError, match="missing"):
        frozen.load(tmp_path / "missing.pb")
    with pytest.raises(ValueError, match="no SavedModel"):
        frozen.load(tmp_path)
    for name in ("broken.pb", "broken.onnx", "broken.tflite", "broken.h5"):
        (tmp_path / name).write_bytes(b"this is no model")
        with pytest.raises(ValueError, match=name):
            frozen.load(tmp_path / name)


def test_unknown_format_is_an_error(method, tmp_path):
    with pytest.raises(ValueError, match="tensorrt"):
        list(frozen.freeze(method, tmp_path / "model", ["tensorrt"]))


class Scorer(Method):
    """Stands for methods without scale that have several outputs."""

    export_names = {  # noqa: RUF012
        "images": "input_1",
        "scale": None,
        "outputs": {"scores": "output_scores", "features": "output_features"},
    }

    def __init__(self, activation=None):
        inputs = keras.Input((None, None, 3))
        features = keras.layers.GlobalAveragePooling2D()(
            keras.layers.Conv2D(5, 3, padding="same", activation=activation)(inputs / 255)
        )
        scores = keras.layers.Dense(10, activation="softmax")(features)
        super().__init__({"scorer": keras.Model(inputs, [scores, features])})

    def train_step(self, batch, seed):
        raise AssertionError("not used here")

    def predict(self, images, scale=None):
        scores, features = self.networks["scorer"](images)
        return {"features": features, "scores": scores}

    def evaluate(self, batches, report=None):
        raise AssertionError("not used here")

    def receptive_radius(self, scale=None):
        return None


def test_transformers_exact_gelu_is_written(tmp_path):
    results = frozen.freeze(Scorer("gelu"), tmp_path / "scorer", ["onnx", "tflite"])
    assert [result.error for result in results] == [None] * 2


def assert_same_gradient(model, method, images):
    gradients = []
    for predict in (tf.function(model.predict), method.predict):
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_sum(predict(images)["features"] ** 2)
        gradients.append(tape.gradient(loss, images))
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-3, atol=1e-7)


@pytest.mark.slow
def test_method_without_scale_and_with_several_outputs(tmp_path):
    scorer = Scorer()
    results = list(frozen.freeze(scorer, tmp_path / "scorer", FORMATS))
    assert [result.error for result in results] == [None] * 4
    assert max(result.difference for result in results) < 1e-5
    images = random_images((2, 11, 9))
    expected = scorer.predict(images)
    for result in results:
        model = frozen.load(result.path)
        assert model.scales == ()
        assert model.receptive_radius() is None
        outputs = model.predict(images)
        for name in ("scores", "features"):
            np.testing.assert_allclose(outputs[name], expected[name], atol=1e-5)
    # Losses on the features of frozen predictors need gradients.
    for name in ("scorer.pb", "scorer_saved_model"):
        assert_same_gradient(frozen.load(tmp_path / name), scorer, tf.constant(images))
    names = {node.name for node in read_graph(tmp_path / "scorer.pb").node}
    assert {"input_1", "output_scores", "output_features"} <= names


def test_graph_without_description_is_taken_as_the_original_projects(folder, method, tmp_path):
    graph = read_graph(folder / "model.pb")
    kept = [node for node in graph.node if node.name != "description"]
    del graph.node[:]
    graph.node.extend(kept)
    (tmp_path / "original.pb").write_bytes(graph.SerializeToString())
    model = frozen.load(tmp_path / "original.pb")
    images = random_images((1, 6, 5))
    expected = method.predict(images, 4)["output"]
    np.testing.assert_allclose(model.predict(images, 4)["output"], expected, atol=1e-2)
    assert model.scales == (2, 4)
    for scale in model.scales:
        assert model.receptive_radius(scale) == method.receptive_radius(scale)
        assert model.factor(scale) == scale


def write_original_predictor(path, nodes=("input_1", "output_scores", "output_features")):
    """Writes a graph as the original project's freeze.py does, for images of 32x32 alone."""
    with tf.Graph().as_default() as graph:
        images = tf.compat.v1.placeholder(tf.float32, [None, 32, 32, 3], name=nodes[0])
        filters = tf.constant(np.random.default_rng(0).normal(size=(3, 3, 3, 4)), tf.float32)
        maps = tf.nn.relu(tf.nn.conv2d(images, filters, strides=2, padding="SAME"))
        features = tf.reduce_mean(maps, axis=[1, 2])
        tf.nn.softmax(features, name=nodes[1])
        tf.identity(features, name=nodes[2])
        path.write_bytes(graph.as_graph_def().SerializeToString())


def test_predictors_of_the_original_project_take_images_in_0_255_of_any_size(tmp_path):
    write_original_predictor(tmp_path / "ava.pb")
    model = frozen.load(tmp_path / "ava.pb")
    for size in ((2, 32, 32), (1, 50, 41)):
        images = tf.constant(random_images(size))
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = model.predict(images)
        assert set(outputs) == {"scores", "features"}
        np.testing.assert_allclose(np.sum(outputs["scores"], axis=1), 1, rtol=1e-5)
        assert np.any(tape.gradient(outputs["features"], images))
    filters = np.random.default_rng(0).normal(size=(3, 3, 3, 4)).astype(np.float32)
    normalised = (images - 127.5) / 127.5
    maps = tf.nn.relu(tf.nn.conv2d(normalised, filters, strides=2, padding="SAME"))
    expected = tf.reduce_mean(maps, axis=[1, 2])
    np.testing.assert_allclose(outputs["features"], expected, rtol=1e-5, atol=1e-5)


def test_graphs_with_other_nodes_are_explained(tmp_path):
    write_original_predictor(tmp_path / "other.pb", ("image", "scores", "features"))
    with pytest.raises(ValueError, match=r"other\.pb was not written by freeze\.py.*sr_input.*or "):
        frozen.load(tmp_path / "other.pb")
