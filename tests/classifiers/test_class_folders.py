"""Training on files: random windows, decoding side by side, broken images."""

import functools

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from classifiers import random_resized_crop
from classifiers.dataloaders import class_folders, imagenet_c, tiny_imagenet
from misc import dataset_preprocessing
from misc.images import engines, preprocessing
from misc.training.settings import Settings

# Every image has one colour of its own, whatever is cut out of it.
CLASSES = ("cat", "dog", "owl")
PER_CLASS = 8


def colour(label, number):
    return (80 * label, 30 * number, 7)


@pytest.fixture
def folder(tmp_path):
    for label, name in enumerate(CLASSES):
        (tmp_path / name).mkdir()
        for number in range(PER_CLASS):
            image = PIL.Image.new("RGB", (30 + number, 24), colour(label, number))
            image.save(tmp_path / name / f"{number}.png")
    return tmp_path


def settings(path, **values):
    return Settings(
        {
            "data_path": str(path),
            "data_test_path": None,
            "data_resize": None,
            "data_crop": 16,
            "data_training_crop": "random_resized",
            "data_crop_area": list(random_resized_crop.AREA),
            "data_interpolation": "bilinear",
            "quick": False,
            "data_cached": False,
            "data_skip_broken": False,
            "data_validation": "held_out",
            "data_held_out": 0.25,
            "batch_size": 6,
            "evaluation_batch_size": 5,
            "num_classes": 3,
        }
        | values
    )


def take(flags, count, split="train", seed=1, **kwargs):
    data = class_folders.create_data(flags)
    if split == "train":
        batches = data.training_batches(seed, **kwargs)
    else:
        batches = data.evaluation_batches(split)
    return [{k: v.numpy() for k, v in batch.items()} for batch in batches.take(count)]


def assert_labels_fit(batches):
    for batch in batches:
        assert batch["image"].shape[1:] == (16, 16, 3)
        np.testing.assert_array_equal(batch["image"][:, 3, 5, 0], 80 * batch["label"])
        assert (np.ptp(batch["image"], axis=(1, 2)) == 0).all()


def paint_gradients(folder):
    ramp = np.tile(np.arange(200, dtype=np.uint8)[None, :, None], [180, 1, 3])
    for path in folder.glob("*/*.png"):
        PIL.Image.fromarray(ramp).save(path)


@pytest.mark.slow
def test_step_n_shows_the_same_wherever_a_run_starts_and_on_any_number_of_hosts(folder):
    paint_gradients(folder)
    flags = settings(folder)
    whole = take(flags, 4)
    later = take(flags, 1, first_step=3)
    halves = [take(flags, 1, shard=(index, 2)) for index in range(2)]
    for name in ("image", "label"):
        for one, other in zip(whole[3:], later, strict=True):
            np.testing.assert_array_equal(one[name], other[name])
        joined = np.concatenate([half[0][name] for half in halves])
        np.testing.assert_array_equal(joined, whole[0][name])
    # The windows of an image differ between images, steps and seeds.
    starts = [image[0, 0, 0] for batch in whole for image in batch["image"]]
    assert len(set(starts)) > len(starts) / 2
    assert starts != [image[0, 0, 0] for b in take(flags, 4, seed=2) for image in b["image"]]
    assert len({image[0, -1, 0] - image[0, 0, 0] for image in whole[0]["image"]}) > 3


def test_evaluations_see_the_centre(folder):
    paint_gradients(folder)
    central = take(settings(folder, data_training_crop="centre"), 2, "validation")
    for one, other in zip(take(settings(folder), 2, "validation"), central, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
    trained = take(settings(folder, data_training_crop="centre"), 1)[0]["image"]
    np.testing.assert_array_equal(trained, np.tile(trained[:1], [6, 1, 1, 1]))


def test_random_squares_have_the_size_of_evaluations_and_any_place(folder):
    # What a place looks like tells it.
    gradient = np.indices((24, 36)).transpose(1, 2, 0) * 5
    pixels = np.concatenate([gradient, np.zeros((24, 36, 1))], axis=2).astype(np.uint8)
    for path in folder.glob("*/*.png"):
        PIL.Image.fromarray(pixels).save(path)
    flags = settings(folder, data_training_crop="random", data_resize=24, data_crop=16)
    batches = take(flags, 20)
    corners = np.concatenate([batch["image"][:, 0, 0, :2] for batch in batches]) / 5
    for corner, image in zip(corners, np.concatenate([b["image"] for b in batches]), strict=True):
        top, left = corner.astype(int)
        np.testing.assert_array_equal(image, pixels[top : top + 16, left : left + 16])
    np.testing.assert_array_equal(corners.min(axis=0), [0, 0])
    np.testing.assert_array_equal(corners.max(axis=0), [8, 20])


def test_the_area_of_windows_can_be_chosen(folder):
    paint_gradients(folder)
    (batch,) = take(settings(folder, data_crop_area=[0.9, 1.0]), 1)
    assert (batch["image"][:, 0, -1, 0] - batch["image"][:, 0, 0, 0]).min() > 140
    for area in ([0.0, 1.0], [0.5, 0.2], [0.5], [0.5, 1.5]):
        with pytest.raises(ValueError, match=r"--data_crop_area takes two shares"):
            class_folders.create_data(settings(folder, data_crop_area=area))


@pytest.mark.parametrize("crop", class_folders.TRAINING_CROPS)
def test_broken_images_end_a_run_and_are_named(crop, folder):
    (folder / "dog" / "3.png").write_bytes(b"no image")
    flags = settings(folder, data_training_crop=crop, data_held_out=0.0)
    message = r"Cannot read the image .*dog/3\.png.*--data_skip_broken"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message) as raised:
        take(flags, 4)
    assert "such images out. --data" not in str(raised.value)
    flags |= {"data_cached": True, "data_training_crop": "centre"}
    with pytest.raises(ValueError, match=message):
        take(flags, 1)


@pytest.mark.slow
def test_skipped_images_are_the_same_in_memory_and_from_files(folder):
    # One that is trained on and one that is held out, both in a class of their own.
    before = take(settings(folder, data_held_out=0.25), 9, "validation")
    held_out = [tuple(image[0, 0]) for batch in before for image in batch["image"]]
    lost = next(n for n in range(PER_CLASS) if colour(1, n) not in held_out)
    lost_too = next(n for n in range(PER_CLASS) if colour(2, n) in held_out)
    (folder / "dog" / f"{lost}.png").write_bytes(b"no image")
    content = (folder / "owl" / f"{lost_too}.png").read_bytes()
    (folder / "owl" / f"{lost_too}.png").write_bytes(content[: len(content) // 2])

    flags = settings(folder, data_skip_broken=True, data_training_crop="centre")
    from_files = {split: take(flags, 7, split) for split in ("train", "validation")}
    flags |= {"data_cached": True}
    for split, batches in from_files.items():
        for one, other in zip(batches, take(flags, 7, split), strict=True):
            for name, value in one.items():
                np.testing.assert_array_equal(value, other[name])
        assert_labels_fit(batches)
    assert all(len(batch["label"]) == 6 for batch in from_files["train"])
    kept = [tuple(i[0, 0]) for batch in from_files["validation"] for i in batch["image"]]
    assert kept == [one for one in held_out if one != colour(2, lost_too)]
    flags |= {"data_training_crop": "random_resized"}
    for one, other in zip(take(flags, 7), from_files["train"], strict=True):
        # Features of whole images, which are remembered by this, would be wrong for windows.
        assert "index" not in one
        for name in ("image", "label"):
            np.testing.assert_array_equal(one[name], other[name])
    assert class_folders.create_data(flags).count_images() == 18


@pytest.mark.parametrize("cached", [True, False])
def test_a_folder_of_broken_images_alone_is_an_error(cached, folder):
    for path in folder.glob("*/*.png"):
        path.write_bytes(b"no image")
    flags = settings(folder, data_skip_broken=True, data_training_crop="centre")
    flags |= {"data_cached": cached}
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="All 18 images are"):
        take(flags, 1)


def test_tiny_imagenet_leaves_broken_images_out(tmp_path):
    for wnid in ("n01", "n02"):
        (tmp_path / "train" / wnid / "images").mkdir(parents=True)
        for number in range(4):
            image = PIL.Image.new("RGB", (64, 64), (80 * (wnid == "n02"), 0, 0))
            image.save(tmp_path / "train" / wnid / "images" / f"{number}.JPEG")
    (tmp_path / "train" / "n01" / "images" / "2.JPEG").write_bytes(b"")
    (tmp_path / "val" / "images").mkdir(parents=True)
    (tmp_path / "val" / "val_annotations.txt").write_text("a.JPEG\tn01\nb.JPEG\tn02\n")
    PIL.Image.new("RGB", (64, 64)).save(tmp_path / "val" / "images" / "b.JPEG")
    flags = settings(tmp_path, num_classes=2, data_held_out=0.25, batch_size=3)
    with pytest.raises(ValueError, match=r"n01/images/2\.JPEG.*--data_skip_broken"):
        tiny_imagenet.create_data(flags).training_batches(0)
    data = tiny_imagenet.create_data(flags | {"data_skip_broken": True})
    (batch,) = list(data.evaluation_batches("test"))
    np.testing.assert_array_equal(batch["label"], [1])
    for batch in data.training_batches(0).take(4):
        np.testing.assert_allclose(batch["image"][:, 0, 0, 0], 80 * batch["label"], atol=2)


def test_the_folders_tell_the_number_of_classes(folder, tmp_path):
    def found(flags):
        return class_folders.create_data(flags).settings

    assert found(settings(folder, num_classes=None)) == {"num_classes": 3, "data_resize": 18}
    alone = settings(None, data_path=None, data_test_path=str(folder), num_classes=None)
    assert found(alone)["num_classes"] == 3
    assert sum(len(batch["label"]) for batch in take(alone, 9, "test")) == 24
    with pytest.raises(ValueError, match=r"--data_path is missing"):
        take(alone, 1)
    given = settings(folder, num_classes=7, data_crop=224)
    assert found(given | {"data_resize": 0}) == {"data_resize": 0}
    assert found(given) == {"data_resize": 256}
    with pytest.raises(
        ValueError, match=r"The data have 3 classes.*--num_classes=7.*--class_names"
    ):
        take(given, 1)
    with pytest.raises(ValueError, match=r"--data_resize=10 leaves less .* --data_crop=16"):
        found(settings(folder, data_resize=10))
    for severity in (1, 2):
        for name in CLASSES:
            (tmp_path / "stored" / "fog" / str(severity) / name).mkdir(parents=True)
    stored = settings(tmp_path / "stored", num_classes=None, data_corruptions=None, data_resize=0)
    assert imagenet_c.create_data(stored).settings == {"num_classes": 3}


def store(folder, output, degradation, kind="decoded", **values):
    """Stores the images of a folder of classes as misc.dataset_preprocessing does."""
    splits = preprocessing.find_splits(folder)
    shape = {"resize": 20, "crop": 16, "size": 16} | values
    manifest = preprocessing.create_manifest(splits, degradation, kind, **shape)
    executor = functools.partial(engines.open_executor, "local", 2)
    dataset_preprocessing.preprocess(
        folder, output, splits, manifest, (1, 1), executor, False, False
    )


def paint_noise(folder):
    random = np.random.default_rng(0)
    for path in folder.glob("*/*.png"):
        pixels = random.integers(0, 256, (6, 8, 3), np.uint8)
        PIL.Image.fromarray(pixels).resize((40, 30), PIL.Image.Resampling.BICUBIC).save(path)


def collect(data):
    batches = {split: data.evaluation_batches(split) for split in ("validation", "test")}
    batches["train"] = data.training_batches(1).take(4)
    return {
        split: [{name: np.asarray(value) for name, value in batch.items()} for batch in found]
        for split, found in batches.items()
    }


def assert_equal_batches(first, second, names):
    for split, batches in first.items():
        for one, other in zip(batches, second[split], strict=True):
            for name in names:
                np.testing.assert_array_equal(one[name], other[name])


def test_stored_images_are_read_instead_of_clean_ones(folder, tmp_path_factory):
    paint_noise(folder)
    clean = settings(
        folder,
        data_test_path=str(folder),
        data_training_crop="centre",
        data_interpolation="bicubic",
        data_resize=20,
    )
    on_the_fly = collect(class_folders.create_data(clean))
    outputs = {}
    for kind in ("decoded", "bitstreams"):
        output = tmp_path_factory.mktemp(kind)
        store(folder, output, "jpeg:20,p=0.7", kind)
        # Size and interpolation are the set's, whatever the flags' defaults are.
        flags = clean | {"data_degraded_path": str(output), "data_interpolation": "bilinear"}
        for cached in (False, True) if kind == "decoded" else (False,):
            data = class_folders.create_data(flags | {"data_cached": cached})
            outputs[kind, cached] = collect(data)
            assert_equal_batches(outputs[kind, cached], on_the_fly, ["label", "index"])
        assert_equal_batches(collect(data.clean()), on_the_fly, ["image", "label", "index"])
        assert data.settings["data_interpolation"] == "bicubic"
        assert data.settings["stored_degradation"] == "jpeg:20,p=0.7"
        assert data.describe()["resize"] == 20
    for others in outputs.values():
        assert_equal_batches(outputs["decoded", False], others, ["image", "bytes"])
    for split, batches in outputs["decoded", False].items():
        sizes = np.concatenate([batch["bytes"] for batch in batches])
        assert 0 < np.count_nonzero(sizes) < len(sizes)
        for batch, before in zip(batches, on_the_fly[split], strict=True):
            same = (batch["image"] == before["image"]).all(axis=(1, 2, 3))
            np.testing.assert_array_equal(same, batch["bytes"] == 0)
    data = class_folders.create_data(clean)
    assert data.clean() is data


def test_places_in_the_split_stay_when_some_or_others_come_first(folder):
    # Every image has one colour of its own.
    flags = settings(folder, data_test_path=str(folder), data_training_crop="centre")
    for values in ({}, {"quick": True}, {"reestimated_prior": 4}):
        data = class_folders.create_data(flags | values)
        for batch in data.evaluation_batches("test"):
            label, number = divmod(batch["index"].numpy(), PER_CLASS)
            np.testing.assert_array_equal(batch["label"], label)
            np.testing.assert_array_equal(batch["image"][:, 3, 5, 1], 30 * number)
    assert (number[1:] < number[:-1]).any()


def test_what_does_not_fit_a_stored_set_is_refused(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("set")
    store(folder, output, "jpeg:20")
    stored = settings(folder, data_degraded_path=str(output), data_training_crop="centre")
    for values, message in (
        ({"data_training_crop": "random"}, "--data_degraded_path takes whole central squares"),
        ({"degradations": ["jpeg:5"]}, "--degradations would degrade the stored images"),
        ({"data_degraded_path": str(folder / "none")}, "there is no such folder"),
    ):
        with pytest.raises(ValueError, match=message):
            class_folders.create_data(stored | values)
    given = Settings((stored | {"data_crop": 32}).to_dict(), given=["data_crop"])
    with pytest.raises(ValueError, match=r"was made with --data_crop=16\. Received: 32"):
        class_folders.create_data(given)
    store(folder, output / "turned", "jpeg:20", upright=False)
    with pytest.raises(ValueError, match="images that were not turned as EXIF says"):
        take(stored | {"data_degraded_path": str(output / "turned")}, 1)
    (folder / "cat" / "0.png").rename(folder / "cat" / "9.png")
    with pytest.raises(ValueError, match=r"1 of these are not in the set, such as cat/9\.png"):
        take(stored, 1)


def test_squares_are_resized_for_networks_that_take_less(folder):
    paint_noise(folder)
    values = {"data_resize": 24, "data_crop": 20, "data_size": 8, "data_interpolation": "bicubic"}
    flags = settings(folder, data_test_path=str(folder), data_training_crop="centre", **values)
    batch = take(flags, 1, "test")[0]
    for image, path in zip(batch["image"], sorted(folder.glob("*/*.png")), strict=False):
        expected = PIL.Image.open(path).resize((32, 24), PIL.Image.Resampling.BICUBIC)
        expected = expected.crop((6, 2, 26, 22)).resize((8, 8), PIL.Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(image, np.asarray(expected))
    with pytest.raises(ValueError, match="--data_size takes whole central squares"):
        class_folders.create_data(flags | {"data_training_crop": "random"})
