"""SyMPIE's colour changes against float64 formulas, and the distribution of their shifts."""

import keras
import numpy as np
import pytest
from keras import ops

import degradations
from degradations import colour, random

NAMES = degradations.GROUPS["colour"]


def photo():
    return np.random.default_rng(0).integers(0, 256, (3, 8, 9, 3)).astype("float32")


def expected(name, image, severity, shift):
    image = image.astype(float)
    if name == "darken":
        return image / (severity + 1)
    if name == "white":
        return image * (255 + severity * shift / 5) / 255
    if name == "sunset":
        warm = np.array([255, 192 + shift[0], 192 - shift[0]])
        changed = warm * image / 255 + warm / 10
    else:
        copy = np.where(image.mean(-1, keepdims=True) > 128, 255 - image, image)
        changed = 0.8 * np.array([32, 32, 64 + shift[0]]) * image / 255 + 0.2 * copy
    return (1 - severity / 5) * image + severity / 5 * changed


@pytest.mark.parametrize("name", NAMES)
def test_transform_follows_the_formula(name):
    images, levels = photo(), np.array([1.0, 3.0, 5.0], "float32")
    layer = degradations.NAMES[name].load()(severity=1)
    shifts = np.array([[-20.5, 3.0, 31.0], [0, 0, 0], [17.0, -32.0, 5.0]], "float32")
    shifts = shifts[:, : layer.shifts] if layer.shifts else None
    found = ops.convert_to_numpy(layer.transform(images, levels, shifts))
    for b in range(3):
        shift = None if shifts is None else shifts[b]
        np.testing.assert_allclose(found[b], expected(name, images[b], levels[b], shift), atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_layer_keeps_the_contract(name):
    images = photo()
    layer = degradations.parse(f"{name}@1-5")
    degraded = ops.convert_to_numpy(layer(images, seed=1))
    assert degraded.shape == images.shape
    assert degraded.min() >= 0
    assert degraded.max() <= 255
    np.testing.assert_array_equal(degraded, np.round(degraded))
    np.testing.assert_array_equal(degraded, ops.convert_to_numpy(layer(images, seed=1)))
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    np.testing.assert_array_equal(degraded, ops.convert_to_numpy(copy(images, seed=1)))
    grey = ops.convert_to_numpy(layer(images[..., :1], seed=1))
    assert grey.shape == (3, 8, 9, 1)


@pytest.mark.parametrize("name", NAMES)
def test_severity_0_keeps_the_image_and_more_changes_more(name):
    images = photo()
    distances = []
    for severity in (0, 1, 3, 5):
        degraded = ops.convert_to_numpy(degradations.parse(f"{name}@{severity}")(images, seed=3))
        distances.append(np.abs(degraded - images).mean())
    assert distances[0] == 0
    assert distances == sorted(distances)


@pytest.mark.parametrize(("name", "largest"), [("sunset", 32), ("night", 24), ("white", 32)])
def test_shifts_are_uniform(name, largest):
    layer = degradations.NAMES[name].load()(severity=1)
    shifts = ops.convert_to_numpy(layer.draw_shifts(2000, random.make_seed(0)))
    assert shifts.shape == (2000, 3 if name == "white" else 1)
    # Whole numbers, both ends included.
    assert set(np.unique(shifts)) == set(range(-largest, largest + 1))
    assert abs(shifts.mean()) < 0.1 * largest
    assert shifts.std() == pytest.approx(np.sqrt(((2 * largest + 1) ** 2 - 1) / 12), rel=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_results_are_rounded(name):
    images = photo()[:1]
    found = ops.convert_to_numpy(degradations.parse(f"{name}@3")(images, seed=4))[0]
    layer = degradations.NAMES[name].load()(severity=3, quantize=None)
    fractions = ops.convert_to_numpy(layer(images, seed=4))[0]
    np.testing.assert_array_equal(found, np.floor(fractions + 0.5))
    assert (found != np.floor(fractions)).any()


def test_levels_out_of_range_are_refused():
    with pytest.raises(ValueError, match="from 0 to 5"):
        colour.Night(level=6)
