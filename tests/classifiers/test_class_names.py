"""Names of classes, tables of labels, and choices of images: evaluations of a part of the data."""

import json

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers import class_names, label_files, subsets
from classifiers.dataloaders import class_folders, imagenet_c
from misc.training.settings import Settings

NAMES = ["n01440764", "n01443537", "n01484850", "n02012849", "n03126707"]


def test_imagenets_classes():
    names = class_names.read("imagenet")
    assert len(names) == 1000
    assert list(names) == sorted(names)
    # Numbers that PyTorch and Keras document.
    assert next(iter(names.items())) == ("n01440764", "tench")
    assert [list(names).index(name) for name in ("n02012849", "n03126707")] == [134, 517]
    assert names["n02012849"] == names["n03126707"] == "crane"
    assert class_names.are_imagenet(NAMES)
    assert not class_names.are_imagenet(["cat"])


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.txt", "# order of the outputs\ncat\npolar bear\n\n"),
        ("a.json", json.dumps(["cat", "polar bear"])),
        ("b.json", json.dumps({"1": ["polar bear", "bear"], "0": ["cat", "tabby"]})),
        ("c.json", json.dumps({"cat": "tabby", "polar bear": "bear"})),
    ],
)
def test_names_from_files(file, text, tmp_path):
    (tmp_path / file).write_text(text)
    assert list(class_names.read(tmp_path / file)) == ["cat", "polar bear"]


def test_synsets_have_words(tmp_path):
    (tmp_path / "words.txt").write_text("n01440764 tench, Tinca tinca\nn01443537 goldfish\n")
    words = {"n01440764": "tench, Tinca tinca", "n01443537": "goldfish"}
    assert class_names.read(tmp_path / "words.txt") == words


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["a", "a"]', "holds the class 'a' twice"),
        ("[]", "holds no names"),
        ("[1, 2]", "should hold a list of names"),
        ('{"a": 3}', "should hold a list of names"),
        ("3", "should hold a list of names"),
        ("{", "is damaged"),
    ],
)
def test_wrong_names(text, message, tmp_path):
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(ValueError, match=rf"names\.json.*{message}"):
        class_names.read(tmp_path / "names.json")
    with pytest.raises(FileNotFoundError, match="imagenet or a file"):
        class_names.read(tmp_path / "no.txt")


@given(st.lists(st.integers(0, 5), max_size=60), st.integers(1, 70), st.integers(0, 9))
def test_choices_are_balanced(labels, count, seed):
    chosen = subsets.choose(labels, count, seed)
    assert len(chosen) == len(set(chosen)) == min(count, len(labels))
    assert list(chosen) == sorted(chosen)
    of_class = np.bincount(np.array(labels, int)[chosen], minlength=6)
    left = np.bincount(labels, minlength=6) - of_class if labels else np.zeros(6)
    # A class that has any left is not behind another by more than one.
    assert all(
        of_class.max(initial=0) - n <= 1 for n, more in zip(of_class, left, strict=True) if more
    )
    assert set(subsets.choose(labels, count - 1, seed)) <= set(chosen)


@pytest.fixture
def photos(tmp_path):
    """Three of five classes, with 1, 2 and 3 photos, of grey level 10 * class + number."""
    for label in (1, 2, 4):
        (tmp_path / "folders" / NAMES[label]).mkdir(parents=True)
        for number in range({1: 1, 2: 2, 4: 3}[label]):
            image = PIL.Image.new("L", (20, 18), 10 * label + number)
            image.save(tmp_path / "folders" / NAMES[label] / f"{label}_{number}.png")
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    return tmp_path


def settings(photos, **values):
    common = {
        "data_path": None,
        "data_test_path": str(photos / "folders"),
        "data_resize": None,
        "data_crop": 16,
        "data_training_crop": "centre",
        "data_crop_area": [0.5, 1.0],
        "data_interpolation": "bilinear",
        "data_cached": None,
        "data_skip_broken": False,
        "data_validation": "held_out",
        "data_held_out": 0.25,
        "batch_size": 2,
        "evaluation_batch_size": 4,
        "class_names": str(photos / "names.txt"),
    }
    return Settings(common | values)


def seen(batches):
    found = [
        (int(b["label"][i]), float(b["image"][i, 3, 3, 0]))
        for b in batches
        for i in range(len(b["label"]))
    ]
    return sorted(found)


def test_folders_of_some_classes_have_the_networks_numbers(photos):
    data = class_folders.create_data(settings(photos))
    batches = data.evaluation_batches("test")
    assert seen(batches) == [(1, 10.0), (2, 20.0), (2, 21.0), (4, 40.0), (4, 41.0), (4, 42.0)]
    assert batches.class_names == NAMES
    assert batches.classes_present == [1, 2, 4]
    assert data.settings["num_classes"] == 5

    few = class_folders.create_data(settings(photos, max_images=3, seed=1))
    batches = few.evaluation_batches("test")
    assert [label for label, _ in seen(batches)] == [1, 2, 4]
    assert batches.classes_present == [1, 2, 4]

    (photos / "names.txt").write_text("\n".join(NAMES[:4]))
    with pytest.raises(ValueError, match=r"--class_names=.*names\.txt does not name n03126707"):
        class_folders.create_data(settings(photos)).evaluation_batches("test")


def test_stored_corruptions_of_some_classes(photos):
    (photos / "stored" / "fog").mkdir(parents=True)
    (photos / "folders").rename(photos / "stored" / "fog" / "3")
    flags = settings(photos, data_path=str(photos / "stored"), data_corruptions=None, quick=False)
    batches = imagenet_c.create_data(flags | {"data_resize": 0}).evaluation_batches("test")
    assert [label for label, _ in seen(batches)] == [1, 2, 2, 4, 4, 4]
    assert batches.classes_present == [1, 2, 4]
    with pytest.raises(ValueError, match=r"have 3 classes.*--num_classes=5.*--class_names"):
        imagenet_c.create_data(flags | {"class_names": None, "num_classes": 5})


@pytest.mark.parametrize(("name", "dark"), [(NAMES[1], "left"), ("dog", "right")])
def test_imagenet_is_read_as_it_is_stored(name, dark, tmp_path):
    """Published figures leave EXIF out; other photos are turned upright."""
    turned = PIL.Image.Exif()
    turned[0x0112] = 6  # by 90 degrees, clockwise
    pixels = np.full((20, 20), 250, np.uint8)
    pixels[:10, :10] = 0
    (tmp_path / name).mkdir()
    PIL.Image.fromarray(pixels).save(tmp_path / name / "a.png", exif=turned)
    flags = settings(tmp_path, data_test_path=str(tmp_path), class_names=None, data_resize=16)
    ((image,),) = (b["image"] for b in class_folders.create_data(flags).evaluation_batches("test"))
    assert ("left" if image[0, 0, 0] < 20 else "right" if image[0, -1, 0] < 20 else "") == dark


TABLES = {
    "names.csv": "file,class\n1_0.png,n01443537\n2_0.png,n01484850\n",
    "numbers.csv": "1_0.png,1\n2_0.png,2\n",
    "val.txt": "1_0.png 1\n2_0.png 2\n",
    "tab.tsv": "2_0\tn01484850\n1_0\tn01443537\n",
    "LOC_val_solution.csv": "ImageId,PredictionString\n"
    "1_0,n01443537 1 2 3 4 \n2_0,n01484850 1 2 3 4 5 6 7 8\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_a_flat_folder_with_a_table(name, photos):
    flat = photos / "flat"
    flat.mkdir()
    for path in (photos / "folders").glob("*/*"):
        path.rename(flat / path.name)
    (photos / name).write_text(TABLES[name])
    flags = settings(photos, data_test_path=str(flat), data_test_labels=str(photos / name))
    batches = class_folders.create_data(flags).evaluation_batches("test")
    assert seen(batches) == [(1, 10.0), (2, 20.0)]
    assert batches.classes_present == [1, 2]
    # Without names the classes are those of the table.
    data = class_folders.create_data(flags | {"class_names": None})
    first = 1 if name in ("numbers.csv", "val.txt") else 0
    assert [label for label, _ in seen(data.evaluation_batches("test"))] == [first, first + 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1_0.png,n01443537\nx.png,n01443537\n", r"line 2 names 'x\.png', which is not in"),
        ("1_0.png,n09999999\n", "line 1 has the class 'n09999999', which is none of the 5"),
        ("1_0.png,5\n", "line 1 has the class '5'"),
        ("490\n361\n", "line 1 should hold a file's name and its class.*sort_into_classes"),
        ("", "None of its lines"),
        ("file,class\n", "None of its lines"),
    ],
)
def test_wrong_tables(text, message, photos):
    (photos / "labels.csv").write_text(text)
    folder = photos / "folders" / NAMES[1]
    with pytest.raises(ValueError, match=rf"--data_test_labels=.*labels\.csv.*{message}"):
        label_files.read(photos / "labels.csv", folder, NAMES)
