import numpy as np
import pytest
from absl import logging
from hypothesis import given, settings
from hypothesis import strategies as st

from score_predictors.dataloaders import ava
from tests.score_predictors import helpers

IDS = [953619, 17, 440774, 42, 99, 5, 1234]


@pytest.fixture
def dataset(tmp_path):
    """AVA.txt of seven rows; one image is missing, one known to be broken, one has no row."""
    random = np.random.default_rng(0)
    lines = []
    for index, number in enumerate(IDS):
        counts = " ".join(map(str, random.integers(0, 40, 10)))
        lines.append(f"{index + 1} {number} {counts} 1 22 1396")
    (tmp_path / "AVA.txt").write_text("\n".join(lines) + "\n")
    for number in [*IDS[:4], *IDS[5:], 777]:
        name = f"{number % 3}/{number}.{'JPG' if number == 17 else 'jpg'}"
        helpers.save(tmp_path / "images" / name, helpers.photo(30, 40, number))
    return tmp_path


def make_flags(folder, **values):
    paths = {"ava_dataset_path": f"{folder}/AVA.txt", "ava_image_path": f"{folder}/images"}
    ranges = {"ava_train_range": [0, -2], "ava_validate_range": [-2, 0]}
    return helpers.default_flags(ava, **paths | ranges | values)


def names(flags, split="validation"):
    return helpers.join(ava.create_data(flags).evaluation_batches(split), "name")


def test_flags_have_the_defaults_of_the_seed():
    flags = helpers.default_flags(ava)
    assert flags.ava_dataset_path == "AVA.txt"
    assert flags.ava_train_range == [0, -5000]
    assert flags.ava_validate_range == [-5000, 0]
    assert flags.ava_num_threads == 4
    assert flags.ava_validate_images is False
    assert flags.score_values == list(range(1, 11))


def test_votes_become_distributions(dataset):
    (batch,) = ava.create_data(make_flags(dataset)).evaluation_batches("test")
    lines = (dataset / "AVA.txt").read_text().splitlines()
    rows = {line.split()[1]: line.split()[2:12] for line in lines}
    assert batch["name"] == ["5", "1234"]
    for row, name in enumerate(batch["name"]):
        counts = np.array(rows[name], float)
        values = np.repeat(np.arange(1, 11), counts.astype(int))
        np.testing.assert_allclose(batch["scores"][row], counts / counts.sum(), rtol=1e-6)
        np.testing.assert_allclose(batch["mean"][row], values.mean(), rtol=1e-5)
        np.testing.assert_allclose(batch["std"][row], values.std(), rtol=1e-5)
    assert batch["image"].shape == (2, 24, 24, 3)
    assert "group" not in batch


def test_what_does_not_fit_is_reported(dataset, monkeypatch):
    lines = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: lines.append(text % values))
    flags = make_flags(dataset, ava_validate_range=[0, 0])
    assert names(flags) == ["953619", "17", "42", "5", "1234"]
    report = "\n".join(lines)
    assert "1 of 7 rated images are not in" in report
    assert "99.jpg" in report
    assert "1 of the images have no row" in report
    assert "777.jpg" in report
    assert "known to be broken" in report
    assert "440774.jpg" in report


def test_training_batches_and_their_count(dataset):
    flags = make_flags(dataset)
    assert ava.create_data(flags).count_images() == 3
    batches = helpers.take(ava.create_data(flags), 3, 1)
    assert batches[0]["image"].shape == (4, 24, 24, 3)
    resumed = helpers.take(ava.create_data(flags), 1, 1, first_step=2)
    helpers.assert_equal_batches(batches[2:], resumed)


def test_broken_images_are_dropped_before_the_ranges_are_taken(dataset, monkeypatch, capsys):
    (dataset / "images/0/42.jpg").write_bytes(b"broken")
    flags = make_flags(dataset, ava_validate_images=True, ava_validate_range=[0, 0])
    lines = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: lines.append(text % values))
    data = ava.create_data(flags)
    found = helpers.join(data.evaluation_batches("validation"), "name")
    assert found == ["953619", "17", "5", "1234"]
    # Looking for the training images does not check all files again.
    assert data.count_images() == 2
    assert sum("42.jpg" in line for line in lines) == 1
    assert any("skipped 1 of 5" in line for line in lines)
    assert "Checking AVA" in capsys.readouterr().err


def test_ranges_that_leave_nothing_and_missing_flags(dataset):
    with pytest.raises(ValueError, match="--ava_train_range=0,-5 leaves none of the 5 images"):
        ava.create_data(make_flags(dataset, ava_train_range=[0, -5])).count_images()
    with pytest.raises(ValueError, match=r"--ava_image_path is missing.*sample_ratings"):
        ava.create_data(make_flags(dataset, ava_image_path=None)).count_images()
    with pytest.raises(ValueError, match=r"--ava_dataset_path=.*/no\.txt: there is no such file"):
        ava.create_data(make_flags(dataset, ava_dataset_path=f"{dataset}/no.txt"))
    with pytest.raises(ValueError, match=r"--ava_image_path=.*/no: there is no such folder"):
        ava.create_data(make_flags(dataset, ava_image_path=f"{dataset}/no"))
    with pytest.raises(ValueError, match="Received: 'all'"):
        ava.create_data(make_flags(dataset)).evaluation_batches("all")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "15 whole numbers"),
        ("1 2 3\n", "15 whole numbers"),
        ("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15\n1 2\n", "15 columns"),
        ("1 two 3 4 5 6 7 8 9 10 11 12 13 14 15\n", "two"),
    ],
)
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_wrong_tables_are_errors(text, message, tmp_path):
    (tmp_path / "AVA.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        ava.read_table(tmp_path / "AVA.txt")


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 10**6), min_size=15, max_size=15), min_size=1, max_size=5),
    st.sampled_from([" ", "\t", "   "]),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
)
def test_tables_of_any_spacing_are_read(tmp_path_factory, rows, blank, end):
    path = tmp_path_factory.mktemp("table") / "AVA.txt"
    path.write_text("".join(blank.join(map(str, row)) + end for row in rows), newline="")
    ids, counts = ava.read_table(path)
    np.testing.assert_array_equal(ids, [row[1] for row in rows])
    np.testing.assert_array_equal(counts, [row[2:12] for row in rows])
