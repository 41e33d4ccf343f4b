"""SyMPIE: its training step, its frozen classifiers, and what an evaluation compares."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from classifiers import comparison, correction, losses, networks
from classifiers.dataloaders import digits, vizwiz
from classifiers.evaluation import Evaluation
from classifiers.models import _frozen, classifier, sympie
from classifiers.models.classifier import Classifier
from classifiers.models.sympie import ESTIMATOR, Sympie
from classifiers.networks import clip, layers
from degradations.colour import Darken
from eusr import predict_files as files
from misc.export import frozen
from misc.images import image_files
from tests import commands, flag_values
from tests.classifiers.test_models import Report, weights_of

# tf.data compiles what it runs in any case, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config")
RANDOM = np.random.default_rng(0)
SEED = tf.constant([0, 3])
IMAGES = RANDOM.integers(0, 256, (6, 16, 16, 3)).astype(np.float32)
LABELS = np.array([0, 1, 0, 1, 0, 1], np.int32)
BATCH = {"image": tf.constant(IMAGES), "label": tf.constant(LABELS)}


@pytest.fixture(autouse=True)
def _small_estimators(monkeypatch):
    monkeypatch.setattr(correction, "FEATURES", (4, 4, 6, 8))


@pytest.fixture
def uncompiled():
    """Functions that run once are not worth the time that compiling takes."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def brightness_classifier(slope=4.0, name="bright"):
    """A network that tells bright images (class 1) from dark ones, with its statistics."""
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = layers.batch_norm(x, "norm")
    x = keras.layers.GlobalAveragePooling2D()(x)
    layer = keras.layers.Dense(2)
    outputs = layer(x)
    layer.set_weights([slope * np.array([[-1, 1]] * 3), 1.5 * slope * np.array([1, -1])])
    network = keras.Model(inputs, outputs, name=name)
    network.trainable = False
    return network


def create(classifiers=None, optimizer=None, synchronized=False, **kwargs):
    classifiers = classifiers or {"bright": brightness_classifier()}
    return Sympie(
        correction.build_estimator(synchronized),
        lambda: {name: Classifier(network) for name, network in classifiers.items()},
        Evaluation(classes=2),
        Darken(3),
        optimizers={ESTIMATOR: optimizer or keras.optimizers.SGD(1.0)},
        **{"average_decay": 0.9, **kwargs},
    )


def test_a_step_adds_the_clipped_gradients_of_both_losses():
    method = create(second_weight=0.5, clip_norm=0.01)
    average = method.averages[ESTIMATOR]
    for variable in average.trainable_variables:
        variable.assign(variable + 0.01)
    distorted = method.distortion(IMAGES, seed=SEED)
    again = correction.correct(distorted, average(distorted, training=False))
    variables = method.estimator.trainable_variables
    before = [variable.numpy() for variable in variables]
    expected = [0 * value for value in before]
    classifier = method.first.network
    total = 0.0
    twin = keras.models.clone_model(method.estimator)
    twin.set_weights(method.estimator.get_weights())
    for images, weight in ((distorted, 1.0), (again, 0.5)):
        with tf.GradientTape() as tape:
            corrected = correction.correct(images, twin(images, training=True), clamp=False)
            loss = weight * losses.cross_entropy(LABELS, classifier(corrected, training=False))
        total += float(loss)
        gradients = tape.gradient(loss, [v.value for v in twin.trainable_variables])
        norms = [np.linalg.norm(gradient) for gradient in gradients]
        assert max(norms) > 0.01
        expected = [
            total - gradient * min(1, 0.01 / max(norm, 1e-12))
            for total, gradient, norm in zip(expected, gradients, norms, strict=True)
        ]
    figures = method.train_step(BATCH, SEED)
    assert float(figures["loss"]) == pytest.approx(total, rel=1e-4)
    for variable, start, change in zip(variables, before, expected, strict=True):
        np.testing.assert_allclose(variable.numpy() - start, change, atol=2e-5)


def test_classifiers_take_turns_and_stay_bit_identical():
    classifiers = {
        name: brightness_classifier(slope, name) for name, slope in (("a", 1.0), ("b", 9.0))
    }
    before = {name: weights_of(network) for name, network in classifiers.items()}
    method = create(classifiers, keras.optimizers.SGD(1e-3), second_weight=0.0)
    for turn in range(3):
        distorted = method.distortion(IMAGES, seed=SEED)
        corrected = correction.correct(
            distorted, method.estimator(distorted, training=True), clamp=False
        )
        network = classifiers["ab"[turn % 2]]
        expected = losses.cross_entropy(LABELS, network(corrected, training=False))
        found = method.train_step(BATCH, SEED)["loss"]
        assert float(found) == pytest.approx(float(expected), rel=1e-3)
    for name, network in classifiers.items():
        for one, other in zip(weights_of(network), before[name], strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_average_follows_weights_and_statistics():
    method = create()
    step = method.train_step
    start = [variable.numpy() for variable in method.averages[ESTIMATOR].variables]
    step(BATCH, SEED)
    method.update_averages()
    names = set()
    for variable, average, before in zip(
        method.estimator.variables, method.averages[ESTIMATOR].variables, start, strict=True
    ):
        expected = 0.9 * before + 0.1 * variable.numpy()
        np.testing.assert_allclose(average.numpy(), expected, atol=1e-6)
        names |= {variable.name} if np.abs(expected - before).max() > 1e-6 else set()
    assert {"kernel", "moving_mean", "moving_variance"} <= names


@pytest.mark.slow
def test_it_learns_to_undo_a_distortion():
    shades = np.where(LABELS == 1, 160, 96).astype(np.float32)
    images = shades[:, None, None, None] + RANDOM.integers(-9, 9, (6, 16, 16, 3))
    batch = {"image": tf.constant(images, tf.float32), "label": tf.constant(LABELS)}
    method = create(optimizer=keras.optimizers.Adam(0.01))
    step = tf.function(method.train_step)
    first = float(step(batch, SEED)["accuracy"])
    for _ in range(40):
        figures = step(batch, SEED)
    assert first == 50  # darkened, all images are of the dark class
    assert float(figures["accuracy"]) == 100


@pytest.mark.usefixtures("uncompiled")
def test_summaries_have_accuracies_and_the_predicted_parameters():
    shades = np.where(LABELS == 1, 160, 96).astype(np.float32)
    images = np.broadcast_to(shades[:, None, None, None], IMAGES.shape)
    method = create()
    bias = correction.identity().numpy()
    # Darken(3) divides by 4; this undoes it, on the scale of normalised values.
    bias[correction.MATRIX] *= 4
    bias[correction.SHIFT] = 0.75 * np.array(correction.MEAN) / np.array(correction.DEVIATION)
    method.estimator.get_layer("fc").set_weights([np.zeros((8, 37)), bias])
    found = method.figures({"image": tf.constant(images), "label": tf.constant(LABELS)})
    names = ("accuracy/clean", "accuracy/corrupted", "accuracy/corrected")
    assert [float(found[name]) for name in names] == [100, 50, 100]
    assert [float(found[f"difference/{name}"]) for name in ("corrupted", "clean")] == [50, 0]
    parameters = [found[f"parameters/{name}"] for name in ("matrix", "shift", "kernel")]
    np.testing.assert_allclose(np.concatenate(parameters, axis=1), np.tile(bias, [6, 1]))


class Passes:
    """Batches that count how often they are read."""

    class_names = ("dark", "bright")

    def __init__(self, batches):
        self.batches, self.count = batches, 0

    def __iter__(self):
        self.count += 1
        yield from self.batches


@pytest.mark.usefixtures("uncompiled")
def test_an_evaluation_compares_in_one_pass():
    classifiers = {name: brightness_classifier(name=name) for name in "ab"}
    method = create(classifiers)
    # A correction that makes all images bright.
    bias = correction.identity().numpy()
    bias[correction.SHIFT] = 9
    method.estimator.get_layer("fc").bias.assign(bias)
    stored = [
        {"image": IMAGES, "label": LABELS, "corruption": name, "severity": level}
        for name, level in (("fog", 1), ("fog", 2), ("snow", 1), ("colwarp", 1), ("clean", None))
    ]
    batches, report = Passes(stored), Report()
    results = method.evaluate(batches, report)
    assert batches.count == 1
    assert results["accuracy/corrected"] == 50
    before = np.argmax(classifiers["a"](IMAGES), axis=1)
    assert results["accuracy/clean"] == pytest.approx(100 * np.mean(before == LABELS))
    assert results["difference/clean"] == pytest.approx(50 - results["accuracy/clean"])
    assert results["a/difference/corrupted"] == results["difference/corrupted"]
    table = report.tables["grid"]
    places = [(row["classifier"], row["module"]) for row in table]
    assert list(dict.fromkeys(places)) == [
        (name, module) for name in "ab" for module in ("none", "sympie")
    ]
    fog = next(row for row in table if row["degradation"] == "fog")
    assert fog["1"] == fog["2"] == fog["mean"]
    assert len(report.rows) == 10
    assert set(report.pictures) == {
        *("difference/a_sympie", "difference/b_sympie", "corrected"),
    }
    assert all(picture.std() > 5 for picture in report.pictures.values())
    gain = 50 - fog["mean"]
    assert f"{results['accuracy/corrupted']:.1f}" in report.page
    assert f">{gain:+.1f}</td>" in report.page
    assert "severity, in no mean" in report.page  # colwarp
    for text in (
        "<h2>a</h2>",
        "<h2>b</h2>",
        'alt="fog 2, corrected"',
        'src="data:image/png;base64',
    ):
        assert text in report.page


@pytest.mark.usefixtures("uncompiled")
def test_statistics_estimated_anew_are_measured_beside():
    method = create(prior=0)
    results = method.evaluate([BATCH], report := Report())
    before = [value.numpy() for value in method.reestimated["bright"].network.weights]
    shown = list(dict.fromkeys(row["module"] for row in report.tables["grid"]))
    assert shown == ["none", "sympie", "batch_norm", "both"]
    copied = method.reestimated["bright"].network
    right = np.argmax(copied(IMAGES, training=False), axis=1) == LABELS
    assert results["accuracy/batch_norm"] == pytest.approx(100 * np.mean(right))
    for one, other in zip(before, method.first.network.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    flags = values(reestimated_prior=16, evaluation_batch_size=50)
    shuffled, plain = (
        np.concatenate([b["label"] for b in digits.create_data(f).evaluation_batches("test")])
        for f in (flags, values(evaluation_batch_size=50))
    )
    assert (shuffled != plain).any()
    np.testing.assert_array_equal(np.sort(shuffled), np.sort(plain))


@pytest.mark.usefixtures("uncompiled")
def test_vizwiz_gets_the_likeliest_of_its_categories(tmp_path):
    for number, shade in enumerate((40, 200, 90)):
        pixels = np.full((20, 24, 3), shade, np.uint8)
        image_files.write_image(tmp_path / f"images/VizWiz_{number}.png", pixels)
    annotations = {
        "images": [f"VizWiz_{number}.png" for number in range(3)],
        "categories": [{"id": 2, "wordnet_id": "n02"}, {"id": 0, "wordnet_id": "n00"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(annotations))
    flags = flag_values.of(sympie, vizwiz) | {
        **{"data_path": str(tmp_path / "images"), "vizwiz_annotations": str(tmp_path / "a.json")},
        **{"data_resize": 16, "data_crop": 16, "evaluation_batch_size": 2},
    }
    data = vizwiz.create_data(flags)
    inputs = keras.Input((None, None, 3))
    dense = keras.layers.Dense(3)
    network = keras.Model(inputs, dense(keras.layers.GlobalAveragePooling2D()(inputs)))
    # Class 1, which always wins, is no category; dark images are class 0, bright ones class 2.
    dense.set_weights([np.array([[0, 0, 1.0]] * 3), np.array([300, 1000, 0])])
    results = create({"shade": network}).evaluate(
        data.evaluation_batches("test"), report := Report()
    )
    assert [(row["name"], row["none"]) for row in report.tables["predictions"]] == [
        *(("VizWiz_0.png", 0), ("VizWiz_1.png", 2), ("VizWiz_2.png", 0)),
    ]
    assert results == {"changed": pytest.approx(0)}
    for wrong in ('{"images": []}', "{", '{"images": ["a"], "categories": [{}]}'):
        (tmp_path / "a.json").write_text(wrong)
        with pytest.raises(ValueError, match=r"--vizwiz_annotations=.*a\.json should hold"):
            vizwiz.create_data(flags)


def test_means_leave_clean_images_and_colwarp_out():
    grids = {}
    for module, right in ((comparison.NONE, (1, 0, 0)), (comparison.SYMPIE, (1, 1, 0))):
        grid = grids[module] = comparison_grid()
        for name, level, answer in (("fog", 1, right[0]), ("fog", 2, right[1]), ("snow", 1, 0)):
            grid.update(name, level, [answer], [[0.0, 1.0]])
        for name, level in (("clean", None), ("colwarp", 1)):
            grid.update(name, level, [1], [[0.0, 1.0]])
    results = comparison.summarize({"a": grids})
    assert results["accuracy/corrupted"] == 25
    assert results["accuracy/corrected"] == 50
    assert results["difference/corrupted"] == 25
    assert results["accuracy/clean_corrected"] == 100
    assert results["difference/clean"] == -50


def comparison_grid():
    return Evaluation(classes=2).count(None, [])[None]


def values(**given):
    return flag_values.of(sympie, digits, **{**sympie.TINY, **given})


def test_classifiers_are_named_as_the_authors_name_them(monkeypatch):
    made = []

    def create(flags, weights, flag=None):
        made.append((flags.network, weights))
        return brightness_classifier(name=flags.network)

    monkeypatch.setattr(classifier, "create_trained_network", create)
    monkeypatch.setattr(classifier, "create_network", create)
    texts = ["rn18:a.pth", "runs/clean", "clip:b.pt+c.json", "rn50_2:d.pth", "rn18:e.pth"]
    found = _frozen.create_classifiers(values(sympie_classifiers=texts, network="vgg16"))
    assert list(found) == ["rn18", "vgg16", "clip", "rn50_2", "rn18:e.pth"]
    assert made == [
        ("resnet18", "a.pth"),
        ("vgg16", "runs/clean"),
        ("clip_rn50", ["b.pt", "c.json"]),
        ("resnet50", "d.pth"),
        ("resnet18", "e.pth"),
    ]
    assert not any(one.network.trainable_variables for one in found.values())
    assert set(_frozen.CLASSIFIERS.values()) <= set(networks.NAMES)


def test_clip_takes_text_embeddings_from_json(tmp_path):
    embeddings = {f"class {n}": RANDOM.normal(size=3).round(3).tolist() for n in range(2)}
    (tmp_path / "a.json").write_text(json.dumps(embeddings))
    found = clip.read_embeddings(tmp_path / "a.json")["head.weight"]
    np.testing.assert_allclose(found, list(embeddings.values()), rtol=1e-6)
    for wrong in ("[1, 2]", "[[1], [2, 3]]", "no JSON", "{}"):
        (tmp_path / "b.json").write_text(wrong)
        with pytest.raises(ValueError, match=r"b\.json should hold .*text embedding"):
            clip.read_embeddings(tmp_path / "b.json")
    with pytest.raises(ValueError, match=r"a\.json.* does not fit cifar_resnet20:\n  missing"):
        networks.build("cifar_resnet20", 2, weights=[tmp_path / "a.json"] * 2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sympie_classifiers": None}, "--sympie_classifiers is missing"),
        ({"sympie_classifiers": ["rn18:gone.pth"]}, "--sympie_classifiers=gone.pth is no checkp"),
        (
            {"sympie_classifiers": ["cifar_resnet20:random", "rn18:random"], "num_classes": None},
            "num_classes must be at least 1",
        ),
        ({"sympie_distortions": ["fog@9"]}, "--sympie_distortions: .*fog"),
        ({"sympie_distortions": ["webp:20"]}, "--sympie_distortions=webp:20 runs on the host"),
        ({"average_decay": 0.0}, "--average_decay=0 leaves no averaged copy"),
    ],
)
def test_what_cannot_be_trained_is_said(given, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        sympie.create_model(values(**given), training=True)


def test_a_module_alone_needs_no_classifiers():
    method = sympie.create_model(values(sympie_classifiers=None))
    assert method.predict(IMAGES)["output"].shape == IMAGES.shape
    with pytest.raises(ValueError, match="--sympie_classifiers is missing"):
        method.evaluate([BATCH])


def test_what_it_is_trained_on_by_default():
    flags = flag_values.of(sympie, digits)
    assert len(sympie.create_distortion(flags).layers) == 23
    assert (flags.average_decay, flags.schedule) == (0.9, "cosine")


def test_a_share_of_training_images_stays_undamaged():
    method = sympie.create_model(values(sympie_undamaged=0.75, sympie_distortions=["darken@5"]))
    images = np.tile(IMAGES, (50, 1, 1, 1))
    training = np.array(method.distortion(images, seed=SEED))
    kept = (training == images).all(axis=(1, 2, 3))
    assert 0.65 < kept.mean() < 0.85
    np.testing.assert_array_equal(training[~kept], Darken(5)(images, seed=SEED)[~kept])
    (tested,) = method.evaluation.tested
    tested = np.array(tested.layer(images, seed=SEED))
    assert not (tested == images).all(axis=(1, 2, 3)).any()


@pytest.mark.usefixtures("uncompiled")
def test_the_module_corrects_files_of_photos_whole(tmp_path):
    method = create()
    method.estimator.get_layer("fc").bias.assign_add(RANDOM.normal(0, 0.1, 37))
    pixels = RANDOM.integers(0, 256, (50, 61, 3)).astype(np.uint8)
    image_files.write_image(tmp_path / "a.png", pixels)
    files.FileUpscaler(method)(tmp_path / "a.png", tmp_path / "b.png")
    expected = method.correct(pixels[None].astype(np.float32))[0]
    written = image_files.read_rgb(tmp_path / "b.png")
    assert np.abs(written - np.asarray(expected)).max() < 0.51
    assert np.abs(written - pixels.astype(np.float32)).mean() > 5
    with pytest.raises(ValueError, match="needs whole images"):
        files.FileUpscaler(method, tile=64)


@pytest.mark.parametrize(
    ("output", "formats"),
    [
        pytest.param("logits", ["pb"], marks=pytest.mark.slow),
        pytest.param("image", ["saved_model", "onnx", "tflite"], marks=pytest.mark.slow),
        pytest.param("logits", ["saved_model", "onnx", "tflite"], marks=pytest.mark.slow),
    ],
)
def test_files_hold_the_module_alone_or_with_its_classifier(output, formats, tmp_path):
    method = create(output=output)
    method.estimator.get_layer("fc").bias.assign_add(RANDOM.normal(0, 0.1, 37))
    corrected = method.correct(IMAGES)
    expected = {"output": corrected, "logits": method.first.classify(corrected)}
    for result in frozen.freeze(method, tmp_path / "model", formats):
        assert result.error is None
        for name, value in frozen.load(result.path).predict(IMAGES).items():
            np.testing.assert_allclose(value, expected[name], atol=1e-2)


# Two replicas with a half of the batch each take the steps that one device takes with the whole.
REPLICAS = """
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from classifiers import correction
from misc.training import distribution
from tests.classifiers import test_sympie
correction.FEATURES = (4, 4, 6, 8)
found = []
for strategy in (distribution.create_strategy("none"),
                 distribution.create_strategy("mirrored", ["CPU:0", "CPU:1"])):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        method = test_sympie.create(
            optimizer=keras.optimizers.SGD(0.1),
            synchronized=strategy.num_replicas_in_sync > 1,
        )
        method.classifiers
    batches = tf.data.Dataset.from_tensors(test_sympie.BATCH).repeat(2)

    @tf.function
    def step(batch):
        scalars = strategy.run(method.train_step, (batch, test_sympie.SEED))
        method.update_averages()
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, scalars["loss"], axis=None)

    losses = [float(step(b)) for b in distribution.distribute(strategy, lambda *_: batches)]
    averages = [v.numpy().ravel() for v in method.averages["estimator"].variables]
    found.append((losses, np.concatenate(averages)))
    print(strategy.num_replicas_in_sync, "replicas", losses)
np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-3)
np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-3)
"""


@pytest.mark.slow  # another process
def test_two_replicas_share_their_statistics():
    assert "2 replicas" in commands.run("-c", REPLICAS)


@pytest.mark.slow  # the steps of another policy have to be traced
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_steps_of_reduced_precision_stay_near(policy):
    expected = create().train_step(BATCH, SEED)
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(0)
        method = create()
        before = weights_of(method.estimator)
        figures = method.train_step(BATCH, SEED)
    finally:
        keras.config.set_dtype_policy("float32")
    assert float(figures["loss"]) == pytest.approx(float(expected["loss"]), rel=0.1)
    after = weights_of(method.estimator)
    assert any((one != other).any() for one, other in zip(before, after, strict=True))
    assert method.predict(IMAGES)["output"].dtype == tf.float32
