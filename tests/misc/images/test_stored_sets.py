"""Stored sets that are damaged, unfinished, or of other images."""

import json

import numpy as np
import pytest

from misc.images import preprocessing, stored_sets

NAMES = ["a/1.jpg", "a/2.jpg", "b/1.jpg"]


@pytest.fixture
def folder(tmp_path):
    """A set of a folder val of three images of 4x4 pixels, of which one is in memory."""
    manifest = preprocessing.create_manifest({"val": NAMES}, "jpeg:30", crop=4, size=4)
    manifest.write(tmp_path)
    for number, name in enumerate(NAMES):
        path = (tmp_path / "val" / name).with_suffix(".ppm")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stored_sets.encode_ppm(np.full((4, 4, 3), number, np.uint8)))
    rows = [(name, name.replace("jpg", "ppm"), 7) for name in NAMES]
    stored_sets.write_index(tmp_path / "val", rows)
    return tmp_path


def find(folder, names=NAMES, split="clean/val"):
    return stored_sets.StoredSet(folder).find(folder / split, names)


def test_images_come_in_the_order_that_they_are_asked_for(folder):
    paths, sizes = find(folder, NAMES[::-1])
    np.testing.assert_array_equal(sizes, [7, 7, 7])
    stored = stored_sets.StoredSet(folder)
    assert [stored.read(path)[3, 3, 0] for path in paths] == [2, 1, 0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "[]",
        lambda text: text[:-20],
        lambda text: text.replace('"store"', '"shop"'),
        lambda text: text.replace('"decoded"', '"raw"'),
        lambda text: text.replace('"size": 4', '"size": "4"'),
        lambda text: text.replace('"size": 4', '"size": 0'),
        lambda text: text.replace('"images": 3', '"images": null'),
        lambda text: text.replace('"splits": {', '"splits": {"a": 1, '),
    ],
)
def test_a_damaged_manifest_is_an_error(folder, damage):
    path = folder / "manifest.json"
    text = path.read_text()
    path.write_text(damage(text))
    assert path.read_text() != text
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        stored_sets.StoredSet(folder)
    splits = {"val": NAMES}
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        preprocessing.prepare(folder, preprocessing.create_manifest(splits, "jpeg:30"))


def test_a_folder_without_a_manifest_is_no_set(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no set of .*manifest\.json is missing"):
        stored_sets.StoredSet(tmp_path)


def test_an_index_must_be_that_of_the_manifest(folder):
    index = folder / "val" / "index.csv"
    rows = [(name, name.replace("jpg", "ppm"), 7) for name in NAMES]
    for wrong in (rows[:2], rows[::-1], [*rows[:2], ("b/2.jpg", "b/1.ppm", 7)]):
        stored_sets.write_index(folder / "val", wrong)
        with pytest.raises(ValueError, match="does not fit the set's manifest"):
            find(folder)
    text = index.read_text()
    for wrong in ("", "a,b\n", text.replace("7", "x"), text.replace(",7", ""), text + '"'):
        index.write_text(wrong)
        with pytest.raises(ValueError, match=r"index\.csv is damaged"):
            find(folder)
    stored_sets.write_index(folder / "val", [(*row[:2], -1) for row in rows])
    with pytest.raises(ValueError, match="bytes are below 0"):
        find(folder)
    index.unlink()
    with pytest.raises(ValueError, match="the set is not finished"):
        find(folder)


def test_the_images_must_be_those_of_the_set(folder):
    with pytest.raises(ValueError, match=r"1 of these are not in the set, such as c/1\.jpg, and 0"):
        find(folder, [*NAMES, "c/1.jpg"])
    with pytest.raises(ValueError, match="0 of these are not in the set, and 1 of the set"):
        find(folder, NAMES[:2])
    with pytest.raises(ValueError, match=r"holds val, and nothing of .*/train"):
        find(folder, split="clean/train")


def test_damaged_images_are_named(folder):
    paths, _ = find(folder)
    stored = stored_sets.StoredSet(folder)
    content = paths[0].read_bytes()
    for damaged in (b"", content[:-1], content + b"x", content.replace(b"4 4", b"4 5")):
        paths[0].write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a/1\.ppm is damaged"):
            stored.read(paths[0])
    paths[0].unlink()
    with pytest.raises(ValueError, match=r"a/1\.ppm: No such file"):
        stored.read(paths[0])


def test_bit_streams_need_the_codec_that_wrote_them(tmp_path):
    manifest = preprocessing.create_manifest({"val": NAMES}, "jpeg:30", "bitstreams", size=4)
    manifest.write(tmp_path)
    stored = stored_sets.StoredSet(tmp_path)
    path = tmp_path / "a.bitstream"
    for content in (b"", b"no JPEG"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"Cannot decode .*a\.bitstream"):
            stored.read(path)
    content = json.loads((tmp_path / "manifest.json").read_text())
    for changes, message in (
        ({"codec": "JPEG by chance"}, "bit streams of JPEG by chance. jpeg:30 is JPEG 420 here"),
        ({"degradation": "blur:1"}, "cannot be decoded here"),
        ({"options": {"subsampling": 3}}, "subsampling must be one of"),
    ):
        (tmp_path / "manifest.json").write_text(json.dumps(content | changes))
        with pytest.raises(ValueError, match=message):
            stored_sets.StoredSet(tmp_path)
