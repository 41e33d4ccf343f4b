"""Answers to degraded images: draws, brute force, several models, going on after a kill."""

import numpy as np
import pytest
import tensorflow as tf

import degradations
from classifiers import levels, robustness
from classifiers.evaluation import Evaluation
from classifiers.metrics import CLEAN

TEXTS = ["noise:4-40,step=4", "jpeg:5-95,step=10"]
MORE_TEXTS = [
    "noise:1-40,step=1",
    "jpeg:1-99,step=2",
    "gaussian_noise",
    "fog",
    "jpeg2000:2-32,step=2",
    "blur:0.2-4,step=0.2",
]
COUNT, SIDE, CLASSES = 70, 12, 6


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(0)
    coarse = random.uniform(20, 235, (COUNT, 3, 3, 3)).repeat(4, 1).repeat(4, 2)
    return np.rint(coarse + random.uniform(-9, 9, coarse.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def classifiers():
    random = np.random.default_rng(1)
    kernels = random.normal(size=(2, SIDE * SIDE * 3, CLASSES)).astype(np.float32)

    def make(kernel):
        return lambda images: (np.asarray(images).reshape(len(images), -1) / 255 - 0.5) @ kernel

    return [make(kernel) for kernel in kernels]


def batches(images, classifiers, size=40):
    labels = classifiers[0](images).argmax(axis=1).astype(np.int32)
    labels[::5] = 0
    return tf.data.Dataset.from_tensor_slices({"image": images, "label": labels}).batch(size)


def courses(texts=TEXTS):
    return robustness.plan(levels.test_degradations(texts, "all", 32))


@pytest.mark.parametrize(
    "text",
    ["noise:30"]
    + [
        pytest.param(f"{name}@3", marks=pytest.mark.slow)
        for name in degradations.GROUPS["imagenet_c"]
    ],
)
def test_draws_do_not_depend_on_what_is_beside(text, images):
    (tested,) = levels.test_degradations([text], "all", 32)
    value = tested.values[0]
    degrader = robustness.Degrader(seed=3)
    whole = degrader(tested, value, tf.constant(images), np.arange(COUNT)).numpy()
    # As validate.py degrades them.
    evaluation = Evaluation([text], "all", seed=3)
    expected, _ = evaluation.degrade(evaluation.tested[0], value, tf.constant(images), 0)
    np.testing.assert_array_equal(whole, expected)
    for some in ([0, 7, 49, 50, 69], [55], range(10, 60)):
        some = np.array(some)
        part = degrader(tested, value, tf.constant(images[some]), some).numpy()
        np.testing.assert_array_equal(part, whole[some])
    assert np.abs(whole - images).max() > 2


def brute_force(measured, course, images, classifiers):
    """Returns the breaking places `[M, N]` by the answers of all images at all levels."""
    degrader = robustness.Degrader(seed=0)
    found = np.full((len(classifiers), COUNT), len(course.breaking))
    for place in reversed(range(len(course.breaking))):
        degraded = degrader(
            course.tested, course.breaking[place], tf.constant(images), np.arange(COUNT)
        )
        for model, classify in enumerate(classifiers):
            changed = classify(degraded).argmax(axis=1) != measured.answers.classes[model, 0]
            found[model, changed] = place
    return found


@pytest.mark.parametrize("texts", [TEXTS, pytest.param(MORE_TEXTS, marks=pytest.mark.slow)])
def test_breaking_points_are_those_of_brute_force(texts, images, classifiers, tmp_path):
    planned = courses(texts)
    asked = []

    def counted(images):
        asked.append(len(images))
        return classifiers[0](images)

    degrader = robustness.Degrader(seed=0)
    measurement = robustness.Measurement([counted, classifiers[1]], planned, degrader, tmp_path)
    measurement.run(batches(images, classifiers))
    measured = robustness.read(tmp_path, planned)
    for course in planned:
        ordered, places = measured.breaking[course.name]
        assert ordered == list(course.breaking)
        np.testing.assert_array_equal(
            places, brute_force(measured, course, images, classifiers), course.name
        )
        assert 0 < (places < len(ordered)).sum() < places.size
    # Between the shown levels fewer and fewer images are looked at.
    shown = sum(len(course.shown) for course in planned) + 1
    assert COUNT * shown <= sum(asked)
    if texts is MORE_TEXTS:
        assert COUNT * shown < sum(asked)
        assert sum(asked) < COUNT * (1 + sum(len(course.breaking) for course in planned))


@pytest.mark.slow
def test_accuracies_are_those_of_an_evaluation(images, classifiers, tmp_path):
    planned = courses()
    degrader = robustness.Degrader(seed=0)
    measurement = robustness.Measurement(classifiers, planned, degrader, tmp_path)
    data = batches(images, classifiers)
    measurement.run(data)
    measured = robustness.read(tmp_path, planned)
    kernels = [
        lambda images, classify=classify: tf.numpy_function(classify, [images], tf.float32)
        for classify in classifiers
    ]
    evaluation = Evaluation(TEXTS, "all", classes=CLASSES, seed=0)
    grids = evaluation.count(
        lambda images: {
            n: tf.ensure_shape(f(images), [None, CLASSES]) for n, f in enumerate(kernels)
        },
        data,
    )
    for model, grid in grids.items():
        expected = {(row["name"], row["level"]): row["top1"] for row in grid.rows()}
        for cell, (name, level) in enumerate(measured.cells):
            if name != CLEAN:
                found = 100 * (measured.answers.ranks[model, cell] == 0).mean()
                assert found == pytest.approx(expected[name, float(level)])


@pytest.mark.slow
def test_a_run_goes_on_where_it_was_stopped(images, classifiers, tmp_path):
    planned = courses(["noise:10-40,step=10", "jpeg:20-80,step=20"])
    left = [9]

    def dies(images):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return classifiers[0](images)

    def measure(folder, classify):
        degrader = robustness.Degrader(seed=0)
        measurement = robustness.Measurement([classify], planned, degrader, folder)
        measurement.run(batches(images, classifiers))
        return robustness.read(folder, planned)

    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path / "stopped", dies)
    left[0] = 1000
    again = measure(tmp_path / "stopped", dies)
    assert 1000 - left[0] < 18  # all of it are 2 batches of 9
    expected = measure(tmp_path / "whole", classifiers[0])
    np.testing.assert_array_equal(again.labels, expected.labels)
    np.testing.assert_array_equal(again.index, np.arange(COUNT))
    for name in ("classes", "ranks", "ranks_present", "confidence"):
        np.testing.assert_array_equal(getattr(again.answers, name), getattr(expected.answers, name))
    for name, (_, places) in expected.breaking.items():
        np.testing.assert_array_equal(again.breaking[name][1], places)


def test_a_final_jpeg_is_one_more_step(images):
    (tested,) = levels.test_degradations(["noise:20"], "all", 32)
    places = np.arange(COUNT)
    plain = robustness.Degrader(seed=1)(tested, 20.0, tf.constant(images), places)
    final = robustness.Degrader(seed=1, final_jpeg=85)(tested, 20.0, tf.constant(images), places)
    (jpeg,) = levels.test_degradations(["jpeg:85"], "all", 32)
    expected = robustness.Degrader(seed=1)(jpeg, 85.0, plain, places)
    np.testing.assert_array_equal(final, expected)


def stored(images, labels, cells):
    for name, level in cells:
        for start in (0, 40):
            part = slice(start, start + 40)
            yield {
                "image": images[part] * (1 if level is None else 0.2 * (5 - level) + 0.1),
                "label": labels[part],
                "corruption": name,
                "severity": level,
            }


def test_stored_corruptions_are_compared_image_by_image(images, classifiers, tmp_path):
    labels = classifiers[0](images).argmax(axis=1)
    cells = [("dark", 1), ("dark", 2), ("dark", 5), (CLEAN, None)]
    degrader = robustness.Degrader(seed=0)
    measurement = robustness.Measurement(classifiers, [], degrader, tmp_path)
    measurement.run(list(stored(images, labels, cells)))
    measured = robustness.read(tmp_path, [])
    assert measured.cells == [(CLEAN, None), ("dark", 1.0), ("dark", 2.0), ("dark", 5.0)]
    assert (measured.answers.ranks[0, 0] == 0).all()
    ordered, places = measured.breaking["dark"]
    changed = measured.answers.classes[:, 1:] != measured.answers.classes[:, :1]
    expected = np.where(changed.any(axis=1), changed.argmax(axis=1), 3)
    assert ordered == [1, 2, 5]
    np.testing.assert_array_equal(places, expected)
    with pytest.raises(ValueError, match="leave --degradations out"):
        robustness.Measurement(classifiers, courses(["fog"]), degrader, tmp_path / "x").run(
            list(stored(images, labels, cells))
        )


def test_answers_out_of_the_classes_that_are_present():
    logits = np.array([[5.0, 1.0, 2.0, 3.0], [0.0, 9.0, 2.0, 3.0]])
    answers = robustness.Answers.of([logits], np.array([3, 2]), present=[2, 3])
    assert answers.ranks.tolist() == [[1, 2]]
    assert answers.ranks_present.tolist() == [[0, 1]]


def test_answers_that_are_no_numbers():
    logits = np.array([[0.0, np.nan, 1.0], [3.0, 1.0, 2.0], [np.inf, 0.0, 0.0]])
    answers = robustness.Answers.of([logits], np.array([2, 0, 0]))
    assert answers.classes.tolist() == [[-1, 0, -1]]
    assert answers.ranks.tolist() == [[3, 0, 3]]
    assert answers.confidence[0, 1] == pytest.approx(1 / (1 + np.exp(-1) + np.exp(-2)))


def test_a_damaged_part_is_named(images, classifiers, tmp_path):
    planned = courses(["noise:20"])
    robustness.Measurement(classifiers, planned, robustness.Degrader(seed=0), tmp_path).run(
        batches(images, classifiers)
    )
    path = tmp_path / "000001_000.npz"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"000001_000.npz is damaged: remove it"):
        robustness.read(tmp_path, planned)
