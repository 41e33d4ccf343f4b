import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from score_predictors import targets
from score_predictors.dataloaders import ratings
from tests.score_predictors import helpers

TEN = np.arange(1.0, 11)


@pytest.fixture
def folder(tmp_path):
    for number in range(10):
        helpers.save(tmp_path / f"photos/{number}.png", helpers.photo(30, 26, number))
    return tmp_path


def write(folder, text):
    (folder / "ratings.csv").write_text(text)
    return f"{folder}/ratings.csv"


def rows(line, count=10):
    return "".join(line.format(n=number) + "\n" for number in range(count))


def make_flags(folder, text, **values):
    return helpers.default_flags(ratings, ratings_path=write(folder, text), **values)


def evaluate(flags, split="validation"):
    batches = list(ratings.create_data(flags).evaluation_batches(split))
    return {name: np.array(helpers.join(batches, name)) for name in batches[0]}


def test_means_alone(folder):
    text = "path,mean\n" + rows("photos/{n}.png,{n}.5").replace("0.5", "1.5", 1)
    flags = make_flags(folder, text, ratings_validation_fraction=1.0)
    found = evaluate(flags)
    means = np.array([1.5, *np.arange(1.5, 10)])
    np.testing.assert_allclose(found["mean"], means)
    assert np.isnan(found["std"]).all()
    np.testing.assert_array_equal(found["scores"], targets.maximum_entropy(means, TEN))
    assert found["image"].shape == (10, 24, 24, 3)
    assert "group" not in found
    with pytest.raises(ValueError, match="no image of the split train"):
        ratings.create_data(flags).count_images()


def test_means_and_deviations_of_another_scale(folder):
    text = "Deviation;MOS;File\n" + rows("1{n};{n}0;photos/{n}.png").replace("10;", ";", 1)
    flags = make_flags(
        folder,
        text,
        ratings_range=[0, 100],
        score_values=[1, 2, 3, 4, 5],
        ratings_validation_fraction=1.0,
    )
    found = evaluate(flags, "test")
    np.testing.assert_allclose(found["mean"], 1 + 0.04 * np.arange(0, 100, 10), atol=1e-6)
    np.testing.assert_allclose(found["std"][1:], 0.04 * np.arange(11, 20), atol=1e-6)
    assert np.isnan(found["std"][0])
    expected = targets.from_moments(
        "maximum_entropy",
        1 + 0.04 * np.arange(0, 100, 10),
        [np.nan, *(0.04 * np.arange(11, 20))],
        np.arange(1, 6),
        "table",
    )
    np.testing.assert_allclose(found["scores"], expected, atol=1e-6)


@pytest.mark.parametrize("prefix", ["c", "count_", "Votes", "count"])
def test_counts(folder, prefix):
    header = "name\t" + "\t".join(f"{prefix}{k}" for k in (3, 1, 2))
    flags = make_flags(
        folder,
        f"{header}\n" + rows("photos/{n}.png\t{n}\t1\t0"),
        score_values=[1, 2, 3],
        ratings_validation_fraction=1.0,
    )
    found = evaluate(flags)
    third = np.arange(10) / (np.arange(10) + 1)
    np.testing.assert_allclose(found["scores"], np.stack([1 - third, 0 * third, third], 1), 1e-6)
    np.testing.assert_allclose(found["mean"], 1 + 2 * third, rtol=1e-6)
    np.testing.assert_allclose(found["std"], 2 * np.sqrt(third * (1 - third)), atol=1e-6)


def test_random_split_does_not_depend_on_order_or_seed_of_training(folder):
    text = "path,mean\n" + rows("photos/{n}.png,5")
    flags = make_flags(folder, text, ratings_validation_fraction=0.3)
    held_out = set(evaluate(flags)["name"])
    assert len(held_out) == 3
    assert ratings.create_data(flags).count_images() == 7
    header, *lines = text.splitlines()
    reversed_rows = ratings.read_ratings(
        write(folder, "\n".join([header, *lines[::-1]])), folder, TEN
    )
    assert set(reversed_rows.take_split("validation", 0.3).names) == held_out
    assert set(reversed_rows.take_split("validation", 0.3, seed=1).names) != held_out
    assert not held_out & set(reversed_rows.take_split("train", 0.3).names)


def test_groups_stay_together(folder):
    text = "path,score,content,distortion\n" + rows("photos/{n}.png,5,c{n},jpeg")
    for number in range(5, 10):
        text = text.replace(f",c{number},", f",c{number - 5},")
    flags = make_flags(folder, text, ratings_validation_fraction=0.4)
    found = evaluate(flags)
    numbers = sorted(int(name[7]) for name in found["name"])
    assert len(numbers) == 4
    assert numbers[2:] == [number + 5 for number in numbers[:2]]
    assert set(found["group"]) == {"jpeg"}


def test_column_of_splits(folder):
    names = ["train", "val", "Training", "test", "validation"] * 2
    lines = [f"photos/{n}.png,5,{name},g{n % 2}" for n, name in enumerate(names)]
    flags = make_flags(folder, "image,rating,Set,group\n" + "\n".join(lines))
    assert ratings.create_data(flags).count_images() == 4
    assert [name[7] for name in evaluate(flags)["name"]] == ["1", "4", "6", "9"]
    found = evaluate(flags, "test")
    assert [name[7] for name in found["name"]] == ["3", "8"]
    assert list(found["group"]) == ["g1", "g0"]
    with pytest.raises(ValueError, match="split must be"):
        ratings.create_data(flags).evaluation_batches("all")


def test_training_without_validation(folder):
    text = "path,mean\n" + rows("photos/{n}.png,5")
    flags = make_flags(folder, text, ratings_validation_fraction=0.0)
    assert ratings.create_data(flags).count_images() == 10
    assert ratings.create_data(flags).evaluation_batches("validation") is None
    with pytest.raises(ValueError, match="--ratings_validation_fraction=0 leaves none"):
        ratings.create_data(flags).evaluation_batches("test")
    batches = helpers.take(ratings.create_data(flags), 3, 0)
    resumed = helpers.take(ratings.create_data(flags), 2, 0, first_step=1)
    helpers.assert_equal_batches(batches[1:], resumed)


def test_small_images_are_enlarged(folder):
    text = "path,mean\n" + rows("photos/{n}.png,5")
    flags = make_flags(folder, text, input_patch_size=40, ratings_validation_fraction=1.0)
    assert evaluate(flags)["image"][:, 0].max() > 0


def test_missing_images_and_folders(folder):
    text = "path,mean\n" + rows("{n}.png,5", 11)
    flags = {"ratings_image_path": f"{folder}/photos", "ratings_validation_fraction": 0.0}
    with pytest.raises(ValueError, match=r"1 of 11 rated.*10\.png.*--data_skip_broken"):
        ratings.create_data(make_flags(folder, text, **flags)).count_images()
    found = make_flags(folder, text, **flags, data_skip_broken=True)
    assert ratings.create_data(found).count_images() == 10
    with pytest.raises(ValueError, match="11 of 11 rated images are not in"):
        ratings.create_data(make_flags(folder, text, data_skip_broken=True)).count_images()
    with pytest.raises(ValueError, match=r"--ratings_path is missing.*sample_ratings"):
        ratings.create_data(helpers.default_flags(ratings)).count_images()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line of column names"),
        ("path,mean\n", "at least one row"),
        ("mean,std\n5,1\n", "needs a column path or image.*mean, std"),
        ("path,std\n0.png,1\n", "needs a column mean or mos"),
        ("path,mean\n0.png,5\n1.png,high\n", "line 3: the column mean must be a number.*'high'"),
        ("path,mean\n0.png,nan\n", "line 2: the column mean"),
        ("path,mean\n0.png,\n", "line 2: the column mean"),
        ("path,mean\n0.png,50\n", r"line 2: the mean 50 is not from 1 to 10.*--ratings_range"),
        ("path,mean\n0.png,5,7\n", "line 2: 3 cells instead of 2"),
        ("path,mean,mean\n0.png,5,7\n", "several columns named mean"),
        ("path,mean,std\n0.png,5,-1\n", "must not be negative"),
        ("path,c1,c2\n0.png,5,1\n", "c1 to c10. Received: c1, c2"),
        ("path,mean,split\n0.png,5,some\n", "line 2: the column split must be one of.*'some'"),
    ],
)
def test_wrong_tables_are_errors(folder, text, message):
    with pytest.raises(ValueError, match=message):
        ratings.create_data(make_flags(folder, text)).count_images()


@pytest.mark.parametrize("score_range", [[1], [5, 5], [10, 1], [1, 2, 3]])
def test_wrong_ranges_are_errors(folder, score_range):
    text = "path,mean\n" + rows("photos/{n}.png,5")
    with pytest.raises(ValueError, match="--ratings_range must be the lowest and the highest"):
        ratings.create_data(make_flags(folder, text, ratings_range=score_range)).count_images()


NAMES = st.text(st.characters(categories=("L", "Nd"), include_characters=" ,;'-"), min_size=1)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(NAMES, st.floats(1, 10)), min_size=1, max_size=5),
    st.sampled_from(",;\t"),
    st.booleans(),
)
def test_tables_of_any_form_are_read(tmp_path_factory, found, delimiter, mark):
    import csv

    from score_predictors import tables

    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with open(path, "w", newline="", encoding="utf-8-sig" if mark else "utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([("Path", "Mean"), *found])
    table = tables.read(path, "flag")
    assert table.texts("path") == [name.strip() for name, _ in found]
    assert table.numbers("mean") == [mean for _, mean in found]
