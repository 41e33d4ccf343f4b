"""SyMPIE's correction against loops in float64, and the files of its weights."""

import keras
import numpy as np
import pytest
import scipy.ndimage

from classifiers import correction
from tests.classifiers.test_pretrained import write_safetensors

RANDOM = np.random.default_rng(0)


def random_parameters(count):
    return correction.identity().numpy() + RANDOM.normal(0, 0.3, (count, 37)).astype(np.float32)


@pytest.fixture(scope="module")
def estimator():
    """An estimator with weights and statistics that matter."""
    keras.utils.set_random_seed(1)
    network = correction.build_estimator()
    for variable in network.variables:
        values = RANDOM.normal(size=variable.shape)
        if variable.name == "kernel":
            values *= np.sqrt(2 / np.prod(variable.shape[:-1]))
        elif variable.name in ("moving_variance", "gamma"):
            values = 1 + 0.2 * np.abs(values)
        else:
            values *= 0.2
        variable.assign(values)
    return network


def warp_in_a_loop(images, parameters):
    """The definition, pixel by pixel in float64."""
    batch, height, width, _ = images.shape
    images, parameters = images.astype(np.float64), parameters.astype(np.float64)
    result = np.zeros_like(images)
    for b in range(batch):
        matrix, shift = parameters[b, :9].reshape(3, 3), parameters[b, 9:12]
        kernel = parameters[b, 12:].reshape(5, 5)
        moved = images[b] + shift
        coloured = sum(moved[:, :, d, None] * matrix[d] for d in range(3))
        for y in range(height):
            for x in range(width):
                for i in range(5):
                    for j in range(5):
                        row, column = y + i - 2, x + j - 2
                        if 0 <= row < height and 0 <= column < width:
                            result[b, y, x] += kernel[i, j] * coloured[row, column]
    return result


@pytest.mark.parametrize("portable", [False, True])
def test_warp_equals_the_loop_in_float64(portable):
    images = RANDOM.normal(size=(5, 9, 7, 3)).astype(np.float32)
    parameters = random_parameters(5)
    expected = warp_in_a_loop(images, parameters)
    warped = correction.warp(images, parameters, portable)
    np.testing.assert_allclose(warped, expected, atol=1e-5)


def test_correct_normalises_and_cuts_to_what_images_hold():
    images = RANDOM.uniform(0, 255, (3, 6, 8, 3)).astype(np.float32)
    parameters = random_parameters(3)
    mean, deviation = (255 * np.array(v) for v in (correction.MEAN, correction.DEVIATION))
    expected = warp_in_a_loop((images - mean) / deviation, parameters) * deviation + mean
    assert expected.min() < 0 < 255 < expected.max()
    free = correction.correct(images, parameters, clamp=False)
    np.testing.assert_allclose(free, expected, atol=1e-5 * np.abs(expected).max())
    cut = correction.correct(images, parameters)
    np.testing.assert_allclose(cut, np.clip(expected, 0, 255), atol=1e-2)
    same = correction.correct(images, np.tile(correction.identity(), [3, 1]))
    np.testing.assert_allclose(same, images, atol=1e-4)


def estimate_in_numpy(network, images):
    """The published network in float64; `images` are normalised."""
    weights = {layer.name: [np.float64(w) for w in layer.get_weights()] for layer in network.layers}

    def convolve(x, name):
        kernel, bias = weights[name]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        height, width = x.shape[1:3]
        return bias + sum(
            padded[:, i : i + height, j : j + width] @ kernel[i, j]
            for i in range(3)
            for j in range(3)
        )

    def normalise(x, name):
        gamma, beta, mean, variance = weights[name]
        return np.maximum((x - mean) / np.sqrt(variance + 1e-5) * gamma + beta, 0)

    x = normalise(convolve(images, "conv1"), "bn1")
    for block in ("block1", "block2", "block3"):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        sums = scipy.ndimage.uniform_filter(padded, (0, 5, 5, 0), mode="constant")
        x = sums[:, 2:-2:4, 2:-2:4]
        first = convolve(x, f"{block}.conv1")
        x = convolve(normalise(first, f"{block}.bn1"), f"{block}.conv2")
        x = normalise(x, f"{block}.bn2") + first
    kernel, bias = weights["fc"]
    return x.mean(axis=(1, 2)) @ kernel + bias


@pytest.mark.parametrize("size", [(43, 43), (64, 59)])
def test_estimator_equals_the_published_network(estimator, size):
    images = RANDOM.uniform(0, 255, (2, *size, 3)).astype(np.float32)
    mean, deviation = (255 * np.array(v) for v in (correction.MEAN, correction.DEVIATION))
    expected = estimate_in_numpy(estimator, (images - mean) / deviation)
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(estimator(images), expected, rtol=1e-4, atol=1e-4)
    in_use = correction.for_use(estimator)
    np.testing.assert_allclose(in_use(images, training=False), expected, rtol=1e-4, atol=1e-4)


def test_an_estimator_for_use_has_the_same_weights(estimator):
    in_use = correction.for_use(estimator)
    assert {id(v) for v in in_use.variables} <= {id(v) for v in estimator.variables}
    images = RANDOM.uniform(0, 255, (1, 48, 48, 3)).astype(np.float32)
    before = in_use(images, training=False)
    moving = estimator.get_layer("block3.bn2").moving_mean
    kept = moving.numpy()
    moving.assign(kept + 1)
    changed, expected = in_use(images, training=False), estimator(images, training=False)
    moving.assign(kept)
    assert np.abs(changed - before).max() > 1e-3
    np.testing.assert_allclose(changed, expected, rtol=1e-4, atol=1e-4)


def test_an_untrained_estimator_hardly_changes_images():
    images = RANDOM.uniform(0, 255, (2, 48, 48, 3)).astype(np.float32)
    corrected = correction.correct(images, correction.build_estimator()(images))
    assert np.abs(np.asarray(corrected) - images).mean() < 10


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((43, 50), (43, 50)),
        ((224, 232), (224, 232)),
        ((32, 32), (43, 43)),
        ((20, 30), (43, 64)),
        ((300, 464), (224, 224)),
        ((1, 1), (43, 43)),
    ],
)
def test_the_estimator_sees_small_images_enlarged_and_the_middle_of_large_ones(size, seen):
    view = correction.View()
    images = np.full((1, *size, 3), 7, np.float32)
    np.testing.assert_allclose(view(images), np.full((1, *seen, 3), 7), rtol=1e-5)


def test_the_middle_is_what_torchvision_resizes_and_crops():
    import PIL.Image

    smooth = scipy.ndimage.gaussian_filter(RANDOM.uniform(0, 255, (464, 600, 3)), (2, 2, 0))
    resized = [
        PIL.Image.fromarray(smooth[..., c].astype(np.float32)).resize((300, 232), 2)
        for c in range(3)
    ]
    expected = np.stack(resized, axis=-1)[4:228, 38:262]
    seen = correction.View()(smooth[None].astype(np.float32))[0]
    assert np.abs(np.asarray(seen) - expected).mean() < 0.02


def state(network, rename=lambda module: module, biases=True):
    """The network's weights as PyTorch's tensors, with modules called otherwise."""
    tensors = {}
    for name, (variable, axes) in correction.pytorch_weights.tensor_names(network).items():
        module, _, part = name.rpartition(".")
        if biases or "conv" not in name or part != "bias":
            tensors[f"{rename(module)}.{part}"] = np.transpose(variable, np.argsort(axes))
    return tensors


@pytest.mark.parametrize("biases", [True, False])
def test_weights_of_pytorch_are_found_by_kind_and_order(estimator, biases, tmp_path):
    names = {}

    def rename(module):
        return f"module.net.{names.setdefault(module, len(names))}"

    write_safetensors(tmp_path / "a.safetensors", state(estimator, rename, biases))
    loaded = correction.build_estimator()
    correction.load_weights(loaded, tmp_path / "a.safetensors")
    for one, other in zip(loaded.variables, estimator.variables, strict=True):
        expected = other.numpy()
        if not biases and "conv" in other.path and other.name == "bias":
            expected = 0 * expected
        np.testing.assert_array_equal(one, expected)


@pytest.mark.slow
def test_files_of_other_networks_are_refused(estimator, tmp_path):
    tensors = state(estimator)
    wrong = {name: value for name, value in tensors.items() if not name.startswith("block3")}
    write_safetensors(tmp_path / "a.safetensors", wrong)
    with pytest.raises(ValueError, match=r"a\.safetensors is no estimator.* 7 convolution.*5 conv"):
        correction.load_weights(correction.build_estimator(), tmp_path / "a.safetensors")
    wrong = tensors | {"fc.weight": tensors["fc.weight"][:36]}
    write_safetensors(tmp_path / "b.safetensors", wrong)
    with pytest.raises(ValueError, match=r"fc.weight has the shape \(36, 512\)"):
        correction.load_weights(correction.build_estimator(), tmp_path / "b.safetensors")


@pytest.mark.parametrize("name", ["a.weights.h5", "a.h5", "a.keras"])
def test_weights_of_keras_are_loaded(estimator, name, tmp_path):
    path = tmp_path / name
    if name == "a.h5":
        correction.weight_files.write(path, {"estimator": estimator})
    elif name == "a.keras":
        estimator.save(path)
    else:
        estimator.save_weights(path)
    loaded = correction.build_estimator()
    correction.load_weights(loaded, path)
    for one, other in zip(loaded.variables, estimator.variables, strict=True):
        np.testing.assert_array_equal(one, other)
