"""Trained models from Python: what `misc.export.load` gives, and what it says of wrong pixels."""

import numpy as np
import pytest

from classifiers import correction
from misc.export import load, tiling, trained
from misc.images import image_files
from tests.runs import save


def photo(rows=20, columns=30, dtype=np.uint8):
    values = np.random.default_rng(0).uniform(0, 255, (rows, columns, 3))
    return np.rint(values).astype(dtype)


@pytest.fixture(scope="module")
def eusr(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eusr")
    return save(folder, "eusr", scales=[1, 2]), load(folder)


def test_images_keep_their_type(eusr):
    method, model = eusr
    pixels = photo()
    expected = np.asarray(method.predict(pixels[None].astype("float32"), 2)["output"])[0]
    output = model.upscale(pixels.astype("float64"), 2)
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, expected, atol=1e-3)
    eight_bits = model.upscale(pixels, 2)
    assert np.abs(eight_bits.astype(int) - tiling.from_float(expected, np.uint8)).max() <= 1
    several = model.upscale(np.stack([pixels, pixels[::-1]]), 2)
    assert several.shape == (2, 40, 60, 3)
    np.testing.assert_array_equal(several[0], eight_bits)
    np.testing.assert_array_equal(model.repair(pixels), pixels)  # nothing is learned yet


def test_a_correction_module_repairs_photos(tmp_path, monkeypatch):
    monkeypatch.setattr(correction, "FEATURES", (4, 4, 6, 8))
    method = save(tmp_path, "sympie")
    repaired = load(tmp_path).repair(photo())
    expected = np.asarray(method.correct(photo()[None].astype("float32")))[0]
    assert repaired.dtype == np.uint8
    assert np.abs(repaired - expected).max() <= 0.51


def test_large_images_are_worked_on_in_tiles(eusr, monkeypatch):
    _, model = eusr
    radius = model.model.receptive_radius(2)
    whole = model.upscale(photo(200, 40), 2)
    monkeypatch.setattr(tiling, "choose_tile", lambda *others: (2 * radius + 32, 0))
    assert 2 * radius + 32 < 200
    tiled = model.upscale(photo(200, 40), 2)
    assert np.abs(whole.astype(int) - tiled).max() <= 1


@pytest.mark.slow
def test_scores_are_those_of_the_command(tmp_path):
    from score_predictors import predict_files

    values = np.arange(1.0, 11)
    save(tmp_path, "mobilenetv2", {"patch_size": 32, "score_values": values.tolist()})
    model = load(tmp_path)
    mean, deviation, distribution = model.score(photo(40, 50))
    assert distribution.shape == (10,)
    assert distribution.sum() == pytest.approx(1)
    assert mean == pytest.approx(distribution @ values)
    assert deviation == pytest.approx(np.sqrt(distribution @ np.square(values - mean)))
    image_files.write_image(tmp_path / "a.png", photo(40, 50))
    found, _ = predict_files.FileScorer(model.model)([tmp_path / "a.png"])
    np.testing.assert_allclose(next(iter(found.values())), distribution, rtol=1e-5)
    several = model.score(photo(40, 50, np.float32)[None])
    assert [score.mean for score in several] == pytest.approx([mean])
    with pytest.raises(ValueError, match="is a model to score, and does not classify"):
        model.classify(photo())


def test_classes_have_names_and_probabilities(tmp_path):
    names = [f"class {number}" for number in range(10)]
    method = save(tmp_path, "classifier", {"class_names": names, "crop": 32, "resize": 32})
    model = load(tmp_path)
    found = model.classify(photo(40, 32), top=3)
    assert [entry["class"] for entry in found] == [names[entry["number"]] for entry in found]
    logits = np.asarray(method.predict(photo(40, 32)[None, 4:36].astype("float32"))["logits"])[0]
    assert [entry["number"] for entry in found] == list(np.argsort(-logits)[:3])
    share = np.exp(logits) / np.exp(logits).sum()
    assert found[0]["probability"] == pytest.approx(share.max(), abs=1e-5)
    assert model.classify(np.stack([photo(40, 32)] * 2), top=3) == [found, found]


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((4, 4)), r"RGB \[H, W, 3\] or \[B, H, W, 3\]. Received: \(4, 4\)"),
        (np.zeros((0, 4, 3)), "Received: "),
        (np.zeros((4, 4, 3), np.uint16), "uint8 or floating point. Received: uint16"),
        (np.full((4, 4, 3), 256.0), "in 0-255. Received: 256 to 256"),
        (np.full((4, 4, 3), np.nan), "in 0-255. Received: nan"),
        ("photo.png", "Pixels are an array"),
    ],
)
def test_wrong_pixels_are_named(pixels, message):
    with pytest.raises(ValueError, match=message):
        trained.check_pixels(pixels)


def test_pixels_that_seem_to_be_in_0_to_1_are_warned_of():
    with pytest.warns(UserWarning, match="multiply by 255"):
        trained.check_pixels(np.full((4, 4, 3), 0.5))


def test_wrong_scales_and_sources_are_named(eusr, tmp_path):
    _, model = eusr
    with pytest.raises(ValueError, match=r"upscales by \[1, 2\]. Received: scale=4"):
        model.upscale(photo(), 4)
    with pytest.raises(ValueError, match=r"upscales by \[1, 2\]. Received: scale=None"):
        model.upscale(photo())
    save(tmp_path / "x2", "eusr", scales=[2])
    with pytest.raises(ValueError, match="repairs nothing: that takes weights for scale 1"):
        load(tmp_path / "x2").repair(photo())
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*nothing"):
        load(tmp_path / "nothing")
