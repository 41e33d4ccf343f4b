"""Classes of pixels behind SyMPIE: data sets of street scenes, DeepLab, intersection over union."""

import json

import keras
import numpy as np
import pytest

from classifiers import correction, segmentation
from classifiers.dataloaders import cityscapes
from classifiers.models import sympie
from classifiers.networks import deeplab, resnet
from misc.images import image_files
from tests import commands, flag_values
from tests.classifiers.test_models import Report
from tests.classifiers.test_pretrained import write_safetensors

RANDOM = np.random.default_rng(0)


def write_grey(path, numbers):
    image_files.write_image(path, np.repeat(numbers[..., None], 3, axis=-1).astype(np.uint8))


def write_scenes(folder, count=2, size=(40, 64)):
    """A folder laid out as Cityscapes: a sky above a road, with a car that is not labelled."""
    for number in range(count):
        numbers = np.full(size, 23)
        numbers[size[0] // 2 :] = 7
        numbers[:4, :4] = 3
        place = f"val/town/town_{number:06d}_000019"
        write_grey(folder / f"gtFine/{place}_gtFine_labelIds.png", numbers)
        colours = np.where(numbers[..., None] == 23, [90, 140, 220], [100, 100, 100])
        noise = RANDOM.integers(-20, 20, (*size, 3))
        image_files.write_image(
            folder / f"leftImg8bit/{place}_leftImg8bit.png", (colours + noise).astype(np.uint8)
        )


def data(folder, **values):
    flags = flag_values.of(sympie, cityscapes) | {"data_path": str(folder), **values}
    return cityscapes.create_data(flags)


def test_counts_give_what_keras_says():
    truth = RANDOM.integers(0, 20, (3, 30, 40))
    truth[truth == 19] = segmentation.IGNORED
    truth[truth == 5] = 6  # neither there nor found
    predicted = np.where(RANDOM.random(truth.shape) < 0.5, truth % 19, RANDOM.integers(0, 19))
    predicted[predicted == 5] = 6
    metric = keras.metrics.MeanIoU(19, ignore_class=segmentation.IGNORED)
    metric.update_state(truth, predicted)
    counts = segmentation.count(truth, predicted)
    np.testing.assert_array_equal(counts, metric.total_cm)
    shares = segmentation.intersection_over_union(counts)
    assert np.isnan(shares[5])
    assert np.nanmean(shares) == pytest.approx(100 * float(metric.result()), rel=1e-5)


def test_the_numbers_of_cityscapes_become_its_classes():
    pairs = {7: "road", 11: "building", 20: "traffic sign", 26: "car", 33: "bicycle"}
    for number, name in pairs.items():
        assert segmentation.CLASSES[segmentation.IDS[number]] == name
    others = [0, 3, 6, 9, 10, 14, 15, 16, 18, 29, 30, 255]
    assert (segmentation.IDS[others] == segmentation.IGNORED).all()
    assert (segmentation.IDS[34:255] == -1).all()
    np.testing.assert_array_equal(segmentation.TRAIN_IDS[:19], np.arange(19))


def test_scenes_are_found_in_both_layouts_and_resized(tmp_path):
    write_scenes(tmp_path / "cityscapes")
    batches = data(tmp_path / "cityscapes", data_long_side=32).evaluation_batches("test")
    found = list(batches)
    assert [batch["name"] for batch in found] == [
        *("town_000000_000019_leftImg8bit", "town_000001_000019_leftImg8bit")
    ]
    assert found[0]["image"].shape == (1, 20, 32, 3)
    assert set(np.unique(found[0]["classes"])) == {0, 10, 255}
    assert found[0]["classes"].shape == (40, 64)

    for kind, number in (("labelIds", 7), ("labelTrainIds", 1)):
        place = f"gt/fog/val/GOPR/a_gt_{kind}.png"
        write_grey(tmp_path / "acdc" / place, np.full((8, 10), number))
    with pytest.raises(ValueError, match=r"a_rgb_anon\.png is missing: .*a_gt_labelTrainIds\.png"):
        data(tmp_path / "acdc")
    write_grey(tmp_path / "acdc/rgb_anon/fog/val/GOPR/a_rgb_anon.png", np.full((8, 10), 90))
    (batch,) = data(tmp_path / "acdc", data_long_side=20).evaluation_batches("validation")
    assert (batch["classes"] == 1).all()
    assert batch["image"].shape == (1, 16, 20, 3)
    with pytest.raises(ValueError, match=r"holds no labels of the split train"):
        data(tmp_path / "acdc", data_split="train")


def test_files_that_are_no_labels_are_named(tmp_path):
    path = tmp_path / "gt/val/a_gt_labelTrainIds.png"
    write_grey(path, np.full((8, 10), 40))
    write_grey(tmp_path / "rgb_anon/val/a_rgb_anon.png", np.full((8, 10), 90))
    scenes = data(tmp_path)
    with pytest.raises(ValueError, match=r"a_gt_labelTrainIds\.png holds numbers .*\[40\]"):
        list(scenes.evaluation_batches("test"))
    image_files.write_image(path, RANDOM.integers(0, 19, (8, 10, 3)).astype(np.uint8))
    with pytest.raises(ValueError, match=r"TrainIds\.png holds colours"):
        list(scenes.evaluation_batches("test"))
    assert not list(data(tmp_path, data_skip_broken=True).evaluation_batches("test"))
    with pytest.raises(ValueError, match="is for evaluation"):
        scenes.training_batches(0)


@pytest.fixture
def _small(monkeypatch):
    monkeypatch.setattr(correction, "FEATURES", (4, 4, 6, 8))
    monkeypatch.setattr(resnet, "FEATURES", (4, 4, 8, 8))
    monkeypatch.setattr(deeplab, "BLOCKS", (1, 1, 2, 1))


def state(network):
    """The tensors of a network under PyTorch's names, with those of the head renamed."""
    tensors = {
        name.replace(deeplab.HEAD, "classifier"): np.transpose(
            np.asarray(variable), np.argsort(axes)
        )
        for name, (variable, axes) in deeplab.pytorch_weights.tensor_names(network).items()
    }
    return tensors | {"fc.weight": np.zeros((1000, 32), np.float32)}


@pytest.mark.usefixtures("_small")
def test_deeplab_reads_files_and_is_indifferent_to_mirrors(tmp_path):
    network = deeplab.build(19)
    images = RANDOM.uniform(0, 255, (1, 33, 48, 3)).astype(np.float32)
    logits = np.asarray(network(images, training=False))
    assert logits.shape == (1, 5, 6, 19)
    write_safetensors(tmp_path / "a.safetensors", state(network))
    loaded = deeplab.build(19, tmp_path / "a.safetensors")
    np.testing.assert_array_equal(loaded(images, training=False), logits)
    wanted = np.asarray(deeplab.segment(network, images, (33, 48)))
    mirrored = np.asarray(deeplab.segment(network, images[:, :, ::-1], (33, 48)))
    np.testing.assert_allclose(wanted, mirrored[:, :, ::-1], atol=1e-5)
    write_safetensors(tmp_path / "b.safetensors", {"fc.weight": np.zeros((2, 3), np.float32)})
    with pytest.raises(ValueError, match=r"does not fit deeplab:\n  missing .*layer1"):
        deeplab.build(19, tmp_path / "b.safetensors")


@pytest.mark.slow
@pytest.mark.usefixtures("_small")
def test_scenes_are_measured_without_and_with_the_module(tmp_path):
    write_scenes(tmp_path)
    network = deeplab.build(19)
    write_safetensors(tmp_path / "a.safetensors", state(network))
    flags = flag_values.of(sympie, cityscapes)
    flags |= {"data_path": str(tmp_path), "sympie_segmenter": str(tmp_path / "a.safetensors")}
    method = sympie.create_model(flags)
    method.estimator.layers[-1].bias.assign(0.5 + method.estimator.layers[-1].bias)
    batches = data(tmp_path, data_long_side=32).evaluation_batches("test")
    for batch, path in zip(batches, sorted(tmp_path.rglob("*labelIds.png")), strict=True):
        # What the network says of the images as they are shall be right.
        logits = np.asarray(deeplab.segment(network, batch["image"], batch["classes"].shape))
        target = str(path).replace("labelIds", "labelTrainIds")
        write_grey(target, logits.argmax(axis=-1)[0])
    batches = data(tmp_path, data_long_side=32).evaluation_batches("test")
    results = method.evaluate(batches, report := Report())
    counts = {"none": 0, "sympie": 0}
    for batch in batches:
        size = batch["classes"].shape
        for name, seen in (("none", batch["image"]), ("sympie", method.correct(batch["image"]))):
            logits = np.asarray(deeplab.segment(network, seen, size))
            counts[name] += segmentation.count(batch["classes"], logits.argmax(axis=-1)[0])
    for name, values in counts.items():
        shares = segmentation.intersection_over_union(values)
        assert results[f"mean_iou/{name}"] == pytest.approx(np.nanmean(shares), abs=1e-3)
        column = [row[name] for row in report.tables["classes"]]
        np.testing.assert_allclose(column, shares, atol=1e-3)
    assert results["mean_iou/none"] == 100
    assert results["mean_iou/sympie"] < 100
    gained = results["mean_iou/sympie"] - results["mean_iou/none"]
    assert results["difference/sympie"] == pytest.approx(gained)
    assert len(report.rows) == 2
    assert report.pictures["segmented"].ndim == 3


@pytest.mark.slow
def test_the_command_measures_a_folder(tmp_path):
    write_scenes(tmp_path / "scenes")
    write_safetensors(tmp_path / "deeplab.safetensors", state(deeplab.build(19)))
    correction.build_estimator().save_weights(tmp_path / "sympie.weights.h5")
    command = ["validate.py", "--model=sympie", "--dataloader=cityscapes", "--data_long_side=64"]
    command += [f"--data_path={tmp_path}/scenes", f"--weights={tmp_path}/sympie.weights.h5"]
    commands.run(*command, status=1)
    command += [f"--sympie_segmenter={tmp_path}/deeplab.safetensors", f"--save_path={tmp_path}/r"]
    commands.run(*command)
    results = json.loads((tmp_path / "r/results.json").read_text())
    assert len(results["classes"]) == 19
    assert (tmp_path / "r/segmented.png").is_file()
