"""Scoring of files: sizes, batches, broken files, results."""

import csv
import json
import types

import numpy as np
import pytest

from misc.images import image_files
from score_predictors import predict_files


class Model:
    """Gives image patches a distribution that shows their mean."""

    metadata = {"score_values": [0.0, 10.0], "patch_size": 8}  # noqa: RUF012
    export_names = {"outputs": {"scores": "s", "features": "f"}}  # noqa: RUF012
    shapes: list

    def __init__(self):
        self.shapes = []

    def predict(self, pixels):
        self.shapes.append(tuple(pixels.shape))
        share = np.mean(pixels, axis=(1, 2, 3)) / 255
        return {"scores": np.stack([1 - share, share], axis=1)}


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr(
        predict_files.inference, "compile_outputs", lambda model, names: model.predict
    )
    return Model()


def write(path, value, size=(20, 30)):
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[:, size[1] // 2 :] = value
    image_files.write_image(path, pixels)
    return path


def test_patches_are_batched_by_size_and_averaged(model, tmp_path, monkeypatch):
    paths = [write(tmp_path / f"{i}.png", 10 * i) for i in range(5)]
    for scoring, batches in (
        ("centre", [(2, 8, 8, 3), (2, 8, 8, 3), (1, 8, 8, 3)]),
        ("whole", [(2, 20, 30, 3), (2, 20, 30, 3), (1, 20, 30, 3)]),
        ("patches", [(2, 8, 8, 3)] * 10),
    ):
        model.shapes.clear()
        pixels = batches[0][1] * batches[0][2]
        monkeypatch.setattr(predict_files.inference, "BATCH_PIXELS", 2 * pixels)
        scorer = predict_files.FileScorer(model, scoring, patches=4)
        distributions, broken = scorer(paths)
        assert model.shapes == batches
        assert not broken
        for i, path in enumerate(paths):
            share = distributions[path][1]
            assert share == pytest.approx(5 * i / 255, abs=1e-6)
            assert distributions[path].sum() == pytest.approx(1)


def test_small_images_are_enlarged(model):
    scorer = predict_files.FileScorer(model, "centre", patch_size=16)
    (patch,) = scorer.cut(np.full((4, 10, 3), 77, np.uint8))
    assert patch.shape == (16, 16, 3)
    assert (patch == 77).all()
    scorer = predict_files.FileScorer(model, "whole", patch_size=16)
    assert scorer.cut(np.zeros((4, 10, 3), np.uint8))[0].shape == (16, 40, 3)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 9])
@pytest.mark.parametrize("room", [(0, 0), (10, 40), (40, 10), (30, 30)])
def test_patches_are_spread_inside_the_image(room, count):
    corners = predict_files.spread(*room, count)
    assert len(corners) == count
    assert all(0 <= top <= room[0] and 0 <= left <= room[1] for top, left in corners)
    if min(room) > 0:
        assert len(set(corners)) == count
    if count == 1:
        assert corners == [(room[0] // 2, room[1] // 2)]


def test_broken_files_are_named_or_skipped(model, tmp_path):
    good = write(tmp_path / "good.png", 100)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"nothing")
    scorer = predict_files.FileScorer(model)
    with pytest.raises(ValueError, match=r"broken\.jpg"):
        scorer([good, broken])
    distributions, left_out = scorer([broken, good], skip_broken=True)
    assert list(distributions) == [good]
    assert left_out == [broken]


def test_results_are_sorted_and_not_replaced_silently(tmp_path, capsys):
    distributions = {
        tmp_path / "in/low.png": np.array([0.75, 0.25]),
        tmp_path / "in/sub/high.png": np.array([0.0, 1.0]),
    }
    arguments = (tmp_path / "out", distributions, tmp_path / "in", [0.0, 10.0])
    predict_files.write_results(*arguments, {"scoring": "centre"})
    content = json.loads((tmp_path / "out/scores.json").read_text())
    assert [row["image"] for row in content["images"]] == ["sub/high.png", "low.png"]
    assert content["images"][1]["mean"] == 2.5
    assert content["images"][1]["std"] == pytest.approx(np.sqrt(0.75 * 2.5**2 + 0.25 * 7.5**2))
    assert content["scoring"] == "centre"
    with open(tmp_path / "out/scores.csv") as file:
        table = list(csv.DictReader(file))
    assert [float(row["10"]) for row in table] == [1.0, 0.25]
    assert "sub/high.png" in capsys.readouterr().out


def test_tables_that_are_there_are_kept(model, tmp_path):
    scorer = predict_files.FileScorer(model)
    arguments = (scorer, "ava.h5", [write(tmp_path / "a.png", 9)], tmp_path, tmp_path / "out")
    assert predict_files.score_files(*arguments) == 0
    with pytest.raises(FileExistsError, match="--overwrite"):
        predict_files.score_files(*arguments)
    assert predict_files.score_files(*arguments, overwrite=True) == 0


def test_long_lists_show_both_ends(tmp_path, capsys):
    distributions = {tmp_path / f"{i:03}.png": np.array([i / 100, 1 - i / 100]) for i in range(60)}
    predict_files.write_results(tmp_path / "out", distributions, tmp_path, [0.0, 1.0], {})
    output = capsys.readouterr().out
    assert "20 more" in output
    assert "000.png" in output
    assert "059.png" in output
    assert "030.png" not in output


def test_models_that_do_not_say_have_scores_from_1(model):
    unknown = types.SimpleNamespace(metadata={}, predict=model.predict)
    scorer = predict_files.FileScorer(unknown)
    assert scorer.values(3) == [1.0, 2.0, 3.0]
    assert scorer.patch_size == predict_files.DEFAULT_PATCH_SIZE
    with pytest.raises(ValueError, match="--scoring is one of"):
        predict_files.FileScorer(unknown, "all")
    with pytest.raises(ValueError, match="--scoring_patches"):
        predict_files.FileScorer(unknown, patches=0)
