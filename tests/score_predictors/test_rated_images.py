import numpy as np
import pytest
import tensorflow as tf
from absl import logging

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


def sampler(rated, seed=3, batch_size=4, **arguments):
    return rated_images.TrainingSampler(rated, CROPPING, batch_size, seed, **arguments)


def batches(rated, count, first_step=0, number_of_threads=2, **arguments):
    return helpers.take(sampler(rated, **arguments).batches(first_step, number_of_threads), count)


def shown(batches):
    return np.concatenate([batch["scores"].argmax(axis=1) for batch in batches])


def test_shapes_and_types(rated):
    dataset = sampler(rated).batches()
    assert dataset.element_spec["image"] == tf.TensorSpec([4, 20, 20, 3], tf.float32)
    assert dataset.element_spec["scores"] == tf.TensorSpec([4, 10], tf.float32)
    (batch,) = helpers.take(dataset, 1)
    assert 0 <= batch["image"].min() < batch["image"].max() <= 255


def test_resumed_run_reads_what_the_uninterrupted_one_reads(rated):
    helpers.assert_equal_batches(batches(rated, 8)[5:], batches(rated, 3, first_step=5))


def test_threads_and_determinism_change_nothing(rated):
    serial = batches(rated, 5, number_of_threads=0)
    helpers.assert_equal_batches(serial, batches(rated, 5, number_of_threads=8))


def test_seed_matters(rated):
    found = [batches(rated, 1, seed=seed)[0]["image"] for seed in (3, 4, -3, 2**70)]
    for number, first in enumerate(found):
        for second in found[:number]:
            assert not np.array_equal(first, second)


def test_shards_put_together_are_the_whole_batch(rated):
    shards = [batches(rated, 5, shard=(index, 2)) for index in range(2)]
    united = [
        {name: np.concatenate([first[name], second[name]]) for name in first}
        for first, second in zip(*shards, strict=True)
    ]
    helpers.assert_equal_batches(batches(rated, 5), united)
    with pytest.raises(ValueError, match="multiple of the number of shards"):
        sampler(rated, shard=(0, 3))


def test_each_pass_shows_each_image_once_in_another_order(rated):
    numbers = shown(batches(rated, 7)).reshape(4, COUNT)
    for order in numbers:
        assert sorted(order) == list(range(COUNT))
    assert len({tuple(order) for order in numbers}) == 4


def test_batches_larger_than_the_set(rated):
    numbers = shown(batches(rated, 1, batch_size=3 * COUNT))
    assert np.all(np.bincount(numbers) == 3)


def test_orders_and_draws_are_uniform(rated):
    draws = [sampler(rated).draw(step) for step in range(700)]
    numbers = np.concatenate([numbers for numbers, _ in draws]).reshape(-1, COUNT)
    first = np.bincount(numbers[:, 0], minlength=COUNT)
    # Five standard deviations.
    assert np.abs(first - 400 / COUNT).max() < 5 * np.sqrt(400 / COUNT)
    uniform = np.concatenate([uniform for _, uniform in draws])
    assert uniform.shape == (2800, windows.DRAWS)
    assert np.abs(uniform.mean(axis=0) - 0.5).max() < 5 / np.sqrt(12 * 2800)
    assert np.abs(np.corrcoef(uniform.T) - np.eye(windows.DRAWS)).max() < 0.1


def test_patches_are_the_windows_that_were_drawn(rated):
    source = sampler(rated)
    for step, batch in enumerate(batches(rated, 3)):
        numbers, uniform = source.draw(step)
        for row, number in enumerate(numbers):
            patch = windows.read_patch(rated.paths[number], CROPPING, uniform[row])
            np.testing.assert_array_equal(batch["image"][row], patch)
            assert batch["scores"][row].argmax() == number


def break_image(rated, number):
    with open(rated.paths[number], "wb") as file:
        file.write(b"broken")


def test_broken_images_end_training_unless_they_are_skipped(rated, monkeypatch):
    break_image(rated, 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Cannot read the image .*2\.jpg"):
        batches(rated, 4)

    lines = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: lines.append(text % values))
    numbers = shown(batches(rated, 7, skip_broken=True)).reshape(4, COUNT)
    for order in numbers:
        assert sorted(order) == [0, 1, 3, 3, 4, 5, 6]
    assert len(lines) == 1
    assert "2.jpg" in lines[0]
    assert "(1 of 7 so far)" in lines[0]
    resumed = batches(rated, 2, first_step=5, skip_broken=True)
    helpers.assert_equal_batches(batches(rated, 7, skip_broken=True)[5:], resumed)


def test_nothing_but_broken_images_is_an_error(rated):
    for number in range(COUNT):
        break_image(rated, number)
    with pytest.raises(ValueError, match="All 7 images are broken"):
        sampler(rated, skip_broken=True).read(0, np.zeros(windows.DRAWS))
    with pytest.raises(ValueError, match="no image to train on"):
        sampler(rated.take([]))


@pytest.mark.parametrize("number_of_threads", [0, 3])
def test_evaluation_shows_every_image_once_in_order(rated, number_of_threads):
    evaluation = rated_images.EvaluationBatches(rated, CROPPING, 3, number_of_threads)
    assert len(evaluation) == 3
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


def test_broken_images_end_evaluation_unless_they_are_skipped(rated):
    break_image(rated, 1)
    with pytest.raises(ValueError, match=r"1\.jpg"):
        list(rated_images.EvaluationBatches(rated, CROPPING, 3))
    found = list(rated_images.EvaluationBatches(rated, CROPPING, 3, skip_broken=True))
    assert [len(batch["image"]) for batch in found] == [3, 3]
    assert "name 1" not in helpers.join(found, "name")
    with pytest.raises(ValueError, match="no image to evaluate"):
        rated_images.EvaluationBatches(rated.take([]), CROPPING, 3)


def test_drop_broken(rated):
    break_image(rated, 4)
    assert rated_images.drop_broken(rated, "Checking").means.tolist() == [0, 1, 2, 3, 5, 6]


def test_find_by_name(tmp_path, monkeypatch):
    for name in ("a/One.JPG", "b/one.jpg", "two.png", "three.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    lines = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: lines.append(text % values))
    found = rated_images.find_by_name(tmp_path, "x_path")
    assert found == {"one.jpg": tmp_path / "a/One.JPG", "two.png": tmp_path / "two.png"}
    assert "b/one.jpg" in lines[0]
    assert list(rated_images.find_by_name(tmp_path, "x_path", (".png",))) == ["two.png"]
    with pytest.raises(ValueError, match="--x_path must be a folder"):
        rated_images.find_by_name(tmp_path / "absent", "x_path")


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
