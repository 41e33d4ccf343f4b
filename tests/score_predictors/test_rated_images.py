import numpy as np
import pytest
import tensorflow as tf
from absl import logging

from misc.training.sampler import Sampler
from score_predictors import rated_images, windows
from tests.score_predictors import helpers

COUNT = 7


@pytest.fixture
def rated(tmp_path):
    """Seven pictures of different sizes and formats; scores and colours tell which is which."""
    paths = []
    for number in range(COUNT):
        pixels = helpers.photo(30 + 2 * number, 44 - number, number)
        name = f"{number}.{'jpg' if number % 3 else 'png'}"
        paths.append(str(helpers.save(tmp_path / name, pixels)))
    return rated_images.RatedImages(
        paths,
        np.eye(10, dtype=np.float32)[:COUNT],
        np.arange(COUNT, dtype=np.float32),
        np.full(COUNT, 0.5, np.float32),
        [f"name {number}" for number in range(COUNT)],
        ["even", "odd", "even", "odd", "even", "odd", "even"],
    )


CROPPING = windows.Cropping(20, square=True, small="resize")


def data(rated, batch_size=4, **arguments):
    return rated_images.RatedData(
        images_per_step=batch_size, find=lambda split: rated, cropping=CROPPING, **arguments
    )


def test_training_shows_every_picture_with_its_scores(rated):
    dataset = data(rated).training_batches(3)
    assert dataset.element_spec["image"] == tf.TensorSpec([4, 20, 20, 3], tf.float32)
    assert dataset.element_spec["scores"] == tf.TensorSpec([4, 10], tf.float32)
    batches = helpers.take(data(rated), 7, 3)
    numbers = np.concatenate([batch["scores"].argmax(axis=1) for batch in batches])
    np.testing.assert_array_equal(np.sort(numbers.reshape(4, COUNT)), [range(COUNT)] * 4)
    # The windows are those that are drawn.
    sampler = Sampler(4, 3)
    for step, batch in enumerate(batches[:3]):
        step = tf.constant(step, tf.int64)
        drawn = sampler.order(step, COUNT).numpy(), sampler.draw(step, windows.DRAWS)[1].numpy()
        for row, (number, uniform) in enumerate(zip(*drawn, strict=True)):
            patch = windows.read_patch(rated.paths[number], CROPPING, uniform)
            np.testing.assert_array_equal(batch["image"][row], patch)
            assert batch["scores"][row].argmax() == number


def test_runs_resume_and_shards_put_together_are_the_whole_batch(rated):
    whole = helpers.take(data(rated, threads=1), 5, 3)
    helpers.assert_equal_batches(whole[3:], helpers.take(data(rated), 2, 3, first_step=3))
    shards = [helpers.take(data(rated, threads=8), 5, 3, shard=(index, 2)) for index in range(2)]
    united = [
        {name: np.concatenate([first[name], second[name]]) for name in first}
        for first, second in zip(*shards, strict=True)
    ]
    helpers.assert_equal_batches(whole, united)
    (other,) = helpers.take(data(rated), 1, 4)
    assert not np.array_equal(whole[0]["image"], other["image"])


def test_evaluation_shows_every_image_once_in_order(rated):
    evaluation = data(rated, 3).evaluation_batches("test")
    np.testing.assert_allclose(evaluation.training_scores, rated.scores.mean(axis=0))
    for _ in range(2):
        found = list(evaluation)
        assert [len(batch["image"]) for batch in found] == [3, 3, 1]
        assert helpers.join(found, "name") == rated.names
        assert helpers.join(found, "group") == rated.groups
        for name, expected in [("scores", rated.scores), ("mean", rated.means)]:
            np.testing.assert_array_equal(np.concatenate([b[name] for b in found]), expected)
        images = np.concatenate([batch["image"] for batch in found])
        assert images.dtype == np.float32
        for path, image in zip(rated.paths, images, strict=True):
            np.testing.assert_array_equal(image, windows.read_patch(path, CROPPING))


def break_image(rated, number):
    with open(rated.paths[number], "wb") as file:
        file.write(b"broken")


def test_broken_images_end_a_run_unless_they_are_skipped(rated):
    break_image(rated, 1)
    message = r"Cannot read the image .*1\.jpg.*--data_skip_broken"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        helpers.take(data(rated), 4)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        list(data(rated).evaluation_batches("test"))
    skipping = data(rated, 3, skip_broken=True)
    found = list(skipping.evaluation_batches("test"))
    assert helpers.join(found, "name") == [name for name in rated.names if name != "name 1"]
    numbers = [batch["scores"].argmax(axis=1) for batch in helpers.take(skipping, 7)]
    np.testing.assert_array_equal(np.bincount(np.concatenate(numbers)), [3, 0, 6, 3, 3, 3, 3])


def test_drop_broken(rated):
    break_image(rated, 4)
    assert rated_images.drop_broken(rated, "Checking").means.tolist() == [0, 1, 2, 3, 5, 6]


def test_find_images(tmp_path, monkeypatch):
    for name in ("a/One.JPG", "b/one.jpg", "two.png", "three.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    lines = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: lines.append(text % values))

    def find(names, **options):
        return rated_images.find_images(names, tmp_path, "x_path", skip=True, **options)

    assert find(["ONE.jpg", "three"]) == [str(tmp_path / "a/One.JPG"), None]
    assert "2 of the images have no row of their own" in lines[0]
    assert "b/one.jpg" in lines[0]
    assert "two.png" in lines[0]
    assert "1 of 2 rated images are not in" in lines[1]
    assert find(["one", "two"], extensions=(".png",)) == [None, str(tmp_path / "two.png")]
    lines.clear()
    assert find(["two"], all_rated=False) == [str(tmp_path / "two.png")]
    assert not lines
    with pytest.raises(ValueError, match=r"1 of 2 rated images .*: three"):
        rated_images.find_images(["one", "three"], tmp_path, "x_path", skip=False)
    with pytest.raises(ValueError, match=r"--x_path=.*absent: there is no such folder"):
        rated_images.find_images(["one"], tmp_path / "absent", "x_path", skip=True)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([0, 0], range(7)),
        ([2, 0], range(2, 7)),
        ([0, -3], range(4)),
        ([-3, 0], range(4, 7)),
        ([-100, 100], range(7)),
        ([1, 2], range(1, 2)),
    ],
)
def test_ranges(rated, numbers, expected):
    taken = rated_images.take_range(rated, numbers, "x_range")
    assert taken.means.tolist() == list(expected)


def test_empty_and_wrong_ranges(rated):
    with pytest.raises(ValueError, match="--x_range=0,-7 leaves none of the 7 images"):
        rated_images.take_range(rated, [0, -7], "x_range")
    with pytest.raises(ValueError, match="--x_range must be two numbers"):
        rated_images.take_range(rated, [1], "x_range")


def test_long_lists_are_shortened():
    assert rated_images.shorten_list(range(3)) == "0, 1, 2"
    assert rated_images.shorten_list(range(12)).endswith("8, 9 and 2 more")
