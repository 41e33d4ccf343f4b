import pathlib

import numpy as np
import pytest
from absl import logging
from hypothesis import given, settings
from hypothesis import strategies as st

from score_predictors import targets
from score_predictors.dataloaders import tid2013
from tests.score_predictors import helpers

# As in the distributed table: some names start with a capital letter, some extensions too.
NAMES = [
    f"{'I' if distortion in (1, 11) and level == 1 else 'i'}{content:02d}_{distortion:02d}_{level}"
    for content in (1, 2, 3, 4, 5)
    for distortion in (1, 11)
    for level in (1, 2)
]
MEANS = np.linspace(0.25, 7.2, len(NAMES)).round(5)
STDS = np.linspace(0, 0.29, len(NAMES)).round(5)


@pytest.fixture
def dataset(tmp_path):
    """TID2013 as it is distributed, cut down; files' names in another case than the table's."""
    folder = tmp_path / "tid2013"
    for number, name in enumerate(NAMES):
        file = f"{name.swapcase()}.{'BMP' if number % 2 else 'bmp'}"
        helpers.save(folder / "distorted_images" / file, helpers.photo(30, 40, number))
    lines = [
        f"{mean} {name}.{'BMP' if '_11_' in name else 'bmp'}"
        for mean, name in zip(MEANS, NAMES, strict=True)
    ]
    (folder / "mos_with_names.txt").write_text("\r\n".join(lines) + "\r\n", newline="")
    (folder / "mos_std.txt").write_text("".join(f"{std}\n" for std in STDS))
    return folder


def make_flags(folder, **values):
    path = {"tid2013_image_path": f"{folder}/distorted_images"}
    return helpers.default_flags(tid2013, **path | values)


def evaluate(flags, split="validation"):
    batches = list(tid2013.create_data(flags).evaluation_batches(split))
    united = {
        name: np.concatenate([batch[name] for batch in batches])
        for name in ("scores", "mean", "std")
    }
    lists = {name: helpers.join(batches, name) for name in ("name", "group")}
    return united | lists


def test_flags_have_the_defaults_of_the_seed():
    flags = helpers.default_flags(tid2013)
    assert flags.tid2013_num_threads == 4
    assert flags.tid2013_target == "gaussian"
    assert flags.score_values == list(range(10))
    assert tid2013.TRAIN_RANGE == [360, 3000]
    assert tid2013.VALIDATE_RANGE == [0, 360]


def test_contents_are_held_out(dataset):
    flags = make_flags(dataset)
    found = evaluate(flags)
    assert found["name"] == NAMES[:12]
    np.testing.assert_array_equal(found["mean"], MEANS[:12].astype(np.float32))
    np.testing.assert_array_equal(found["std"], STDS[:12].astype(np.float32))
    assert found["group"][:4] == ["01 white noise"] * 2 + ["11 JPEG2000"] * 2
    np.testing.assert_array_equal(
        found["scores"], targets.gaussian_bins(MEANS[:12], STDS[:12], np.arange(10))
    )
    assert tid2013.create_data(flags).count_images() == 8
    other = make_flags(dataset, tid2013_validation_contents=[5])
    assert evaluate(other)["name"] == NAMES[16:]
    assert tid2013.create_data(other).count_images() == 16


def test_training_shows_the_other_contents(dataset):
    (batch,) = helpers.take(tid2013.create_data(make_flags(dataset, batch_size=8)), 1, 0)
    assert batch["image"].shape == (8, 24, 24, 3)
    expected = targets.gaussian_bins(MEANS[12:], STDS[12:], np.arange(10))
    assert sorted(map(tuple, batch["scores"])) == sorted(map(tuple, expected))


def test_missing_images_do_not_move_the_border_between_contents(dataset):
    next((dataset / "distorted_images").glob("i01_01_1.*")).unlink()
    with pytest.raises(ValueError, match=r"1 of 20 rated.*I01_01_1.*--data_skip_broken"):
        evaluate(make_flags(dataset))
    flags = make_flags(dataset, data_skip_broken=True)
    assert evaluate(flags)["name"] == NAMES[1:12]
    assert tid2013.create_data(flags).count_images() == 8
    ranges = {"tid2013_train_range": [12, 0], "tid2013_validate_range": [0, 12]}
    by_place = make_flags(dataset, data_skip_broken=True, **ranges)
    assert evaluate(by_place)["name"] == NAMES[1:13]
    assert tid2013.create_data(by_place).count_images() == 7


def test_one_range_alone_is_completed_by_the_default_of_the_seed(dataset):
    flags = make_flags(dataset, tid2013_validate_range=[18, 0])
    assert evaluate(flags)["name"] == NAMES[18:]
    with pytest.raises(ValueError, match="--tid2013_train_range=360,3000 leaves none of the 20"):
        tid2013.create_data(flags).count_images()


@pytest.mark.parametrize("kind", targets.KINDS)
def test_targets(dataset, kind):
    found = evaluate(make_flags(dataset, tid2013_target=kind))
    expected = targets.from_moments(kind, MEANS[:12], STDS[:12], np.arange(10), "table")
    np.testing.assert_array_equal(found["scores"], expected)


def test_scores_in_every_place_give_the_same(dataset, monkeypatch):
    expected = evaluate(make_flags(dataset))
    by_folder = evaluate(make_flags(dataset, tid2013_score_path=str(dataset)))
    by_file = evaluate(make_flags(dataset, tid2013_score_path=f"{dataset}/mos_with_names.txt"))
    lines = [f"{name} {mean} {std}" for name, mean, std in zip(NAMES, MEANS, STDS, strict=True)]
    table = dataset / "table.txt"
    table.write_text("\n".join(lines))
    by_table = evaluate(make_flags(dataset, tid2013_score_path=str(table)))
    (dataset / "mos_with_names.txt").unlink()
    with pytest.raises(ValueError, match=r"mos_with_names\.txt.*--tid2013_score_path"):
        evaluate(make_flags(dataset))
    monkeypatch.chdir(dataset)
    table.rename("tid2013_name_mos_std.txt")
    here = evaluate(make_flags(dataset))
    for found in (by_folder, by_file, by_table, here):
        assert found["name"] == expected["name"]
        np.testing.assert_array_equal(found["scores"], expected["scores"])


def test_extension_and_images_without_score(dataset, monkeypatch):
    images = dataset / "distorted_images"
    helpers.save(images / "i09_01_1.png", helpers.photo(30, 30))
    lines = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: lines.append(text % values))
    assert evaluate(make_flags(dataset))["name"] == NAMES[:12]
    assert "1 of the images have no row of their own" in lines[0]
    assert "i09_01_1.png" in lines[0]
    with pytest.raises(ValueError, match="20 of 20 rated images are not in"):
        evaluate(make_flags(dataset, tid2013_image_extension="png"))
    assert evaluate(make_flags(dataset, tid2013_image_extension="bmp"))["name"] == NAMES[:12]


def test_missing_flags_files_and_contents(dataset):
    with pytest.raises(ValueError, match=r"--tid2013_image_path is missing.*sample_ratings"):
        evaluate(make_flags(dataset, tid2013_image_path=None))
    with pytest.raises(ValueError, match="--tid2013_score_path: there is no such"):
        evaluate(make_flags(dataset, tid2013_score_path=f"{dataset}/none.txt"))
    with pytest.raises(ValueError, match=r"leaves no image to validate on.*1,2,3,4,5"):
        evaluate(make_flags(dataset, tid2013_validation_contents=[6]))
    with pytest.raises(ValueError, match="leaves no image to train on"):
        tid2013.create_data(
            make_flags(dataset, tid2013_validation_contents=[1, 2, 3, 4, 5])
        ).count_images()
    with pytest.raises(ValueError, match="split must be"):
        evaluate(make_flags(dataset), "all")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no scores"),
        ("i01_01_1 5.5\n", "line 1: expected NAME MEAN STD"),
        ("i01_01_1 5.5 0.1\ni01_01_2 5.5\n", "line 2: expected NAME"),
        ("i01_01_1 5,5 0.1\n", "'5,5' is no number"),
        ("i01_25_1 5.5 0.1\n", "line 1: expected NAME"),
        ("i00_24_1 5.5 0.1\n", "line 1: expected NAME"),
        ("photo 5.5 0.1\n", "line 1: expected NAME"),
        ("i01_01_1 5.5 0.1\nI01_01_1 5.5 0.1\n", "names an image twice"),
    ],
)
def test_wrong_tables_are_errors(text, message, tmp_path):
    (tmp_path / "table.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        tid2013.read_scores(tmp_path / "table.txt")


def test_means_need_as_many_deviations(dataset):
    (dataset / "mos_std.txt").write_text("0.1\n")
    with pytest.raises(ValueError, match=r"has 20 lines, but .* has 1"):
        tid2013.read_scores(dataset / "mos_with_names.txt")
    (dataset / "mos_std.txt").unlink()
    with pytest.raises(ValueError, match=r"there is no .*mos_std"):
        tid2013.read_scores(dataset / "mos_with_names.txt")


NAME = st.builds(
    "{}{:02d}_{:02d}_{}".format,
    *map(st.sampled_from, ("iI",)),
    st.integers(1, 25),
    st.integers(1, 24),
    st.integers(1, 5),
)
ROWS = st.lists(
    st.tuples(NAME, st.floats(0, 9), st.floats(0, 3)),
    min_size=1,
    max_size=6,
    unique_by=lambda row: row[0].lower(),
)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.sampled_from(["", ".bmp", ".BMP", ".png"]), st.sampled_from(["\n", "\r\n"]))
def test_both_forms_of_table_give_the_same(tmp_path_factory, rows, extension, end):
    folder = pathlib.Path(tmp_path_factory.mktemp("tables"))
    for name, lines in {
        "one.txt": [f"{name}{extension} {mean!r} {std!r}" for name, mean, std in rows],
        "mos_with_names.txt": [f"{mean!r} {name}{extension}" for name, mean, _ in rows],
        "mos_std.txt": [f" {std!r} " for *_, std in rows],
    }.items():
        (folder / name).write_text(end.join(lines) + end, newline="")
    for path in ("one.txt", "mos_with_names.txt"):
        names, means, stds = tid2013.read_scores(folder / path)
        assert names == [name for name, *_ in rows]
        np.testing.assert_array_equal(means, [mean for _, mean, _ in rows])
        np.testing.assert_array_equal(stds, [std for *_, std in rows])
