"""Every network against the PyTorch network whose weights it takes."""

import numpy as np
import pytest
import scipy.ndimage

from classifiers import networks

torch = pytest.importorskip("torch", reason="PyTorch is the reference")
from tests.classifiers.networks import torch_references  # noqa: E402

# Side of the test images: odd results on the way where the network takes any size.
SIZES = {
    "cifar_resnet20": 32,
    "cifar_resnet56": 32,
    "cifar_resnet110": 37,
    "resnet18": 75,
    "resnet34": 75,
    "resnet50": 91,
    "resnext101_32x8d": 70,
    "vgg13": 64,
    "vgg13_bn": 224,
    "vgg16": 64,
    "vgg16_bn": 75,
    "vgg19_bn": 64,
    "mobilenet_v2": 91,
    "mobilenet_v3_large": 91,
    "mnasnet1_0": 91,
    "squeezenet1_0": 91,
    "googlenet": 91,
    "inception_v3": 107,
    "efficientnet_b3": 123,
    "vit_b16": 224,
    "swin_t": 150,
    "clip_rn50": 64,
}
FAST = ("cifar_resnet20", "resnet18", "mobilenet_v3_large", "squeezenet1_0", "googlenet")
CLASSES = 37


def test_all_networks_are_compared():
    assert tuple(SIZES) == networks.NAMES


def photos(count, side):
    """Returns smooth random images of different contrast, float32 in 0-255."""
    random = np.random.default_rng(0)
    noise = random.normal(size=(count, side, side, 3))
    smooth = scipy.ndimage.gaussian_filter(noise, (0, 3, 3, 0.4))
    contrast = np.linspace(20, 60, count)[:, None, None, None]
    pixels = 127 + contrast * smooth / smooth.std() + random.normal(0, 40, (count, 1, 1, 3))
    return np.clip(pixels, 0, 255).astype(np.float32)


def parity(name, path, size, image_size=None):
    """Returns max |difference| / max |logit| against PyTorch, and how far images differ."""
    torch.manual_seed(0)
    if not name.startswith(("cifar", "clip")):
        pytest.importorskip("torchvision", reason="the reference network")
    reference = torch_references.create(name, CLASSES, size)
    key = {"cifar": "cifar10", "clip_": "clip"}.get(name[:5], "imagenet")
    images = photos(3, size)
    normalised = torch_references.to_torch(images, *networks.NORMALISATIONS[key])
    if name == "inception_v3":
        reference.AuxLogits.forward = lambda x: x  # it needs larger images
    torch_references.randomise(reference, normalised)
    torch.save({"state_dict": {f"module.{k}": v for k, v in reference.state_dict().items()}}, path)
    network = networks.build(name, weights=path, image_size=image_size)
    with torch.no_grad():
        expected = reference(normalised).numpy()
    got = np.array(network(images, training=False))
    assert got.shape == (3, CLASSES)
    scale = np.abs(expected).max()
    return np.abs(got - expected).max() / scale, np.abs(np.ptp(expected, axis=0)).max() / scale


@pytest.mark.parametrize(
    "name",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in SIZES],
)
def test_logits_equal_those_of_pytorch(name, tmp_path, record_property):
    size = SIZES[name]
    fixed = size if networks.NETWORKS[name].fixed_size else None
    ratio, spread = parity(name, tmp_path / "weights.pth", size, fixed)
    record_property("ratio", ratio)
    print(f"parity {name} {size} ratio {ratio:.1e} spread {spread:.2f}")
    assert spread > 0.1  # else the comparison would not see the images
    assert ratio <= 1e-4


def test_stages_of_the_cifar_resnet_equal_those_of_pytorch(tmp_path):
    torch.manual_seed(0)
    reference = torch_references.create("cifar_resnet20", 10)
    images = photos(2, 32)
    normalised = torch_references.to_torch(images, *networks.NORMALISATIONS["cifar10"])
    torch_references.randomise(reference, normalised)
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    network = networks.build("cifar_resnet20", weights=tmp_path / "weights.pth")
    with torch.no_grad():
        expected = reference.stages(normalised)
    got = networks.with_stages(network)(images, training=False)
    assert set(got) == set(expected)
    for name, value in expected.items():
        value = value.permute(0, 2, 3, 1) if value.ndim == 4 else value
        np.testing.assert_allclose(got[name], value, atol=1e-5 * float(value.abs().max()))
