import csv

import numpy as np
import PIL.Image
import pytest

from misc.images import sample_data
from score_predictors import sample_ratings
from score_predictors.dataloaders import sample_ratings as dataloader
from tests.score_predictors import helpers


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "ratings"
    return helpers.default_flags(dataloader, sample_ratings_path=str(folder), input_patch_size=64)


@pytest.fixture(scope="module")
def rows(flags):
    path = sample_ratings.write_sample_ratings(flags.sample_ratings_path)
    with open(path, newline="") as file:
        return [row | {"file": path.parent / row["path"]} for row in csv.DictReader(file)]


def pixels(row):
    with PIL.Image.open(row["file"]) as image:
        return np.asarray(image).astype(float)


@pytest.mark.slow
def test_scores_follow_the_formula(rows):
    assert len(rows) == 7 * 2 * (1 + 4 * 5)
    for row in rows:
        assert float(row["mean"]) == pytest.approx(9 - 1.4 * int(row["level"]))
        assert row["split"] in row["path"]
        assert row["group"] in row["path"]
    assert {row["level"] for row in rows} == set("012345")


def test_pictures_are_degraded_more_with_each_level(rows):
    chosen = [row for row in rows if row["path"].startswith("validation/coffee_1_")]
    clean = next(pixels(row) for row in chosen if row["degradation"] == "none")
    photo = dict(sample_data.sample_photos("validation"))["coffee"]
    np.testing.assert_array_equal(clean, photo[72:328, -256:])
    for name in sample_ratings.LEVELS:
        errors = [
            np.mean((pixels(row) - clean) ** 2) for row in chosen if row["degradation"] == name
        ]
        assert len(errors) == 5
        assert errors[0] > 0
        assert errors == sorted(errors)


def test_photographs_of_the_splits_differ(flags, rows):
    groups = {
        split: {row["group"] for row in rows if row["split"] == split}
        for split in ("train", "validation")
    }
    assert groups["validation"] == {"chelsea", "coffee"}
    assert not groups["train"] & groups["validation"]
    assert dataloader.create_data(flags).count_images() == 210
    found = list(dataloader.create_data(flags).evaluation_batches("test"))
    assert len(helpers.join(found, "name")) == 84
    assert set(helpers.join(found, "group")) == {"none", *sample_ratings.LEVELS}
    scores = np.array(helpers.join(found, "scores"))
    np.testing.assert_allclose(scores @ np.arange(1, 11), helpers.join(found, "mean"), atol=1e-5)
    assert flags.score_values == list(range(1, 11))


def test_training_batches(flags):
    batches = helpers.take(dataloader.create_data(flags), 3, 0)
    assert batches[0]["image"].shape == (4, 64, 64, 3)
    resumed = helpers.take(dataloader.create_data(flags), 1, 0, first_step=2)
    helpers.assert_equal_batches(batches[2:], resumed)


def test_the_folder_says_that_the_scores_are_made_up(flags, rows):
    folder = rows[0]["file"].parents[1]
    assert "Made-up ratings" in (folder / "README.txt").read_text()
    # A second call writes nothing.
    before = (folder / "ratings.csv").stat().st_mtime_ns
    sample_ratings.write_sample_ratings(folder)
    assert (folder / "ratings.csv").stat().st_mtime_ns == before


def test_other_folders_are_left_alone(tmp_path):
    (tmp_path / "ratings.csv").write_text("path,mean\n")
    with pytest.raises(ValueError, match="holds other ratings"):
        sample_ratings.write_sample_ratings(tmp_path)
    (tmp_path / "ratings.csv").rename(tmp_path / "other.csv")
    with pytest.raises(ValueError, match="empty folder"):
        sample_ratings.write_sample_ratings(tmp_path)


def test_default_folder_is_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert sample_ratings.default_path().parent == tmp_path / "degraded-vision"
