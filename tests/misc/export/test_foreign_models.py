"""Networks in files of any origin: the same answers from all, and what is said of misfits."""

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
import tf2onnx
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from misc.export import foreign_formats, foreign_models, frozen
from misc.export.input_values import PRESETS, find_layout

SIDE, CLASSES = 8, 5
VALUES = PRESETS["torchvision"]
KINDS = ("network.keras", "network.onnx", "first.onnx", "network.tflite", "saved", "network.pb")


def build(channels_first=False, ends=("softmax",)):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((3, SIDE, SIDE) if channels_first else (SIDE, SIDE, 3), name="pixels")
    x = keras.layers.Permute((2, 3, 1))(inputs) if channels_first else inputs
    x = keras.layers.Conv2D(6, 3, activation="relu")(x)
    x = keras.layers.Flatten()(x)
    for activation in ends:
        x = keras.layers.Dense(CLASSES, activation=activation)(x)
    return keras.Model(inputs, x)


def write_onnx(network, path, batch=None):
    shape = [batch, *network.input_shape[1:]]
    signature = [tf.TensorSpec(shape, tf.float32, name="pixels")]
    function = tf.function(lambda pixels: network(pixels), input_signature=signature)
    model, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=18)
    onnx.save(model, str(path))


@pytest.fixture(scope="module")
def network():
    return build()


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreign")
    network.save(folder / "network.keras")
    write_onnx(network, folder / "network.onnx")
    write_onnx(build(channels_first=True), folder / "first.onnx")
    signature = [tf.TensorSpec([None, SIDE, SIDE, 3], tf.float32, name="pixels")]
    function = tf.function(lambda pixels: network(pixels), input_signature=signature)
    module = tf.Module()
    module.serve, module.weights = function, [v.value for v in network.variables]
    concrete = function.get_concrete_function()
    tf.saved_model.save(module, str(folder / "saved"), signatures=concrete)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved"))
    (folder / "network.tflite").write_bytes(converter.convert())
    graph = convert_variables_to_constants_v2(concrete).graph.as_graph_def()
    (folder / "network.pb").write_bytes(graph.SerializeToString())
    return folder


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (7, SIDE, SIDE, 3)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_one_network_in_every_format_answers_the_same(kind, network, folder, images):
    # torchvision's documentation, in float64.
    scaled = (images / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    expected = network.predict(scaled, verbose=0)
    model = foreign_models.load(folder / kind, VALUES)
    assert model.layout == ("NCHW" if kind == "first.onnx" else "NHWC")
    for count in (7, 2):  # the batch is free
        logits = model(images[:count])
        np.testing.assert_allclose(np.exp(logits), expected[:count], atol=2e-6)
    assert model.gives_probabilities
    assert model.size == (SIDE, SIDE)


def test_a_batch_that_is_fixed_is_filled_up(network, tmp_path, images):
    write_onnx(network, tmp_path / "three.onnx", batch=3)
    model = foreign_models.load(tmp_path / "three.onnx", PRESETS["0-1"])
    expected = network.predict(images / 255, verbose=0)
    np.testing.assert_allclose(np.exp(model(images)), expected, atol=2e-6)


@pytest.mark.slow
def test_a_quantised_network_is_fed_in_its_own_numbers(network, folder, tmp_path, images):
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved"))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([one[None] / 255] for one in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    (tmp_path / "eight.tflite").write_bytes(converter.convert())
    model = foreign_models.load(tmp_path / "eight.tflite", PRESETS["0-1"])
    expected = network.predict(images / 255, verbose=0)
    np.testing.assert_allclose(np.exp(model(images)), expected, atol=0.05)


def test_other_values_give_other_answers(network, folder, images):
    model = foreign_models.load(folder / "network.onnx", VALUES)
    other = model.with_values(PRESETS["caffe"])
    expected = network.predict(
        images[..., ::-1] - np.float32([103.939, 116.779, 123.68]), verbose=0
    )
    np.testing.assert_allclose(np.exp(other(images)), expected, atol=2e-6)
    assert np.abs(other(images) - model(images)).max() > 1e-3


def test_values_in_the_order_of_the_channels():
    pixel = np.array([[[[10.0, 20.0, 30.0]]]], np.float32)
    found = PRESETS["caffe"].apply(pixel)[0, 0, 0]
    np.testing.assert_allclose(found, [30 - 103.939, 20 - 116.779, 10 - 123.68], rtol=1e-6)
    np.testing.assert_allclose(PRESETS["-1-1"].apply(np.float32([0, 127.5, 255])), [-1, 0, 1])
    np.testing.assert_allclose(PRESETS["0-1"].apply(np.float32([0, 51, 255])), [0, 0.2, 1])
    np.testing.assert_array_equal(PRESETS["keras"].apply(pixel), pixel)


def test_a_layer_that_normalises_tells_the_range(tmp_path, images):
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Dense(CLASSES)(keras.layers.Flatten()(x))
    network = keras.Model(inputs, x)
    network.save(tmp_path / "own.keras")
    model = foreign_models.load(tmp_path / "own.keras")
    assert model.told
    np.testing.assert_allclose(model(images), network.predict(images, verbose=0), atol=1e-5)
    assert not model.gives_probabilities


def test_what_a_file_does_not_tell_is_asked_for(folder, images):
    with pytest.raises(ValueError, match=r"network.onnx does not say .* --input_preset"):
        foreign_models.load(folder / "network.onnx")
    model = foreign_models.load(folder / "network.onnx", VALUES)
    with pytest.raises(ValueError, match=r"images of 8x8 pixels. Received: 9x8"):
        model(np.zeros((1, 9, 8, 3), np.float32))


def test_layouts():
    assert find_layout((None, 3, None, None)) == "NCHW"
    assert find_layout((1, 224, 224, 3)) == "NHWC"
    assert find_layout((None, None, None, None)) is None
    assert find_layout((1, 3, 3, 3)) is None


def test_what_is_no_classifier_is_refused(tmp_path, folder):
    inputs = keras.Input((SIDE, SIDE, 3))
    keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs)).save(tmp_path / "filter.keras")
    model = foreign_models.load(tmp_path / "filter.keras", VALUES)
    with pytest.raises(ValueError, match="is no classifier"):
        model(np.zeros((2, SIDE, SIDE, 3), np.float32))
    (tmp_path / "damaged.onnx").write_bytes((folder / "network.onnx").read_bytes()[:100])
    with pytest.raises(ValueError, match=r"damaged.onnx cannot be used"):
        foreign_models.load(tmp_path / "damaged.onnx", VALUES)
    (tmp_path / "weights.txt").write_text("")
    with pytest.raises(ValueError, match=r"weights.txt is no network .*\.onnx"):
        foreign_models.load(tmp_path / "weights.txt")


def test_code_in_a_keras_file_is_not_run(tmp_path):
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Lambda(lambda x: x / 255)(inputs)
    keras.Model(inputs, keras.layers.Flatten()(x)).save(tmp_path / "code.keras")
    with pytest.raises(ValueError, match=r"code.keras cannot be used"):
        foreign_models.load(tmp_path / "code.keras", VALUES)


def test_a_graph_that_reads_files_is_refused(tmp_path):
    with tf.Graph().as_default() as graph:
        images = tf.compat.v1.placeholder(tf.float32, [None, SIDE, SIDE, 3])
        content = tf.strings.length(tf.io.read_file("/etc/passwd"))
        tf.reduce_sum(images, axis=(1, 2)) + tf.cast(content, tf.float32)
    (tmp_path / "bad.pb").write_bytes(graph.as_graph_def().SerializeToString())
    with pytest.raises(ValueError, match="ReadFile"):
        foreign_models.load(tmp_path / "bad.pb", VALUES)


def test_a_missing_package_is_named(folder, monkeypatch):
    monkeypatch.setattr(frozen, "missing_packages", lambda kind: ["ai_edge_litert"])
    with pytest.raises(ValueError, match=r"ai_edge_litert: pip install .*\[deploy\]"):
        foreign_models.load(folder / "network.tflite", VALUES)


def test_quantised_outputs():
    found = foreign_formats._dequantised(np.array([0, 128, 255], np.uint8), (1 / 128, 128))
    np.testing.assert_allclose(found, [-1, 0, 127 / 128])
