import io
import pickle

import cv2
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from classifiers import labelled_images, metrics, networks
from classifiers.dataloaders import (
    _cifar,
    cifar10,
    cifar100,
    class_folders,
    digits,
    imagenet_c,
    tiny_imagenet,
)
from misc.training import registry
from misc.training.settings import Settings

COMMON = {
    "batch_size": 8,
    "evaluation_batch_size": 100,
    "data_validation": "held_out",
    "data_held_out": 0.1,
    "num_classes": 10,
}


def settings(**values):
    return Settings(COMMON | values)


def take(module, flags, count, seed=1, **kwargs):
    batches = module.create_data(flags).training_batches(seed, **kwargs)
    return [{k: v.numpy() for k, v in batch.items()} for batch in batches.take(count)]


def evaluate(module, flags, split="test"):
    return list(module.create_data(flags).evaluation_batches(split))


def count_images(module, flags):
    return module.create_data(flags).count_images()


def assert_equal(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for name, value in a.items():
            np.testing.assert_array_equal(value, b[name])


def labels_of(batches):
    return np.concatenate([batch["label"] for batch in batches])


def test_independent_images_are_as_many_for_each_degradation():
    chosen = {"degradations": ["noise", "blur", "jpeg"], "copies_images": "independent"}
    (batch,) = take(digits, settings(**chosen), 1, 1)
    assert batch["image"].shape == (3 * 8, 32, 32, 3)
    assert len(set(batch["index"])) == 24
    shared = settings(**chosen | {"copies_images": "shared"})
    (batch,) = take(digits, shared, 1, 1)
    assert len(batch["image"]) == 8
    # An epoch of independent images has a third of the steps.
    assert digits.create_data(settings(**chosen)).images_per_step == 24
    assert digits.create_data(shared).images_per_step == 8


def test_digits_are_rgb_floats_with_labels():
    flags = settings()
    (batch,) = take(digits, flags, 1, 1)
    assert batch["image"].shape == (8, 32, 32, 3)
    assert batch["image"].dtype == np.float32
    assert batch["label"].dtype == np.int32
    assert 200 < batch["image"].max() <= 255
    test = evaluate(digits, flags)
    assert sum(len(b["label"]) for b in test) == 360
    assert len(test[-1]["label"]) == 60  # the last, partial batch is kept


def test_digits_are_normalised_by_their_own_figures():
    data = digits.read("train")
    mean, deviation = networks.NORMALISATIONS["digits"]
    assert data.images.mean() == pytest.approx(255 * mean[0], abs=0.1)
    assert data.images.std() == pytest.approx(255 * deviation[0], abs=0.1)


def test_an_epoch_holds_each_image_once_and_no_held_out_one():
    flags = settings(batch_size=1)
    count = count_images(digits, flags)
    epoch = take(digits, flags, count, 3)
    trained = {batch["image"].tobytes() for batch in epoch}
    held_out = [b["image"] for b in evaluate(digits, flags, "validation")]
    held_out = {image.numpy().tobytes() for batch in held_out for image in batch}
    assert not trained & held_out
    assert count + len(held_out) == 1437
    assert len(trained) == count
    kept, out = labelled_images.hold_out(np.repeat(np.arange(4), 50), 0.1)
    np.testing.assert_array_equal(np.bincount(np.repeat(np.arange(4), 50)[out]), [5] * 4)
    assert not set(kept) & set(out)


def test_every_nth_image_is_held_out_in_the_sets_order():
    flags = settings(data_validation="every_nth", data_held_out=0.02)
    whole = digits.create_data(flags | {"data_held_out": 0.0}).part("train").images
    data = digits.create_data(flags)
    np.testing.assert_array_equal(data.part("validation").images, whole[::50])
    kept = [image for number, image in enumerate(whole) if number % 50]
    np.testing.assert_array_equal(data.part("train").images, kept)
    data = digits.create_data(flags | {"data_held_out": 0.0})
    assert data.evaluation_batches("validation") is None


def test_stream_resumes_and_shards_exactly():
    flags = settings()
    whole = take(digits, flags, 6, 5)
    assert_equal(take(digits, flags, 2, 5, first_step=4), whole[4:])
    shards = [take(digits, flags, 3, 5, shard=(i, 2)) for i in range(2)]
    for full, *parts in zip(whole, *shards, strict=False):
        np.testing.assert_array_equal(full["image"], np.concatenate([p["image"] for p in parts]))
    other = take(digits, flags, 1, 6)
    assert (other[0]["image"] != whole[0]["image"]).any()
    with pytest.raises(ValueError, match="multiple of the number of hosts"):
        take(digits, flags, 1, shard=(0, 3))


def test_validating_on_the_test_set_trains_on_everything():
    flags = settings(data_validation="test")
    assert count_images(digits, flags) == 1437
    validation = evaluate(digits, flags, "validation")
    test = evaluate(digits, flags)
    np.testing.assert_array_equal(labels_of(validation), labels_of(test))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="Received: 'all'"):
        evaluate(digits, settings(), "all")
    with pytest.raises(ValueError, match="give --num_classes=10"):
        take(digits, settings(num_classes=7), 1)
    with pytest.raises(ValueError, match=r"--data_held_out=0\.001 leaves no image"):
        evaluate(digits, settings(data_held_out=0.001), "validation")
    with pytest.raises(ValueError, match=r"--batch_size=1000000000 of 32x32 pixels: .* Available"):
        digits.create_data(settings(batch_size=10**9))


def test_without_held_out_images_nothing_validates():
    flags = settings(data_held_out=0.0)
    assert digits.create_data(flags).evaluation_batches("validation") is None
    assert count_images(digits, flags) == 1437


def random_set(count, classes, seed):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 32, 32, 3), np.uint8)
    return images, (np.arange(count) % classes).astype(np.int32)


def write_cifar(folder, form, classes):
    """Writes a small set in one of the official forms; returns {split: (images, labels)}."""
    folder.mkdir()
    content = {
        "train": random_set(5 * 2 * classes, classes, 0),
        "test": random_set(classes, classes, 1),
    }
    for split, (images, labels) in content.items():
        rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        layout = _cifar.CIFAR10 if classes == 10 else _cifar.CIFAR100
        names = [name + ".bin" * (form == "binary") for name in layout.files[split]]
        if form == "npz":
            np.savez(folder / f"{split}.npz", images=images, labels=labels)
            continue
        for name, part, part_labels in zip(
            names,
            np.split(rows, len(names)),
            np.split(labels, len(names)),
            strict=True,
        ):
            if form == "python":
                record = {b"data": part, layout.label_key.encode(): part_labels.tolist()}
                (folder / name).write_bytes(pickle.dumps(record, protocol=2))
            else:
                columns = [part_labels[:, None]] * layout.label_bytes + [part]
                if layout.label_bytes == 2:
                    columns[0] = columns[0] // 5  # the coarse label comes first
                (folder / name).write_bytes(np.hstack(columns).astype(np.uint8).tobytes())
    return content


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("form", ["python", "binary", "npz"])
def test_cifar_in_every_form(form, classes, tmp_path):
    content = write_cifar(tmp_path / "data", form, classes)
    module = cifar10 if classes == 10 else cifar100
    layout = _cifar.CIFAR10 if classes == 10 else _cifar.CIFAR100
    flags = settings(
        data_path=str(tmp_path / "data"),
        data_tfds=False,
        num_classes=classes,
        data_validation="test",
    )
    images, labels = content["test"]
    batches = evaluate(module, flags)
    np.testing.assert_array_equal(np.concatenate([b["image"] for b in batches]), images)
    np.testing.assert_array_equal(labels_of(batches), labels)
    data = _cifar.read(layout, flags.data_path, False, "train")
    np.testing.assert_array_equal(data.images, content["train"][0])
    np.testing.assert_array_equal(data.labels, content["train"][1])
    assert count_images(module, flags) == len(labels) * 10


def test_cifar_finds_the_folder_that_the_archive_unpacks_to(tmp_path):
    write_cifar(tmp_path / "cifar-10-batches-py", "python", 10)
    flags = settings(data_path=str(tmp_path), data_tfds=False)
    assert count_images(cifar10, flags) == 90


def test_cifar_never_runs_what_a_file_names(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    (tmp_path / "test").write_bytes(pickle.dumps({b"data": Harmful()}, protocol=2))
    with pytest.raises(ValueError, match=r"names .*open, which is not allowed"):
        _cifar.read_python(tmp_path / "test", "fine_labels")
    assert not (tmp_path / "written").exists()


def test_cifar_names_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="--data_path"):
        count_images(cifar10, settings(data_path=None, data_tfds=False))
    with pytest.raises(FileNotFoundError, match="data_batch_1"):
        count_images(cifar10, settings(data_path=str(tmp_path), data_tfds=False))
    (tmp_path / "a.bin").write_bytes(b"12345")
    with pytest.raises(ValueError, match="3073 bytes each"):
        _cifar.read_binary(tmp_path / "a.bin", 1)
    (tmp_path / "a.npz").write_bytes(b"12345")
    with pytest.raises(ValueError, match="images and labels"):
        _cifar.read_npz(tmp_path / "a.npz")
    (tmp_path / "b").write_bytes(pickle.dumps({b"data": 1}, protocol=2))
    with pytest.raises(ValueError, match="no file of the python version"):
        _cifar.read_python(tmp_path / "b", "labels")


def test_cifar_names_a_damaged_file(tmp_path):
    write_cifar(tmp_path / "data", "python", 10)
    path = tmp_path / "data" / "data_batch_3"
    whole = path.read_bytes()
    (tmp_path / "data" / "batches.meta").write_bytes(pickle.dumps({b"other": 1}, protocol=2))
    with pytest.raises(ValueError, match=r"batches.meta should hold label_names"):
        _cifar.read(_cifar.CIFAR10, tmp_path / "data", False, "train")
    short = pickle.dumps({b"data": np.zeros((3, 3072), np.uint8), b"labels": [1]}, protocol=2)
    for content in (whole[: len(whole) // 2], b"", b"<html>", short):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"data_batch_3 is no file of the python version"):
            _cifar.read(_cifar.CIFAR10, tmp_path / "data", False, "train")
    path.unlink()
    with pytest.raises(FileNotFoundError, match="data_batch_3"):
        _cifar.read(_cifar.CIFAR10, tmp_path / "data", False, "train")
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 32, 32, 3), np.uint8), labels=[1])
    with pytest.raises(ValueError, match=r"a.npz must be one integer for each of the 2 images"):
        _cifar.read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("layout", [_cifar.CIFAR10, _cifar.CIFAR100], ids=lambda x: x.name)
def test_cifar_from_tensorflow_datasets(layout, tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets", reason="an optional source of data")
    builder = tfds.builder(layout.name, data_dir=tmp_path)
    stored = {
        split: random_set(12, layout.classes, seed) for split, seed in (("train", 0), ("test", 1))
    }
    content = {
        split: {"id": [f"{split}_{n}" for n in range(12)], "image": images, "label": labels}
        | ({"coarse_label": labels // 5} if layout.classes == 100 else {})
        for split, (images, labels) in stored.items()
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name=layout.name,
        version=str(builder.version),
        features=builder.info.features,
        split_datasets={s: tf.data.Dataset.from_tensor_slices(c) for s, c in content.items()},
        data_dir=tmp_path,
    )
    for split, (images, labels) in stored.items():
        data = _cifar.read(layout, tmp_path, True, split)
        # They are shuffled when they are stored.
        order = [np.flatnonzero((images == image).all(axis=(1, 2, 3)))[0] for image in data.images]
        assert sorted(order) == list(range(12))
        np.testing.assert_array_equal(data.labels, labels[order])


def write_photo(path, seed, size=(20, 24)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    path.write_bytes(file.getvalue())
    return pixels


@pytest.mark.parametrize("cached", [True, False])
def test_class_folders(tmp_path, cached):
    pixels = {
        (name, n): write_photo(tmp_path / name / f"{n}.png", seed=10 * n + len(name))
        for name in ("cat", "zebra")
        for n in range(6)
    }
    flags = settings(
        data_path=str(tmp_path),
        data_test_path=str(tmp_path),
        data_resize=0,
        data_crop=16,
        data_cached=cached,
        data_training_crop="centre",
        data_interpolation="bilinear",
        data_skip_broken=False,
        num_classes=2,
        data_held_out=0.5,
    )
    (batch,) = evaluate(class_folders, flags)
    np.testing.assert_array_equal(batch["label"], [0] * 6 + [1] * 6)
    np.testing.assert_array_equal(batch["image"][7], pixels["zebra", 1][2:18, 4:20])
    (batch,) = take(class_folders, flags, 1, 0)
    assert batch["image"].shape == (8, 16, 16, 3)
    flags |= {"data_test_path": None}
    held_out = evaluate(class_folders, flags)
    np.testing.assert_array_equal(labels_of(held_out), [0] * 3 + [1] * 3)


def test_class_folders_name_what_is_wrong(tmp_path):
    values = {"data_test_path": None, "data_resize": 0, "data_crop": 16, "data_cached": False}
    values |= {"data_training_crop": "centre", "data_skip_broken": False}
    values |= {"data_interpolation": "bilinear"}
    with pytest.raises(ValueError, match="--data_path"):
        count_images(class_folders, settings(data_path=None, **values))
    with pytest.raises(ValueError, match="holds no folder"):
        count_images(class_folders, settings(data_path=str(tmp_path), **values))
    for n in range(20):
        write_photo(tmp_path / "a" / f"{n}.png", n, (8, 8))
    flags = settings(data_path=str(tmp_path), num_classes=1, **values)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"a/.*8x8 pixels is smaller than .* 16"
    ):
        take(class_folders, flags, 1, 0)


def test_tiny_imagenet(tmp_path):
    for wnid in ("n01", "n02"):
        for n in range(10):
            write_photo(tmp_path / f"train/{wnid}/images/{wnid}_{n}.PNG", n, (64, 64))
    pixels = [write_photo(tmp_path / f"val/images/val_{n}.PNG", 50 + n, (64, 64)) for n in range(2)]
    (tmp_path / "val/val_annotations.txt").write_text(
        "val_1.PNG\tn01\t0\t0\t9\t9\nval_0.PNG\tn02\t0\t0\t9\t9\n"
    )
    flags = settings(data_path=str(tmp_path), num_classes=2, data_skip_broken=False)
    assert count_images(tiny_imagenet, flags) == 18
    (batch,) = evaluate(tiny_imagenet, flags)
    np.testing.assert_array_equal(batch["label"], [0, 1])
    np.testing.assert_array_equal(batch["image"], np.stack([pixels[1], pixels[0]]))
    for content, message in (
        (b"val_1.PNG\tn01\xff\n", "is no UTF-8 text"),
        (b"", "names no images"),
    ):
        (tmp_path / "val/val_annotations.txt").write_bytes(content)
        with pytest.raises(ValueError, match=rf"val_annotations\.txt {message}"):
            evaluate(tiny_imagenet, flags)


def imagenet_c_settings(path, **values):
    defaults = {"data_corruptions": None, "data_resize": 0, "data_crop": 16}
    defaults |= {"data_skip_broken": False, "data_interpolation": "bilinear", "quick": False}
    return settings(data_path=str(path), **(defaults | values))


def test_imagenet_c_in_folders(tmp_path):
    for corruption in ("fog", "snow"):
        for severity in (1, 3):
            for n in range(3):
                write_photo(tmp_path / f"{corruption}/{severity}/cat/{n}.png", n)
                write_photo(tmp_path / f"{corruption}/{severity}/dog/{n}.png", 9 + n)
    with pytest.raises(ValueError, match="have 2 classes"):
        evaluate(imagenet_c, imagenet_c_settings(tmp_path), "test")
    flags = imagenet_c_settings(tmp_path, num_classes=2)
    batches = evaluate(imagenet_c, flags)
    found = [(batch["corruption"], batch["severity"]) for batch in batches]
    assert found == [("fog", 1), ("fog", 3), ("snow", 1), ("snow", 3)]
    np.testing.assert_array_equal(batches[0]["label"], [0, 0, 0, 1, 1, 1])
    assert batches[0]["image"].shape == (6, 16, 16, 3)
    with pytest.raises(ValueError, match="test images alone"):
        take(imagenet_c, flags, 1)
    with pytest.raises(ValueError, match="does not count training images"):
        count_images(imagenet_c, flags)
    flags = imagenet_c_settings(tmp_path, num_classes=2, data_corruptions=["rain"])
    with pytest.raises(ValueError, match="Found: fog, snow"):
        evaluate(imagenet_c, flags)


def test_imagenet_c_below_categories_with_colours_and_clean_images(tmp_path):
    for part in ("weather/fog/1", "weather/fog/2", "noise/shot_noise/1", "color/3", "clean"):
        for label in ("0", "7"):  # classes that are called like severities
            write_photo(tmp_path / part / label / "0.png", 0)
    flags = imagenet_c_settings(tmp_path, num_classes=2)
    batches = evaluate(registry.load("dataloaders", "imagenet_c_mixed"), flags)
    assert [(batch["corruption"], batch["severity"]) for batch in batches] == [
        ("clean", None),
        ("colwarp", 3),
        ("fog", 1),
        ("fog", 2),
        ("shot_noise", 1),
    ]
    for batch in batches:
        np.testing.assert_array_equal(batch["label"], [0, 1])


def test_quick_takes_every_fiftieth_image_resized_by_area(tmp_path):
    pixels = [write_photo(tmp_path / f"fog/1/cat/{n:03}.png", n) for n in range(101)]
    values = {"data_resize": 18, "data_interpolation": "area", "quick": True}
    (batch,) = evaluate(imagenet_c, imagenet_c_settings(tmp_path, num_classes=1, **values))
    assert len(batch["image"]) == 3
    for image, source in zip(batch["image"], (0, 50, 100), strict=True):
        height, width = pixels[source].shape[:2]
        size = 18 * width // min(height, width), 18 * height // min(height, width)
        expected = cv2.resize(pixels[source], size, interpolation=cv2.INTER_AREA)
        top, left = (round((side - 16) / 2) for side in size[::-1])
        expected = expected[top : top + 16, left : left + 16]
        np.testing.assert_array_equal(image, expected)


def test_imagenet_c_bar_has_fractions_as_severities(tmp_path):
    for severity in ("10.00", "2.40", "3.00"):
        write_photo(tmp_path / f"sparkles/{severity}/cat/0.png", 0)
    (tmp_path / "sparkles" / "notes" / "cat").mkdir(parents=True)
    flags = imagenet_c_settings(tmp_path, num_classes=1)
    batches = evaluate(imagenet_c, flags)
    assert [batch["severity"] for batch in batches] == [2.4, 3, 10]
    (tmp_path / "sparkles" / "4.00" / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"No images in .*4\.00"):
        evaluate(imagenet_c, flags)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.npy", np.zeros(19, np.int64), r"labels.npy must hold the labels of 5 severities"),
        ("labels.npy", np.zeros(20), r"labels.npy must hold integers"),
        ("labels.npy", np.full(20, 10), r"labels.npy holds labels from 10 to 10"),
        ("labels.npy", np.full(20, 1 << 40), r"labels.npy should not name more classes"),
        ("labels.npy", b"broken", r"labels.npy is no whole .npy file"),
        ("labels.npy", b"PK\x05\x06" + bytes(18), r"labels.npy is no whole .npy file"),
        ("fog.npy", b"broken", r"fog.npy is no whole .npy file"),
        ("fog.npy", np.zeros((19, 32, 32, 3), np.uint8), r"fog.npy must be uint8 \[20, "),
        ("fog.npy", np.zeros((20, 32, 32), np.uint8), r"fog.npy must be uint8 \[20, "),
    ],
)
def test_cifar_c_names_a_damaged_file(tmp_path, name, content, message):
    images, labels = random_set(20, 10, 0)
    np.save(tmp_path / "fog.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        np.save(tmp_path / name, content)
    with pytest.raises(ValueError, match=message):
        evaluate(imagenet_c, imagenet_c_settings(tmp_path))


def test_cifar_c_in_arrays(tmp_path):
    images, labels = random_set(20, 10, 0)
    np.save(tmp_path / "fog.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    batches = evaluate(imagenet_c, imagenet_c_settings(tmp_path))
    assert [batch["severity"] for batch in batches] == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(batches[2]["image"], images[8:12])
    np.testing.assert_array_equal(batches[2]["label"], labels[8:12])
    grid = metrics.CorruptionGrid(10)
    for batch in batches:
        grid.update(batch["corruption"], batch["severity"], batch["label"], np.eye(10)[labels[:4]])
    assert [row["level"] for row in grid.rows()] == [1, 2, 3, 4, 5]
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match="holds no corruptions"):
        evaluate(imagenet_c, imagenet_c_settings(tmp_path / "nothing"), "test")
