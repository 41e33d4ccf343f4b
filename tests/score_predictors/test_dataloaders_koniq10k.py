import numpy as np
import pytest

from score_predictors.dataloaders import koniq10k
from tests.score_predictors import helpers

HEADER = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set\n"
ROWS = [
    ("10004473376.jpg", [0, 0, 25, 73, 7], 77.38, 0.5273, "training"),
    ("10007357496.jpg", [0, 3, 45, 47, 1], 68.73, 0.58, "test"),
    ("12345.jpg", [20, 40, 30, 10, 0], 30.5, 0.9, "validation"),
    ("6789.jpg", [50, 30, 15, 5, 1], 12.25, 0.8, "training"),
    ("777.jpg", [1, 5, 15, 35, 50], 88, 0.7, "training"),
]


def table():
    lines = []
    for name, counts, mos, deviation, subset in ROWS:
        shares = ",".join(f"{count / sum(counts):.12f}" for count in counts)
        lines.append(f"{name},{shares},{sum(counts)},{mos},{deviation},{subset}\n")
    return HEADER + "".join(lines)


@pytest.fixture
def dataset(tmp_path):
    (tmp_path / "table.csv").write_text(table())
    for number, (name, *_) in enumerate(ROWS):
        helpers.save(tmp_path / "512x384" / name, helpers.photo(38, 51, number))
    return tmp_path


def make_flags(folder, **values):
    paths = {
        "koniq10k_score_path": f"{folder}/table.csv",
        "koniq10k_image_path": f"{folder}/512x384",
    }
    return helpers.default_flags(koniq10k, **paths | values)


def test_sets_are_the_splits(dataset):
    flags = make_flags(dataset)
    assert flags.score_values == [1, 2, 3, 4, 5]
    assert koniq10k.create_data(flags).count_images() == 3
    for split, name in [("test", "10007357496.jpg"), ("validation", "12345.jpg")]:
        assert helpers.join(koniq10k.create_data(flags).evaluation_batches(split), "name") == [name]
    (batch,) = helpers.take(koniq10k.create_data(flags), 1, 0)
    assert batch["image"].shape == (4, 24, 24, 3)
    assert batch["scores"].shape == (4, 5)


def test_shares_means_and_deviations(dataset):
    (batch,) = koniq10k.create_data(make_flags(dataset)).evaluation_batches("validation")
    np.testing.assert_allclose(batch["scores"], [[0.2, 0.4, 0.3, 0.1, 0]], atol=1e-6)
    np.testing.assert_allclose(batch["mean"], [2.3], atol=1e-6)
    np.testing.assert_allclose(batch["std"], [0.9], atol=1e-6)
    (batch,) = koniq10k.create_data(make_flags(dataset, koniq10k_mean="mos")).evaluation_batches(
        "validation"
    )
    np.testing.assert_allclose(batch["mean"], [1 + 4 * 0.305], atol=1e-6)


def test_missing_images(dataset):
    (dataset / "512x384/777.jpg").unlink()
    with pytest.raises(ValueError, match=r"1 of 3 rated images.*777\.jpg.*--data_skip_broken"):
        koniq10k.create_data(make_flags(dataset)).count_images()
    assert koniq10k.create_data(make_flags(dataset, data_skip_broken=True)).count_images() == 2
    with pytest.raises(ValueError, match=r"--koniq10k_image_path is missing.*sample_ratings"):
        koniq10k.create_data(make_flags(dataset, koniq10k_image_path=None)).count_images()
    with pytest.raises(ValueError, match=r"--koniq10k_score_path=.*no\.csv: there is no such file"):
        koniq10k.create_data(make_flags(dataset, koniq10k_score_path=f"{dataset}/no.csv"))
    with pytest.raises(ValueError, match="split must be"):
        koniq10k.create_data(make_flags(dataset)).evaluation_batches("training")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("c5,", "c6,", "lacks the columns c5"),
        ("validation", "held out", "must be training, validation, test.*held out"),
        ("30.5", "130.5", "MOS must be from 0 to 100"),
        ("30.5", "good", "line 4: the column mos must be a number"),
        ("0.4", "-0.4", "counts of votes.*row 2"),
        ("training", "test", "no image of the set training"),
    ],
)
def test_wrong_tables_are_errors(dataset, old, new, message):
    path = dataset / "table.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        koniq10k.create_data(make_flags(dataset)).count_images()
