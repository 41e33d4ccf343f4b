"""The training method: stages, dropout, evaluation, frozen files."""

import numpy as np
import pytest
import tensorflow as tf

from misc.export import frozen
from misc.training import weight_files
from score_predictors import losses
from score_predictors.models import mobilenetv2
from tests import flag_values

SETTINGS = {
    "input_patch_size": 32,
    "learning_rate": 0.01,
    "dropout": 0.0,
    "pretrained_weights": "none",
    "mobilenetv2_alpha": 0.35,
}
SEED = tf.constant([0, 1])


def create(training=False, **changes):
    flags = flag_values.of(mobilenetv2, **SETTINGS | changes)
    return mobilenetv2.create_model(flags, training)


@pytest.fixture(scope="module")
def batch():
    random = np.random.default_rng(0)
    return {
        "image": tf.constant(random.uniform(0, 255, (4, 32, 32, 3)), tf.float32),
        "scores": tf.constant(random.dirichlet(np.ones(10), 4), tf.float32),
    }


@pytest.fixture(scope="module")
def trained(batch):
    """A method with weights that differ from their initial ones, batch statistics included."""
    method = create(True, batch_norm_momentum=0.5)
    for _ in range(6):
        assert np.isfinite(float(method.train_step(batch, SEED)["loss"]))
    return method


@pytest.mark.slow
def test_last_only_leaves_the_backbone_and_its_statistics_alone(batch):
    method = create(True, mobilenetv2_train_last_only=True)
    assert [v.path for v in method.predictor.trainable_variables] == [
        "scores/kernel",
        "scores/bias",
    ]
    before = {v.path: v.numpy() for v in method.predictor.variables}
    features = method.backbone(batch["image"], training=False)
    expected = losses.earth_movers_distance(method.head(features), batch["scores"])
    assert float(method.train_step(batch, SEED)["loss"]) == pytest.approx(float(expected))
    changed = {v.path for v in method.predictor.variables if (v.numpy() != before[v.path]).any()}
    assert changed <= {"scores/kernel", "scores/bias"}
    assert changed
    graph = tf.function(lambda: method.train_step(batch, SEED)).get_concrete_function().graph
    assert not [op for op in graph.get_operations() if "Conv2DBackprop" in op.type]


def test_dropout_follows_the_seed_alone(batch):
    method = create(True, mobilenetv2_train_last_only=True, dropout=0.75, learning_rate=0.0)
    method.backbone = lambda images, training: tf.ones([len(images), 1280])
    drawn = []
    method.head = lambda features: drawn.append(features) or tf.nn.softmax(features[:, :10])
    method.update_weights = lambda *_: None
    for seed in (SEED, SEED, tf.constant([0, 2])):
        method.train_step(batch, seed)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0].numpy() != drawn[2].numpy()).any()
    assert set(np.unique(drawn[0])) == {0.0, 4.0}
    assert np.mean(drawn[0]) == pytest.approx(1, abs=0.1)


@pytest.mark.slow
def test_evaluation_measures_every_image_beside_a_constant(trained, batch):
    class Report:
        rows, pictures, tables, notes = [], {}, {}, {}

        def add_row(self, row):
            self.rows.append(row)

        def add_picture(self, name, image):
            self.pictures[name] = image

        def add_table(self, name, rows):
            self.tables[name] = rows

        def add_note(self, name, text):
            self.notes[name] = text

    batches = [
        {"image": batch["image"][:3], "scores": batch["scores"][:3], "group": ["a", "a", "b"]},
        {"image": batch["image"][3:], "scores": batch["scores"][3:], "group": [b"b"]},
    ]
    report = Report()
    results = trained.evaluate(batches, report)
    expected = losses.earth_movers_distance(
        trained.predict(batch["image"])["scores"], batch["scores"]
    )
    assert results["emd_r2"] == pytest.approx(float(expected), rel=1e-5)
    assert results["floor/emd_r2"] > 0
    assert trained.objective == "emd_r2"
    assert "constant histogram" in trained.summarize(results)
    assert [row["group"] for row in report.rows] == ["a", "a", "b", "b"]
    assert set(report.pictures) == {"scatter", "histograms", "mean_histogram"}
    assert all(picture.dtype == np.uint8 for picture in report.pictures.values())
    assert [row["images"] for row in report.tables["groups"]] == [2, 2]
    assert "evaluated images" in report.notes["floor"]

    class WithTraining(list):
        training_scores = np.eye(10)[0]

    other = trained.evaluate(WithTraining(batches), report)
    assert other["floor/emd_r2"] > results["floor/emd_r2"]
    assert "training images" in report.notes["floor"]


def test_data_with_other_bins_still_has_correlations(trained, batch):
    other = {"image": batch["image"], "scores": np.eye(5)[[0, 1, 2, 3]], "mean": np.arange(4.0)}
    results = trained.evaluate([other])
    assert np.isnan(results["emd_r2"])
    assert "rmse" in results


def freeze(method, base, formats):
    results = list(frozen.freeze(method, base, formats))
    assert [result.error for result in results] == [None] * len(formats)
    return [result.path for result in results]


@pytest.fixture(scope="module")
def frozen_files(trained, tmp_path_factory):
    return freeze(trained, tmp_path_factory.mktemp("frozen") / "ava", ["pb"])


@pytest.mark.slow
def test_frozen_files_take_any_size_and_tell_their_scale(trained, frozen_files):
    check_frozen_files(trained, frozen_files)


@pytest.mark.slow  # formats that test_frozen tries with less
def test_other_formats_take_any_size_and_tell_their_scale(trained, tmp_path):
    formats = ["saved_model", "onnx", "tflite"]
    check_frozen_files(trained, freeze(trained, tmp_path / "ava", formats))


def check_frozen_files(trained, paths):
    images = np.random.default_rng(1).uniform(-20, 280, (3, 64, 47, 3)).astype(np.float32)
    expected = trained.predict(images)
    for path in paths:
        model = frozen.load(path)
        actual = model.predict(images)
        np.testing.assert_allclose(actual["scores"], expected["scores"], atol=1e-5)
        np.testing.assert_allclose(actual["features"], expected["features"], atol=1e-4)
        assert model.metadata["score_values"] == [float(value) for value in range(1, 11)]
        assert model.metadata["patch_size"] == 32


@pytest.mark.slow
def test_a_client_of_tensorflow_1_feeds_normalised_images(trained, frozen_files):
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString(frozen_files[0].read_bytes())
    images = np.random.default_rng(1).uniform(0, 255, (2, 48, 40, 3)).astype(np.float32)
    with tf.Graph().as_default():
        placeholder = tf.compat.v1.placeholder(tf.float32, [None, None, None, 3])
        outputs = tf.compat.v1.import_graph_def(
            graph,
            input_map={"input_1:0": placeholder},
            return_elements=["output_scores:0", "output_features:0"],
        )
        with tf.compat.v1.Session() as session:
            scores, features = session.run(outputs, {placeholder: (images - 127.5) / 127.5})
    expected = trained.predict(images)
    np.testing.assert_allclose(scores, expected["scores"], atol=1e-5)
    np.testing.assert_allclose(features, expected["features"], atol=1e-4)


@pytest.mark.slow  # test_perceptual trains through one
def test_gradients_reach_the_images_through_frozen_files(trained, frozen_files):
    images = tf.constant(np.random.default_rng(1).uniform(0, 255, (1, 64, 64, 3)), tf.float32)

    def gradient(model):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = model.predict(images)
            target = tf.reduce_sum(outputs["features"] ** 2) + outputs["scores"][0, 0]
        return tape.gradient(target, images).numpy()

    expected = gradient(trained)
    assert expected.any()
    for path in frozen_files:
        actual = gradient(frozen.load(path))
        np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_pretrained_weights_from_a_file_of_the_whole_or_a_part(trained, tmp_path):
    weight_files.write(tmp_path / "other.h5", trained.networks)
    method = create(True, pretrained_weights=str(tmp_path / "other.h5"), average_decay=0.5)
    head = method.head.kernel.numpy()
    assert method.load_pretrained()
    for ours, theirs in zip(method.backbone.weights, trained.backbone.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(method.head.kernel, head)
    average = method.averages["predictor"].variables[0]
    np.testing.assert_array_equal(average, method.backbone.weights[0])
    assert not create(True).load_pretrained()
