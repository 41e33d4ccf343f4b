"""What teachers said, in files: built once, never used for others, rebuilt where damaged."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from classifiers import labelled_images, teacher_cache
from classifiers.labelled_images import LabelledImages
from misc.images import image_files
from tests import commands
from tests.classifiers.test_models import tiny_network

PIXELS = np.random.default_rng(1).integers(0, 256, (10, 8, 8, 3)).astype(np.uint8)
IMAGES = LabelledImages(PIXELS, np.zeros(10, np.int32), ["one"])


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(teacher_cache, "BLOCK", 4)


@pytest.fixture(scope="module")
def teacher():
    network = tiny_network()
    network.name = "tiny"
    return network


@pytest.fixture
def asked(teacher, monkeypatch):
    """A list that gets the number of images of each block that is computed."""
    counts = []
    compute = teacher_cache._Store._compute

    def count(store, number, images, *others):
        counts.append(number)
        return compute(store, number, images, *others)

    monkeypatch.setattr(teacher_cache._Store, "_compute", count)
    return counts


def open_outputs(folder, teacher, images=IMAGES, stage="logits"):
    return teacher_cache.open_outputs(folder, teacher, stage, images, "train", batch_size=3)


def files_in(folder):
    (path,) = folder.glob("*/*/outputs.npy")
    return path, path.with_name("outputs.json")


def test_outputs_are_those_of_the_teacher_and_are_computed_once(tmp_path, teacher, asked, capsys):
    expected = teacher(PIXELS.astype(np.float32), training=False)
    for _ in range(2):
        found = open_outputs(tmp_path, teacher)
        np.testing.assert_allclose(found.values, expected, atol=1e-5)
        index = np.array([9, 0, 9, 4])
        np.testing.assert_allclose(found.get(index), np.asarray(expected)[index], atol=1e-5)
    assert asked == [0, 1, 2]
    assert "computed anew" not in capsys.readouterr().out
    features = open_outputs(tmp_path, teacher, stage="stage1")
    assert features.values.shape == (10, 8, 8, 4)
    assert isinstance(features.values, np.memmap)


def _flip_a_bit(path):
    with open(path, "r+b") as file:
        file.seek(-2, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-2, os.SEEK_END)
        file.write(bytes([byte ^ 8]))


def _truncate(path):
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 100)


def _spoil_the_header(path):
    with open(path, "r+b") as file:
        file.write(b"nothing")


def _remove(path):
    path.unlink()


def _remove_the_description(path):
    path.with_name("outputs.json").unlink()


def _cut_the_description(path):
    path.with_name("outputs.json").write_text('{"network":')


ALL, SLOW = ([0, 1, 2],), pytest.mark.slow


@pytest.mark.parametrize(
    ("damage", "blocks", "message"),
    [
        (_flip_a_bit, [2], "1 of 3 parts are damaged"),
        (_truncate, [1, 2], "2 of 3 parts are damaged"),
        pytest.param(_spoil_the_header, *ALL, "3 of 3 parts are damaged", marks=SLOW),
        pytest.param(_remove, *ALL, "3 of 3 parts are damaged", marks=SLOW),
        pytest.param(_remove_the_description, *ALL, "description is missing", marks=SLOW),
        pytest.param(_cut_the_description, *ALL, "description is damaged", marks=SLOW),
    ],
)
def test_damage_is_named_and_mended(tmp_path, teacher, asked, capsys, damage, blocks, message):
    expected = np.array(open_outputs(tmp_path, teacher).values)
    path, _ = files_in(tmp_path)
    before = path.read_bytes()
    damage(path)
    del asked[:]
    capsys.readouterr()
    np.testing.assert_array_equal(open_outputs(tmp_path, teacher).values, expected)
    assert asked == blocks
    (line,) = capsys.readouterr().out.splitlines()
    assert message in line
    assert path.read_bytes() == before


def test_outputs_of_others_are_never_used(tmp_path, teacher, asked, capsys):
    first = open_outputs(tmp_path, teacher)
    kept = np.array(first.values)
    others = dataclasses.replace(IMAGES, images=PIXELS[::-1].copy())
    second = open_outputs(tmp_path, teacher, others)
    assert "belongs to other images" in capsys.readouterr().out
    np.testing.assert_allclose(second.values, kept[::-1], atol=1e-5)
    # Whoever reads the old file goes on with it.
    np.testing.assert_array_equal(first.values, kept)
    # Other weights have a file of their own; under a foreign name it is not taken.
    changed = tiny_network(2.0)
    changed.name = "tiny"
    del asked[:]
    open_outputs(tmp_path, changed, others)
    assert asked == [0, 1, 2]
    assert len(list(tmp_path.glob("tiny_logits/*"))) == 2
    theirs = teacher_cache.digest_network(changed)
    _, description = files_in_of(tmp_path, theirs)
    text = description.read_text().replace(theirs, teacher_cache.digest_network(teacher))
    description.write_text(text)
    open_outputs(tmp_path, changed, others)
    assert "belongs to another network" in capsys.readouterr().out


def files_in_of(folder, digest):
    (path,) = folder.glob(f"*/train_{digest[:8]}/outputs.npy")
    return path, path.with_name("outputs.json")


def test_what_a_network_computes_has_its_digest(teacher):
    digest = teacher_cache.digest_network(teacher)
    same = tiny_network()
    same.name = "tiny"
    same.set_weights(teacher.get_weights())
    assert teacher_cache.digest_network(same) == digest
    scaled = tiny_network(0.5)
    scaled.name = "tiny"
    scaled.set_weights(teacher.get_weights())
    assert teacher_cache.digest_network(scaled) != digest
    weights = same.get_weights()
    weights[0].flat[3] += 1e-6
    same.set_weights(weights)
    assert teacher_cache.digest_network(same) != digest


def test_files_count_by_name_size_and_time(tmp_path):
    for number in range(3):
        image_files.write_image(tmp_path / f"a/{number}.png", PIXELS[number])

    def digest(folder="a", names=(0, 1, 2), **settings):
        found = [(str(tmp_path / f"{folder}/{number}.png"), 0) for number in names]
        images = labelled_images.from_files(found, ["a"], 8, 8, False)
        return teacher_cache.digest_images(dataclasses.replace(images, **settings))

    first = digest()
    assert digest(skip_broken=True) == first
    assert len({first, digest(names=(0, 2, 1)), digest(crop=4), digest(resize=9)}) == 4
    (tmp_path / "a").rename(tmp_path / "b")
    assert digest("b") == first
    os.utime(tmp_path / "b/1.png", (1, 1))
    assert digest("b") != first


def test_an_interrupted_build_goes_on(tmp_path, teacher, asked, monkeypatch, capsys):
    compute = teacher_cache._Store._compute

    def stop(store, number, *others):
        if number == 2:
            raise KeyboardInterrupt
        return compute(store, number, *others)

    with monkeypatch.context() as patch:
        patch.setattr(teacher_cache._Store, "_compute", stop)
        with pytest.raises(KeyboardInterrupt):
            open_outputs(tmp_path, teacher)
    del asked[:]
    found = open_outputs(tmp_path, teacher)
    assert asked == [2]
    expected = teacher(PIXELS.astype(np.float32), training=False)
    np.testing.assert_allclose(found.values, expected, atol=1e-5)
    assert "computed anew" not in capsys.readouterr().out
    _, description = files_in(tmp_path)
    assert len(json.loads(description.read_text())["checksums"]) == 3


def test_broken_images_have_undefined_rows(tmp_path, teacher):
    whole = np.ones(10, bool)
    whole[4] = False
    found = open_outputs(tmp_path, teacher, dataclasses.replace(IMAGES, whole=whole))
    assert np.isnan(found.values[4]).all()
    assert np.isfinite(np.delete(found.values, 4, axis=0)).all()


HOLD = """
import sys
from misc.images import locks
with locks.hold(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_waits(tmp_path, teacher, monkeypatch, capsys):
    open_outputs(tmp_path, teacher)
    path, _ = files_in(tmp_path)
    command = [sys.executable, "-c", HOLD, str(path.parent)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=commands.ROOT, **pipes) as other:
        assert other.stdout.readline() == b"held\n"
        monkeypatch.setattr(teacher_cache.time, "sleep", lambda _: other.communicate())
        assert open_outputs(tmp_path, teacher).values.shape == (10, 5)
    assert f"is in use by process {other.pid}" in capsys.readouterr().out
