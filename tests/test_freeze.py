"""The entry point: from a checkpoint to files, with exit codes and messages."""

import keras
import numpy as np
import pytest

import freeze
from eusr import network
from eusr.models import eusr
from misc.export import frozen
from misc.training import run_folder
from tests import commands

SIZES = {"scales": (2,), "features": 4, "shared_blocks": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    keras.utils.set_random_seed(0)
    method = eusr.EUSR(network.Generator(**SIZES, residual_factor=0.1))
    folder = run_folder.RunFolder(tmp_path_factory.mktemp("run"), method, max_to_keep=1)
    folder.save(30)
    folder.write_arguments(
        {"model": "eusr", "scales": [2], "eusr_conv_features": 4, "eusr_shared_blocks": 1}
    )
    return folder


def test_checkpoint_becomes_files(run, tmp_path):
    output = commands.run(
        "freeze.py",
        "--model=eusr",
        f"--restore_path={run.path / 'model.ckpt-30'}",
        f"--output_path={tmp_path / 'ava.pb'}",
    )
    assert "eusr, step 30" in output
    names = ["ava.pb", "ava_saved_model"]
    names += ["ava_x2.onnx", "ava_x2.tflite"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert all(name in output for name in names)
    images = np.random.default_rng(0).uniform(0, 255, (1, 9, 12, 3)).astype(np.float32)
    for name in names:
        model = frozen.load(tmp_path / name)
        assert model.description.step == 30
        for scale in model.scales:
            expected = run.method.predict(images, scale)["output"]
            actual = model.predict(images, scale)["output"]
            np.testing.assert_allclose(actual, expected, atol=1e-2)
            assert model.receptive_radius(scale) == run.method.receptive_radius(scale)


def test_missing_checkpoint_is_one_line(run, tmp_path):
    errors = commands.run(
        "freeze.py",
        "--model=eusr",
        f"--restore_path={run.path}/model.ckpt-31",
        f"--output_path={tmp_path}",
        status=1,
    )
    assert "model.ckpt-31" in errors
    assert "Traceback" not in errors


def test_output_path():
    assert str(freeze.base_path("train/ava.pb")) == "train/ava"
    assert str(freeze.base_path("deploy")) == "deploy/model"
    with pytest.raises(ValueError, match="--formats"):
        freeze.base_path("model.onnx")


def test_formats_that_are_not_installed_are_named(monkeypatch, capsys):
    def missing(name):
        return [p for p in frozen.FORMATS[name].packages if p == "onnxruntime"]

    monkeypatch.setattr(frozen, "missing_packages", missing)
    assert freeze.installed_formats() == ["pb", "saved_model", "tflite"]
    expected = "onnx is skipped without onnxruntime: pip install degraded-vision[deploy]"
    assert expected in capsys.readouterr().out


def test_lines_of_the_table():
    good = freeze.format_result(frozen.Result("a.pb", size=2**20, difference=0.0012))
    assert good.split() == ["1.20e-03", "1.0", "a.pb"]
    bad = freeze.format_result(frozen.Result("a.pb", error="ValueError: differs by 3"))
    assert "a.pb: not written, ValueError: differs by 3" in bad
