import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from classifiers import levels, losses, networks, training_copies
from classifiers.dataloaders import digits
from classifiers.evaluation import Evaluation
from classifiers.labelled_images import LabelledData, LabelledImages
from classifiers.models import classifier, ensemble, fusion_distill
from classifiers.models.classifier import Classifier
from classifiers.models.ensemble import Ensemble
from classifiers.models.fusion_distill import FusionDistill, last_stage
from classifiers.training_copies import TrainingCopies
from misc.training import optimizers, seeds
from tests import flag_values

CLASSES = 5
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (6, 8, 8, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 4, 0], np.int32)
BATCH = {"image": tf.constant(IMAGES), "label": tf.constant(LABELS)}
SEED = tf.constant([0, 3])


def tiny_network(scale=1.0):
    """A network of two layers that has what those of `networks.build` have."""
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(scale / 255)(inputs)
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv")(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name="norm")(x)
    stage = keras.layers.ReLU()(x)
    pooled = keras.layers.GlobalAveragePooling2D()(stage)
    logits = keras.layers.Dense(CLASSES, name="head")(pooled)
    model = keras.Model(inputs, logits)
    model.stages = {"stage1": stage, "pooled": pooled, "logits": logits}
    return model


def copies(texts, **kwargs):
    layers = tuple(levels.training_layers(texts, 32))
    return TrainingCopies(layers, **({"flip": False, "padding": 0} | kwargs))


def sgd(rate=0.05):
    return {"classifier": optimizers.SGD(rate, momentum=0.9)}


def weights_of(network):
    return [variable.numpy() for variable in network.variables]


def test_a_classifier_learns_its_batch():
    method = Classifier(tiny_network(), copies=copies([]), optimizers=sgd(0.5))
    step = tf.function(method.train_step)
    course = [float(step(BATCH, SEED)["loss"]) for _ in range(60)]
    assert course[-1] < 0.5 * course[0]


def test_host_and_device_copies_give_the_same_step():
    made = copies(["noise", "saltpepper"], flip=True, padding=2, cutout=3)
    keras.utils.set_random_seed(1)
    device = Classifier(tiny_network(), copies=made, optimizers=sgd())
    keras.utils.set_random_seed(1)
    host = Classifier(tiny_network(), copies=made, optimizers=sgd())
    device.train_step(BATCH, SEED)
    host.train_step(made(IMAGES, LABELS, SEED), tf.constant([9, 9]))
    for one, other in zip(weights_of(device.network), weights_of(host.network), strict=True):
        np.testing.assert_array_equal(one, other)
    assert set(device.pictures(BATCH)) == {"image", "degraded"}


@pytest.mark.slow
def test_host_batches_of_a_dataloader_equal_those_made_in_the_training_loop():
    values = {"batch_size": 4, "augment_cutout": 8, "degradations": ["noise", "blur", "webp:20"]}
    host, device = (
        flag_values.of(classifier, digits, **values, degrade_on=place)
        for place in ("host", "device")
    )
    made = training_copies.create(host)
    with pytest.raises(ValueError, match="--degradations=webp:20 runs on the host"):
        training_copies.create(device)
    first = 5
    pairs = zip(
        digits.create_data(host).training_batches(7, first).take(2),
        digits.create_data(device).training_batches(7, first).take(2),
        strict=True,
    )
    for step, (ours, raw) in enumerate(pairs, first + 1):
        expected = made(raw["image"], raw["label"], seeds.of_step(7, step))
        for name, value in expected.items():
            np.testing.assert_array_equal(ours[name], value)


@pytest.mark.parametrize("teacher_input", ["clean", "degraded"])
def test_distillation_follows_its_formula_and_leaves_teachers_alone(teacher_input):
    made = copies(["noise:40", "saltpepper:0.2"])
    teachers = [tiny_network(), tiny_network(2.0)]
    method = FusionDistill(
        tiny_network(),
        copies=made,
        optimizers=sgd(),
        teachers=teachers,
        teacher_input=teacher_input,
        cross_entropy_weight=0.1,
    )
    assert method.stage == last_stage(method.network) == "stage1"
    before = [weights_of(teacher) for teacher in teachers]
    batch = made(IMAGES, LABELS, SEED)
    seen = batch["image" if teacher_input == "clean" else "degraded"]
    student = networks.with_stages(method.network)(batch["degraded"], training=True)
    expected = 0.1 * losses.cross_entropy(batch["label"], student["logits"])
    for teacher, images, features in zip(
        teachers, tf.split(seen, 2), tf.split(student["stage1"], 2), strict=True
    ):
        target = networks.with_stages(teacher)(images, training=False)["stage1"]
        expected += losses.cosine_embedding(features, target)
    figures = tf.function(method.train_step)(BATCH, SEED)
    assert float(figures["loss"]) == pytest.approx(float(expected), rel=1e-5)
    for teacher, kept in zip(teachers, before, strict=True):
        for one, other in zip(weights_of(teacher), kept, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_student_that_is_its_teacher_has_no_distance():
    network = tiny_network()
    method = FusionDistill(network, copies=copies(["noise:0"]), optimizers=sgd(), teachers=[None])
    network.layers[3].momentum = 0.0
    method.train_step(BATCH, SEED)  # the moving statistics are now those of the batch
    taught = method._teach({"image": BATCH["image"]})[0]
    features = method._student(BATCH["image"], training=False)["stage1"]
    assert float(losses.cosine_embedding(features, taught)) == pytest.approx(0, abs=1e-6)


def labelled_data():
    """The six images, all of them for training."""
    images = LabelledImages(IMAGES.astype(np.uint8), LABELS, [*"abcde"])
    return LabelledData(
        images_per_step=6,
        read=lambda split: images,
        evaluation_batch_size=4,
        validation="held_out",
        held_out=0.0,
    )


def test_cached_teachers_say_the_same_and_are_not_asked(tmp_path):
    made = copies(["noise:40", "saltpepper:0.2"])
    assert made.draws_nothing
    teachers = [tiny_network(), tiny_network(2.0)]
    asked = FusionDistill(tiny_network(), copies=made, optimizers=sgd(), teachers=teachers)
    cached = FusionDistill(
        tiny_network(), copies=made, optimizers=sgd(), teachers=teachers, cache_path=tmp_path
    )
    cached.prepare(labelled_data())
    teach = tf.function(cached._teach)
    images, index = np.tile(IMAGES, [2, 1, 1, 1]), np.tile(np.arange(6), 2)
    expected = asked._teach({"image": images})
    # Whatever the images are now.
    taught = teach({"image": tf.constant(0 * images), "index": tf.constant(index)})
    for one, other in zip(taught, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    figures = tf.function(cached.train_step)(BATCH | {"index": tf.range(6)}, SEED)
    assert np.isfinite(float(figures["loss"]))
    augmented = FusionDistill(
        tiny_network(),
        copies=copies(["noise:40"], flip=True),
        teachers=teachers[:1],
        cache_path=tmp_path,
    )
    augmented.prepare(labelled_data())
    assert not augmented._outputs


def test_the_number_of_teachers_must_fit():
    values = {"degradations": ["noise", "blur", "jpeg"], "teacher_weights": ["self", "self"]}
    with pytest.raises(ValueError, match="one for each of the 3"):
        fusion_distill.create_teachers(flag_values.of(fusion_distill, digits, **values))


def test_reestimated_statistics_are_means_over_batches():
    method = Classifier(tiny_network(), copies=copies([]))
    normalisation = method.network.layers[3]
    trainable = [v.numpy() for v in method.network.trainable_variables]
    batches = [
        {"image": tf.constant(IMAGES[:3]), "label": BATCH["label"][:3]},
        {"image": tf.constant(IMAGES[3:]), "label": BATCH["label"][3:]},
    ]
    before = keras.Model(method.network.inputs, method.network.layers[2].output)
    values = [np.asarray(before(batch["image"])) for batch in batches]
    method.reestimate_statistics(batches, 2, 3)
    mean = np.mean([v.mean((0, 1, 2)) for v in values], axis=0)
    variance = np.mean([v.var((0, 1, 2)) for v in values], axis=0)
    np.testing.assert_allclose(normalisation.moving_mean, mean, atol=1e-5)
    np.testing.assert_allclose(normalisation.moving_variance, variance, atol=1e-5)
    assert normalisation.momentum == 0.9
    for variable, kept in zip(method.network.trainable_variables, trainable, strict=True):
        np.testing.assert_array_equal(variable.numpy(), kept)


def fixed_network(logits):
    inputs = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    layer = keras.layers.Dense(len(logits))
    outputs = layer(pooled)
    layer.set_weights([np.zeros((3, len(logits))), np.array(logits)])
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize(
    ("logits", "winner"),
    [
        # With many votes, and sums so far apart that their shares are 0 in float32.
        (([900, 0, 0],) * 8 + ([0, 1, 0],) * 9, 1),
        (([9, 0, 0], [0, 1, 0], [0, 1, 0]), 1),  # the majority, whatever the sums
        (([3, 0, 0], [0, 4, 0]), 1),  # a tie: the largest sum
        (([3, 0, 2.5], [0, 3, 2.5]), 2),  # a tie: the largest sum of all classes
    ],
)
def test_an_ensemble_votes(logits, winner):
    voters = Ensemble([fixed_network(one) for one in logits])
    values = np.asarray(voters.classify(tf.constant(IMAGES)))
    np.testing.assert_array_equal(np.argmax(values, axis=1), [winner] * 6)
    assert len(np.unique(values[0])) == 3  # all ranks are decided, for the top five
    with pytest.raises(ValueError, match="cannot be trained"):
        voters.train_step(BATCH, SEED)


def test_an_ensemble_knows_the_classes_of_its_members(tmp_path):
    for name, classes in (("a", ["cat", "dog"]), ("b", ["cat", "dog"]), ("c", ["dog", "cat"])):
        (tmp_path / name).mkdir()
        content = {"metadata": {"class_names": classes, "crop": 32}}
        (tmp_path / name / "arguments.json").write_text(json.dumps(content))
    (tmp_path / "unknown").mkdir()
    a, b, c, unknown = (str(tmp_path / name) for name in ("a", "b", "c", "unknown"))
    expected = {"class_names": ["cat", "dog"], "crop": 32}
    assert ensemble._common_metadata([unknown, a, b]) == expected
    assert ensemble._common_metadata([unknown]) == {}
    with pytest.raises(ValueError, match="c has other classes than"):
        ensemble._common_metadata([a, b, c])


def test_pictures_show_some_of_each_degradation():
    clean = Classifier(tiny_network(), copies=copies([])).pictures(BATCH)
    assert list(clean) == ["image"]
    np.testing.assert_array_equal(clean["image"], IMAGES[:4])
    both = Classifier(tiny_network(), copies=copies(["noise:0", "noise:60"])).pictures(BATCH)
    np.testing.assert_array_equal(both["image"], IMAGES[[0, 1, 0, 1]])
    np.testing.assert_array_equal(both["degraded"][:2], IMAGES[:2])
    assert np.abs(both["degraded"][2:] - IMAGES[:2]).mean() > 20
    many = ["noise:0", "noise:1", "noise:2", "noise:3", "noise:4"]
    shown = Classifier(tiny_network(), copies=copies(many)).pictures(BATCH)
    assert len(shown["degraded"]) == 5


class Report:
    def __init__(self):
        self.rows, self.tables, self.notes, self.pictures = [], {}, {}, {}

    def add_row(self, row):
        self.rows.append(row)

    def add_table(self, name, rows):
        self.tables[name] = rows

    def add_note(self, name, text):
        self.notes[name] = text

    def add_picture(self, name, image):
        self.pictures[name] = image

    def add_page(self, title, parts):
        self.page = "\n".join(parts)


@pytest.mark.slow  # test_evaluation has levels of its own
def test_evaluation_measures_every_level_with_seeded_noise():
    network = tiny_network()
    batches = tf.data.Dataset.from_tensor_slices(BATCH).batch(4)

    def run(texts, chosen, **kwargs):
        report = Report()
        evaluation = Evaluation(texts, chosen, classes=CLASSES, **kwargs)
        means = Classifier(network, evaluation).evaluate(batches, report)
        return means, report

    means, report = run(["noise:0-60,step=20", "jpeg:5-6"], "all", confusion=True)
    names = [(row["name"], row["level"]) for row in report.rows[1:]]
    assert names == [("noise:0-60,step=20", level) for level in (0, 20, 40, 60)] + [
        ("jpeg:5-6", level) for level in (5, 6)
    ]
    rows = {(row["name"], row["level"]): row["top1"] for row in report.rows}
    assert rows["noise:0-60,step=20", 0.0] == report.rows[0]["top1"]
    assert means["accuracy"] == pytest.approx(
        (
            np.mean([r["top1"] for r in report.rows[1:5]])
            + np.mean([r["top1"] for r in report.rows[5:]])
        )
        / 2
    )
    assert len(report.tables["confusion"]) == 3 * CLASSES
    assert "not normalised" in report.notes["mean_error"]
    again, _ = run(["noise:0-60,step=20", "jpeg:5-6"], "all")
    assert again == means
    alone, _ = run(["noise:0-60,step=20"], "20,40")
    both = (rows["noise:0-60,step=20", 20.0] + rows["noise:0-60,step=20", 40.0]) / 2
    assert alone["accuracy"] == pytest.approx(both)
    random, report = run(["noise"], "random")
    assert np.isnan(report.rows[1]["level"])
    assert len(report.tables["per_class"]) == CLASSES
    assert 0 <= random["accuracy/noise"] <= 100


@pytest.mark.slow
def test_evaluation_does_not_depend_on_the_size_of_the_batches():
    random = np.random.default_rng(5)
    images = random.integers(0, 256, (130, 12, 13, 3)).astype(np.float32)
    data = tf.data.Dataset.from_tensor_slices({"image": images, "label": np.arange(130) % CLASSES})
    seen = {}

    def classify(images):
        seen[size].append(images)
        return tf.one_hot(tf.zeros(tf.shape(images)[0], tf.int32), CLASSES)

    for size in (130, 50, 33, 7):
        seen[size] = []
        evaluation = Evaluation(["noise:30", "motion_blur@2"], "random", classes=CLASSES)
        evaluation._compiled = lambda function: function
        evaluation.run(classify, data.batch(size))
    for size in (50, 33, 7):
        for test in range(3):
            one, other = (np.concatenate(seen[s][test::3]) for s in (size, 130))
            np.testing.assert_array_equal(one, other)
