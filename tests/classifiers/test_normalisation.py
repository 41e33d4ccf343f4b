import json

import pytest

from classifiers import networks, normalisation, training_copies
from classifiers.models import classifier
from tests import flag_values

IMAGENET = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
HALF = ([127.5] * 3, [127.5] * 3)


def resolve(network, **values):
    return tuple(normalisation.create(flag_values.of(classifier, network=network, **values)))


def test_cifar_resnets_take_the_data_sets_and_others_their_own():
    for data, mean in (("cifar10", 125.3), ("cifar100", 129.3), ("digits", 78.9)):
        # Exactly as written: settings of earlier runs are compared with these.
        assert resolve("cifar_resnet20", data_normalisation=data)[0][0] == mean
        assert resolve("resnet18", data_normalisation=data) == IMAGENET
        assert resolve("googlenet", data_normalisation=data) == HALF
    assert resolve("cifar_resnet20", data_normalisation="imagenet") == IMAGENET
    assert resolve("cifar_resnet20")[1] == [63.0, 62.1, 66.7]
    assert resolve("inception_v3") == HALF
    clip = networks.NORMALISATIONS["clip"]
    for ours, theirs in zip(resolve("clip_rn50"), clip, strict=True):
        assert ours == pytest.approx([255 * value for value in theirs], abs=1e-8)


def test_flags_win_over_the_restored_run_and_it_over_what_is_usual(tmp_path):
    run = {"network": "googlenet", "image_mean": [1.0, 2.0, 3.0], "image_deviation": [4.0] * 3}
    (tmp_path / "arguments.json").write_text(json.dumps(run))
    restored = {"restore_path": str(tmp_path)}
    for network in ("googlenet", "cifar_resnet20"):
        assert resolve(network, **restored) == ([1, 2, 3], [4, 4, 4])
    assert resolve("googlenet", **restored, image_mean=[9.0, 8.0, 7.0]) == ([9, 8, 7], [4, 4, 4])
    assert resolve("googlenet", restore_path=str(tmp_path / "gone" / "run")) == HALF
    assert resolve("googlenet", image_deviation=[1.0] * 3) == (HALF[0], [1, 1, 1])


def test_cutout_covers_with_the_mean_that_the_network_subtracts():
    flags = flag_values.of(classifier, network="googlenet", data_normalisation="cifar10")
    assert training_copies.create(flags).fill == (127.5, 127.5, 127.5)


def test_values_of_another_scale_or_number_are_refused():
    with pytest.raises(ValueError, match=r"scale 0-255.*Received: \[0.485"):
        resolve("resnet18", image_mean=[0.485, 0.456, 0.406])
    with pytest.raises(ValueError, match="multiply values for 0-1 by 255"):
        resolve("resnet18", image_deviation=[0.229, 0.224, 0.225])
    with pytest.raises(ValueError, match="1 numbers are given, and 3 expected"):
        resolve("resnet18", image_mean=[128.0])
    assert resolve("resnet18", image_mean=[0.0] * 3, image_deviation=[1.0] * 3)[0] == [0, 0, 0]
