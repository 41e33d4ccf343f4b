"""Weights that come with the project: how they are stored, checked, found and chosen."""

import json
import shutil

import h5py
import numpy as np
import PIL.Image
import pytest
from absl import flags

from eusr.models import eusr
from misc import convert_weights, predict_folder
from misc.export import load
from misc.images import image_files
from misc.training import common_flags, registry, run_folder, settings, trained_weights
from tests import flag_values

SIZES = {"eusr_conv_features": 3, "eusr_shared_blocks": 1, "eusr_residual_factor": 0.3}
SCALES = {"tiny": [2, 4], "repairing": [1, 2]}


def create(scales):
    method = eusr.create_model(flag_values.of(eusr, scales=scales, **SIZES))
    for variable in method.generator.variables:
        variable.assign(np.random.default_rng(0).normal(0, 0.1, variable.shape))
    return method


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """{name: method} of two of them, as if they came with the project."""
    root, methods = tmp_path_factory.mktemp("project"), {}
    for name, scales in SCALES.items():
        methods[name] = create(scales)
        methods[name].restored_step = 7
        arguments = {"model": "eusr", "scales": scales, "train_path": "here", **SIZES}
        arguments |= methods[name].settings
        convert_weights.store(methods[name], arguments, root / "eusr/weights" / f"{name}.h5")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained_weights, "ROOT", root)
        yield methods


def parse(*argv, default_weights=None):
    """The settings and the selection of a command that uses a model."""
    argv = ["predict_folder.py", *argv]
    with settings.fresh_flags():
        common_flags.define_selection_flags(with_dataloader=False)
        predict_folder.define_flags(with_model=True)
        selection = registry.select(argv, False, default_weights=default_weights)
        flags.FLAGS(argv)
        return settings.parsed(), selection


def test_they_are_16_bits_and_tell_what_they_are(stored):
    path = trained_weights.find("tiny")
    with h5py.File(path) as file:
        kinds = set()
        file.visititems(lambda _, item: kinds.add(getattr(item, "dtype", None)))
    assert kinds == {None, np.dtype("float16")}
    expected = {"model": "eusr", "scales": [2, 4], "eusr_model_scales": [2, 4], **SIZES}
    assert run_folder.read_arguments(path) == expected
    values, selection = parse("--weights=tiny")
    method = selection.restore(values)
    assert method.restored_step == 7
    assert (selection.model_name, method.scales) == ("eusr", (2, 4))
    some, selection = parse("--weights=tiny", "--scales=4")
    assert selection.restore(some).generator.scales == (2, 4)
    expected = [v.numpy().astype("float16") for v in stored["tiny"].generator.variables]
    for variable, value in zip(method.generator.variables, expected, strict=True):
        assert variable.dtype == "float32"
        np.testing.assert_array_equal(variable, value)


@pytest.mark.usefixtures("stored")
def test_a_file_that_is_another_or_missing_is_refused(tmp_path, monkeypatch):
    shutil.copytree(trained_weights.ROOT / "eusr", tmp_path / "eusr")
    monkeypatch.setattr(trained_weights, "ROOT", tmp_path)
    path = trained_weights.find("tiny")
    path.write_bytes(path.read_bytes() + b"0")
    with pytest.raises(ValueError, match=r"tiny\.h5 is not the file that came with the project"):
        parse("--weights=tiny")
    path.unlink()
    with pytest.raises(FileNotFoundError):
        load("tiny")


@pytest.mark.usefixtures("stored")
def test_the_scale_chooses_where_nothing_is_named(tmp_path):
    assert [trained_weights.for_scale(scale) for scale in ("4", "2", "1", "8", None)] == [
        *("tiny", "tiny", "repairing", None, None)
    ]
    photo = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    PIL.Image.fromarray(photo).save(tmp_path / "photo.png")
    arguments = [f"--input_path={tmp_path}/photo.png", f"--output_path={tmp_path}/out"]
    values, selection = parse(*arguments, "--scale=1", default_weights="repairing")
    assert predict_folder.main(values, selection) == 0
    written = image_files.read_rgb(tmp_path / "out" / "photo.png")
    np.testing.assert_array_equal(written, load("repairing").repair(photo))
    # A named model is another matter, and weights are no default of it.
    values, selection = parse("--model=eusr", default_weights="repairing")
    with pytest.raises(ValueError, match="--weights=tiny or --weights=repairing"):
        selection.restore(values)


@pytest.mark.usefixtures("stored")
def test_messages_and_help_name_them():
    with pytest.raises(ValueError, match=r"--model is missing.*--weights=tiny"):
        parse()
    with pytest.raises(ValueError, match=r"--weights=other needs --model, .*: tiny, "):
        parse("--weights=other")
    with pytest.raises(ValueError, match="two ways to say the same"):
        parse("--weights=tiny", "--restore_path=run")
    with pytest.raises(flags.Error, match="it must be one of tiny, repairing"):
        parse("--model=eusr", "--weights=other")
    with settings.fresh_flags():
        eusr.define_flags()
        assert "tiny, repairing" in flags.FLAGS["weights"].help


def test_only_what_16_bits_hold_is_stored(tmp_path):
    method = create([2])
    method.generator.variables[0].assign(1e6 + method.generator.variables[0])
    with pytest.raises(ValueError, match="float16 cannot"):
        convert_weights.store(method, {}, tmp_path / "a.h5")
    with pytest.raises(ValueError, match=r"--output_path must be NAME\.h5"):
        convert_weights.store(method, {}, tmp_path / "a.weights.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_stores_the_averages_of_a_run(trained, tmp_path):
    from tests import commands

    path = tmp_path / "mine.h5"
    arguments = (f"--restore_path={trained}", f"--output_path={path}")
    output = commands.run("-m", "misc.convert_weights", *arguments)
    assert "values of eusr, step 24" in output
    digest = json.loads((tmp_path / "digests.json").read_text())
    assert list(digest) == ["mine"]
    assert "there already" in commands.run("-m", "misc.convert_weights", *arguments, status=1)
    assert run_folder.read_arguments(path)["scales"] == [2, 4]
    pixels = np.full((8, 8, 3), 90, np.uint8)
    near = load(path).upscale(pixels, 2).astype(int) - load(trained).upscale(pixels, 2)
    assert np.abs(near).max() <= 1
