"""Images of one folder in folders of their classes, whatever tells the classes."""

import io
import os
import shutil

import numpy as np
import PIL.Image
import pytest
import scipy.io
import tensorflow as tf

from misc import sort_into_classes
from misc.images import files
from tests import forks

WNIDS = ["n01440764", "n01443537", "n01484850"]
NUMBERS = [2, 3, 1, 2, 1]


def name(number):
    return f"ILSVRC2012_val_{number:08d}"


@pytest.fixture
def raw(tmp_path):
    """A folder of five images, and beside it all that tells their classes."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "xml").mkdir()
    for number, label in enumerate(NUMBERS, start=1):
        image = PIL.Image.new("RGB", (4, 4), (10 * number, 0, 0))
        image.save(tmp_path / "raw" / f"{name(number)}.JPEG", "JPEG")
        with open(tmp_path / "raw" / f"{name(number)}.JPEG", "ab") as file:
            file.write(bytes(3000))
        box = f"<object><name>{WNIDS[label - 1]}</name></object>"
        (tmp_path / "xml" / f"{name(number)}.xml").write_text(f"<annotation>{2 * box}</annotation>")
    (tmp_path / "numbers.txt").write_text("".join(f"{number}\n" for number in NUMBERS))
    (tmp_path / "wnids.txt").write_text("\n".join(WNIDS[number - 1] for number in NUMBERS))
    (tmp_path / "classes.txt").write_text("".join(f"{wnid} fish\n" for wnid in WNIDS))
    rows = [f"{name(n)},{WNIDS[label - 1]} 1 2 3 4" for n, label in enumerate(NUMBERS, start=1)]
    # Not in the order of the names.
    text = "\n".join(["ImageId,PredictionString", *rows[::-1]])
    (tmp_path / "solution.csv").write_text(text)
    kinds = [("ILSVRC2012_ID", int), ("WNID", object), ("num_children", int)]
    # As in the devkit: groups of classes follow, and the order is not that of the names.
    order = [(n + 1, wnid, 0) for n, wnid in enumerate(WNIDS)] + [(4, "n00001740", 3)]
    synsets = np.array(order, kinds)[:, None]
    scipy.io.savemat(tmp_path / "meta.mat", {"synsets": synsets})
    return tmp_path / "raw"


def check(raw, output):
    expected = {
        f"{WNIDS[label - 1]}/{name(number)}.JPEG" for number, label in enumerate(NUMBERS, start=1)
    }
    found = {str(path.relative_to(output)) for path in output.rglob("*.JPEG")}
    assert found == expected
    for number in range(1, 6):
        (path,) = output.glob(f"*/{name(number)}.JPEG")
        assert abs(PIL.Image.open(path).getpixel((0, 0))[0] - 10 * number) < 4


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ("numbers.txt", "meta.mat"),
        ("numbers.txt", "classes.txt"),
        ("wnids.txt", None),
        ("solution.csv", None),
        ("xml", None),
    ],
)
def test_every_kind_of_labels(raw, tmp_path, labels, classes):
    classes = classes and tmp_path / classes
    output = tmp_path / "val"
    assert sort_into_classes.sort(raw, output, tmp_path / labels, classes) == 5
    check(raw, output)
    for path in output.rglob("*.JPEG"):
        assert os.path.samefile(path, raw / path.name)


@pytest.mark.parametrize("how", sort_into_classes.HOW)
def test_what_was_stopped_goes_on(raw, tmp_path, how, monkeypatch):
    put, calls = sort_into_classes._put, []

    def put_twice(*arguments):
        if len(calls) >= 2:
            raise KeyboardInterrupt
        calls.append(put(*arguments))

    arguments = raw, tmp_path / "val", tmp_path / "wnids.txt", None, how
    monkeypatch.setattr(sort_into_classes, "_put", put_twice)
    with pytest.raises(KeyboardInterrupt):
        sort_into_classes.sort(*arguments)
    monkeypatch.undo()
    assert 2 <= len(list((tmp_path / "val").rglob("*.JPEG"))) < 5
    for _ in range(2):
        assert sort_into_classes.sort(*arguments) == 5
        check(raw, tmp_path / "val")
        assert len(list(raw.iterdir())) == (0 if how == "move" else 5)


def test_a_full_disk_loses_nothing(raw, tmp_path):
    arguments = raw, tmp_path / "val", tmp_path / "wnids.txt", None
    with forks.full_disk(2000), pytest.raises(files.DiskFullError, match="JPEG cannot be written"):
        sort_into_classes.sort(*arguments, "copy")
    assert not list((tmp_path / "val").rglob("*.JPEG"))
    sort_into_classes.sort(*arguments, "copy")
    check(raw, tmp_path / "val")


def test_nothing_is_done_where_something_is_missing(raw, tmp_path):
    (tmp_path / "short.txt").write_text("1\n2\n")
    (tmp_path / "beyond.txt").write_text("1\n2\n3\n4\n1\n")
    (tmp_path / "up.txt").write_text("..\n" * 5)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "few.csv").write_text(f"ImageId,PredictionString\n{name(1)},n01440764 1\n")
    (tmp_path / "damaged.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    shutil.copytree(tmp_path / "xml", tmp_path / "fewer")
    (tmp_path / "fewer" / f"{name(4)}.xml").unlink()
    shutil.copytree(tmp_path / "xml", tmp_path / "broken")
    (tmp_path / "broken" / f"{name(2)}.xml").write_text("<annotation>")
    for labels, classes, message in (
        ("short.txt", None, "one line for each of the 5 images. Received: 2"),
        ("numbers.txt", None, "--classes names the classes"),
        ("beyond.txt", "classes.txt", "beyond the 3 classes of .*: 4"),
        ("numbers.txt", "damaged.mat", r"damaged\.mat is not ImageNet's meta\.mat"),
        ("up.txt", None, r"'\.\.' cannot be the name of a folder"),
        ("other.csv", None, "should have the columns ImageId and PredictionString"),
        ("few.csv", None, r"has no class for 4 images, such as ILSVRC2012_val_00000002\.JPEG"),
        ("fewer", None, r"00000004\.xml is missing"),
        ("broken", None, r"00000002\.xml is no XML annotation"),
    ):
        classes = classes and tmp_path / classes
        with pytest.raises(ValueError, match=message):
            sort_into_classes.sort(raw, tmp_path / "val", tmp_path / labels, classes, "move")
    assert len(list(raw.iterdir())) == 5
    assert not (tmp_path / "val").exists()
    with pytest.raises(ValueError, match="another folder than"):
        sort_into_classes.sort(raw, raw, tmp_path / "wnids.txt")
    other = tmp_path / "val" / WNIDS[1] / f"{name(1)}.JPEG"
    files.write_text(other, "another file")
    with pytest.raises(ValueError, match="is there already, and is another file"):
        sort_into_classes.sort(raw, tmp_path / "val", tmp_path / "wnids.txt")
    assert other.read_text() == "another file"


@pytest.mark.slow  # makes a data set
def test_files_of_tensorflow_datasets_are_written_as_they_are(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets", reason="an optional source of data")
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=WNIDS),
            "file_name": tfds.features.Text(),
        }
    )

    def encode(value):
        file = io.BytesIO()
        PIL.Image.new("RGB", (6, 5), (value, 9, 9)).save(file, "JPEG", quality=40)
        return file.getvalue()

    content = {
        split: {
            "image": [encode(30 * n + first) for n in range(5)],
            "label": [number - 1 for number in NUMBERS],
            "file_name": [f"{split}_{n}.JPEG" for n in range(5)],
        }
        for split, first in (("train", 0), ("validation", 7))
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name="imagenet2012",
        version="5.1.0",
        features=features,
        split_datasets={
            split: tf.data.Dataset.from_tensor_slices(rows).map(
                lambda row: row | {"image": tf.io.decode_jpeg(row["image"])}
            )
            for split, rows in content.items()
        },
        data_dir=tmp_path / "tfds",
    )
    output = tmp_path / "imagenet"
    assert sort_into_classes.export("imagenet2012", tmp_path / "tfds", output) == 10
    for split, own in (("train", "train"), ("validation", "val")):
        for n, number in enumerate(NUMBERS):
            path = output / own / WNIDS[number - 1] / f"{split}_{n}.JPEG"
            pixels = np.asarray(PIL.Image.open(path))
            # The set encoded them once more.
            assert np.abs(pixels[..., 0] - 30.0 * n - (0 if split == "train" else 7)).max() < 6
    written = {path: path.stat().st_mtime_ns for path in output.rglob("*.JPEG")}
    victim = next(iter(written))
    content = victim.read_bytes()
    victim.write_bytes(content[:9])
    sort_into_classes.export("imagenet2012", tmp_path / "tfds", output)
    after = {path: path.stat().st_mtime_ns for path in output.rglob("*.JPEG")}
    assert {path for path in after if after[path] != written[path]} == {victim}
    assert victim.read_bytes() == content
    with pytest.raises(ValueError, match="there is no prepared data set in"):
        sort_into_classes.export("other", tmp_path / "tfds", output)
