"""Every name that `parse` knows: eagerly, in a parallel Dataset.map, and in a graph."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import degradations

# Names without severities, at a level in the middle of what the literature uses.
LEVELS = {
    "jpeg": "40",
    "jpeg_host": "40",
    "jpeg2000": "20",
    "webp": "30",
    "avif": "30,speed=10",
    "bpg": "41",
    "heif": "41",
    "jpegxl": "30,effort=3",
    "noise": "0-50",
    "blur": "0-5",
    "saltpepper": "0-0.25",
}


def images(count=2, side=24):
    # Squares that fit no grid of pixelate's, which would leave them as they are.
    low = np.random.default_rng(3).uniform(0, 255, (count, 5, 5, 3))
    squares = np.kron(low, np.ones((1, -(-side // 5), -(-side // 5), 1)))
    return np.floor(squares[:, :side, :side]).astype("float32")


def layer_of(name):
    try:
        return degradations.parse(f"{name}:{LEVELS[name]}" if name in LEVELS else f"{name}@1-5")
    except ImportError as error:
        pytest.skip(str(error))


# Those of ImageNet-C-bar share one way to draw; test_cbar has more of them.
SLOW = (*degradations.GROUPS["imagenet_c_bar"][2:], "frost", "circular_motion_blur")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in degradations.NAMES],
)
def test_dataset_map_equals_graph_equals_eager(name):
    layer = layer_of(name)
    batch = tf.constant(images())
    seeds = tf.constant([[7, 0], [7, 1]])
    eager = [np.asarray(layer(batch, seed=seed)) for seed in seeds]
    assert (eager[0] != images()).any()
    # Traced once for both: the function is called as it is inside the data set.
    graph = tf.function(lambda seed: layer(batch, seed=seed), autograph=False)
    mapped = tf.data.Dataset.from_tensor_slices(seeds).map(graph, num_parallel_calls=2)
    mapped = [np.asarray(result) for result in mapped]
    np.testing.assert_array_equal(graph(seeds[0]), mapped[0])
    np.testing.assert_array_equal(mapped, eager)


@pytest.mark.parametrize("name", degradations.GROUPS["imagenet_c"])
def test_unknown_sizes_in_a_graph_work_or_are_explained(name):
    layer = degradations.parse(name, severity=3)
    function = tf.function(lambda x, seed: layer(x, seed=seed), autograph=False)
    signature = tf.TensorSpec([1, None, None, 3]), tf.TensorSpec([2], tf.int32)
    needs_size = ("defocus", "motion", "zoom", "snow", "frost", "fog", "elastic", "pixelate")
    if name.startswith(needs_size):
        with pytest.raises(ValueError, match="needs a known height and width"):
            function.get_concrete_function(*signature)
    else:
        traced = function.get_concrete_function(*signature)
        assert traced(tf.zeros([1, 9, 7, 3]), tf.constant([0, 1])).shape == (1, 9, 7, 3)


@pytest.mark.parametrize("size", [224, 64, 32])
def test_jpeg_compression_equals_pillow_at_the_quality_of_each_severity(size):
    qualities = {
        224: (25, 18, 15, 10, 7),
        64: (65, 58, 50, 40, 25),
        32: (80, 65, 58, 50, 40),
    }[size]
    image = images(1, 48)[0].astype(np.uint8)
    for severity, quality in enumerate(qualities, 1):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        expected = np.asarray(Image.open(file))
        for form in ("tensor", "codec"):
            text = f"jpeg_compression@{severity}:implementation={form}"
            layer = degradations.parse(text, size=size)
            result = np.asarray(layer(np.float32(image)[None], seed=1))[0]
            np.testing.assert_array_equal(result, expected)
