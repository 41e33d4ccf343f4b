"""--weights, --noweights_head and the normalisation of runs that are restored."""

import json
import struct

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from classifiers import networks
from classifiers.models import classifier, ensemble
from classifiers.networks import pytorch_weights
from misc.export import loading
from misc.training import run_folder
from tests import commands, flag_values

SETTINGS = {
    "model": "classifier",
    "network": "cifar_resnet20",
    "num_classes": 4,
    "data_normalisation": "digits",
}


def settings(**values):
    return flag_values.of(classifier, **SETTINGS | values)


def offsets(network):
    """Returns what a black image becomes: -mean / deviation."""
    return np.array(network.get_layer("normalise").offset)


@pytest.fixture
def weights(tmp_path):
    """A file of a network with 4 classes."""
    networks.build("cifar_resnet20", 4).save_weights(tmp_path / "four.weights.h5")
    return str(tmp_path / "four.weights.h5")


def save_run(folder, **values):
    """Saves a run as train.py does; returns its method."""
    flags = settings(**values)
    method = classifier.create_model(flags)
    run = run_folder.RunFolder(folder, method, 1)
    run.write_arguments((flags | method.settings).to_dict())
    run.save(3)
    return method


@pytest.mark.slow
@pytest.mark.parametrize("network", ["cifar_resnet20", "squeezenet1_0"])
def test_restored_runs_are_normalised_as_they_were_trained(network, tmp_path):
    usual = "digits" if network == "cifar_resnet20" else "imagenet"
    mean, deviation = networks.NORMALISATIONS[usual]
    method = save_run(tmp_path / "run", network=network)
    expected = -np.divide(mean, deviation)
    np.testing.assert_allclose(offsets(method.network), expected, rtol=1e-6)
    # With other data, which must not matter.
    other = settings(network=network, data_normalisation="cifar100")
    restored = [
        loading.restore_trained(tmp_path / "run").network,
        classifier.create_trained_network(other, tmp_path / "run", "teacher_weights"),
        classifier.create_model(other | {"restore_path": str(tmp_path / "run")}).network,
        ensemble.create_model(other | {"ensemble_weights": [str(tmp_path / "run")]}).members[0],
    ]
    for one in restored:
        np.testing.assert_array_equal(offsets(one), offsets(method.network))


def test_old_runs_keep_the_numbers_that_they_were_trained_with(tmp_path):
    # As written before other networks than CIFAR ResNets had their own normalisation.
    arguments = SETTINGS | {"network": "squeezenet1_0", "weights": "gone.pth"}
    del arguments["data_normalisation"]
    arguments |= {"image_mean": [78.9] * 3, "image_deviation": [88.8] * 3}
    save_run(tmp_path / "run", network="squeezenet1_0")
    (tmp_path / "run" / "arguments.json").write_text(json.dumps(arguments))
    for network in (
        loading.restore_trained(tmp_path / "run").network,
        classifier.create_trained_network(settings(), tmp_path / "run", "teacher_weights"),
    ):
        np.testing.assert_allclose(offsets(network), [-78.9 / 88.8] * 3, rtol=1e-6)


def test_weights_are_taken_with_or_without_their_last_layer(weights):
    def create(**values):
        return classifier.create_starting_network(settings(weights=[weights], **values), True)

    whole = create(num_classes=None)
    assert whole.output_shape[-1] == 4
    tuned = create(num_classes=3, weights_head=False)
    assert tuned.output_shape[-1] == 3
    kernels = [network.layers[2].get_weights()[0] for network in (whole, tuned)]
    np.testing.assert_array_equal(*kernels)
    same_size = create(weights_head=False)
    assert (same_size.get_layer("fc").get_weights()[0] != whole.get_layer("fc").kernel).any()
    with pytest.raises(ValueError, match=r"4 classes, the network 3\. .*--noweights_head"):
        create(num_classes=3)
    with pytest.raises(ValueError, match=r"give --weights"):
        classifier.create_starting_network(settings(weights_head=False), True)
    with pytest.raises(ValueError, match=r"--noweights_head is for training"):
        classifier.create_starting_network(settings(weights=[weights], weights_head=False))
    with pytest.raises(ValueError, match=r"--num_classes"):
        classifier.create_starting_network(settings(num_classes=None))


def write_safetensors(path, tensors):
    """Writes float32 tensors: the length of a JSON header, the header, the values."""
    header, start = {}, 0
    for name, value in tensors.items():
        offsets = [start, start + value.nbytes]
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": offsets}
        start = offsets[1]
    text = json.dumps(header).encode()
    values = b"".join(value.tobytes() for value in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + values)


def test_weights_in_several_files(tmp_path):
    network = networks.build("cifar_resnet20", 4)
    tensors = {
        name: np.ascontiguousarray(np.transpose(variable.numpy(), np.argsort(axes)))
        for name, (variable, axes) in pytorch_weights.tensor_names(network).items()
    }
    parts = [tmp_path / f"{number}.safetensors" for number in range(2)]
    for number, part in enumerate(parts):
        write_safetensors(part, dict(list(tensors.items())[number::2]))
    again = classifier.create_starting_network(settings(weights=[str(p) for p in parts]), True)
    for ours, theirs in zip(again.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_networks_of_one_size_say_what_to_do_with_another():
    network = networks.build("cifar_resnet20", 4, image_size=16)
    method = classifier.Classifier(network)
    assert method.export_check_sizes == ((2, 16, 16), (1, 16, 16))
    message = r"images of 16x16 pixels. Received: 24x24. .*--data_crop=16.*--image_size=24"
    images = np.zeros([2, 24, 24, 3], np.float32)
    with pytest.raises(ValueError, match=message):
        method.predict(images)
    with pytest.raises(ValueError, match=message):
        method.train_step({"image": images, "label": np.zeros(2, np.int32)}, None)
    # Frozen graphs leave the size open.
    graph = tf.function(method.predict, input_signature=[tf.TensorSpec([None, None, None, 3])])
    assert graph(images[:, :16, :16])["logits"].shape == (2, 4)
    flags = settings(image_size=16)
    assert classifier.create_network(flags).input_shape == (None, 16, 16, 3)


def test_networks_that_need_larger_images_say_so():
    inputs = keras.Input((None, None, 3))
    outputs = keras.layers.GlobalAveragePooling2D()(inputs)
    # The name is what counts, not the 27 million weights.
    method = classifier.Classifier(keras.Model(inputs, outputs, name="inception_v3"))
    assert method.predict(np.zeros([1, 75, 90, 3], np.float32))["logits"].shape == (1, 3)
    with pytest.raises(ValueError, match=r"inception_v3 .* at least 75 pixels .* 90x74"):
        method.predict(np.zeros([1, 90, 74, 3], np.float32))


@pytest.mark.slow  # two processes, of which each loads TensorFlow and compiles a network
def test_weights_are_tuned_for_a_folder_of_other_classes(weights, tmp_path):
    random = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(6):
            pixels = random.integers(0, 256, (40, 44, 3), np.uint8)
            PIL.Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    run = tmp_path / "run"
    common = ["--model=classifier", "--dataloader=class_folders", f"--data_path={tmp_path}/data"]
    common += ["--data_crop=32", "--network=cifar_resnet20", f"--weights={weights}"]
    common += ["--data_held_out=0.34", "--evaluation_batch_size=4"]
    train = ["train.py", *common, "--batch_size=4", "--max_steps=2", f"--train_path={run}"]
    train += ["--data_training_crop=random_resized", "--save_freq=2"]
    assert "--noweights_head" in commands.run(*train, status=1)
    commands.run(*train, "--noweights_head")
    arguments = json.loads((run / "arguments.json").read_text())
    assert (arguments["num_classes"], arguments["data_resize"]) == (3, 37)
    assert arguments["image_mean"] == [123.675, 116.28, 103.53]
    assert loading.restore_trained(run).network.output_shape[-1] == 3
