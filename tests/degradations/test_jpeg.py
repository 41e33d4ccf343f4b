import io
import os
import pathlib
import subprocess
import sys

import hypothesis
import keras
import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from hypothesis import strategies as st
from PIL import Image

import degradations
from degradations import jpeg, jpeg_blocks, jpeg_color
from degradations.jpeg import Jpeg

SUBSAMPLINGS = ("444", "422", "420", "400")


def pillow(image, quality, subsampling):
    """Returns Pillow's round trip of a uint8 image, and the length of the file."""
    picture = Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])
    options = {}
    if subsampling == "400":
        picture = picture.convert("L")
    elif picture.mode == "RGB":
        options["subsampling"] = ":".join(subsampling)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=int(quality), **options)
    decoded = np.asarray(Image.open(file))
    if decoded.ndim == 2:
        decoded = np.repeat(decoded[..., None], image.shape[-1], axis=-1)
    return decoded, len(file.getvalue())


def references(images, qualities, subsampling):
    pairs = [
        pillow(image, quality, subsampling)
        for image, quality in zip(images, qualities, strict=True)
    ]
    return np.stack([pixels for pixels, _ in pairs]), np.array([size for _, size in pairs])


def content(kind, shape, seed):
    """Returns uint8 images that are easy to get wrong."""
    random = np.random.default_rng(seed)
    batch_size, height, width, channels = shape
    if kind == "noise":
        images = random.integers(0, 256, shape)
    elif kind == "saturated":
        images = random.integers(0, 2, shape) * 255
    elif kind == "blocks":
        corners = random.integers(0, 2, (batch_size, height // 8 + 1, width // 8 + 1, channels))
        images = corners.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width] * 255
    elif kind == "basis":
        # The signs of the transform's basis functions give the largest coefficients.
        basis = np.sign(jpeg_blocks.DCT[random.integers(0, 8, 64)])
        rows, columns = basis[:height, np.arange(height) % 8], basis[32:, np.arange(width) % 8]
        images = np.where(rows[:1, :, None] * columns[:1, None, :] > 0, 255, 0)
        images = np.broadcast_to(images[..., None], shape)
    else:
        steps = random.normal(0, 2, shape)
        images = np.clip(128 + steps.cumsum(axis=1).cumsum(axis=2), 0, 255)
    return images.astype(np.uint8)


def check(images, qualities, subsampling, arithmetic=None):
    pixels = jpeg.round_trip(
        images.astype(np.float32), qualities, subsampling, arithmetic=arithmetic
    )
    np.testing.assert_array_equal(pixels, references(images, qualities, subsampling)[0])


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_equals_pillow_at_every_quality(subsampling):
    # 45x61 is no multiple of a block either way, 34 is even and no multiple of 16.
    photo = skimage.data.astronaut()
    images = np.stack([photo[y : y + 34, 2 * y : 2 * y + 61] for y in range(60, 160)])
    qualities = np.arange(1, 101)
    pixels = jpeg.round_trip(images.astype(np.float32), qualities, subsampling)
    np.testing.assert_array_equal(pixels, references(images, qualities, subsampling)[0])


@pytest.mark.parametrize("arithmetic", ["float32", "int32"])
@pytest.mark.parametrize("kind", ["noise", "saturated", "blocks", "basis", "smooth"])
def test_equals_pillow_on_adversarial_content(kind, arithmetic):
    qualities = [1, 2, 10, 49, 50, 75, 90, 95, 99, 100]
    images = content(kind, (len(qualities), 26, 35, 3), 0)
    for subsampling in ("444", "422", "420"):
        check(images, qualities, subsampling, arithmetic)


@hypothesis.settings(max_examples=25, deadline=None, derandomize=True)
@hypothesis.given(
    height=st.integers(1, 35),
    width=st.integers(1, 35),
    channels=st.sampled_from([1, 3, 3]),
    subsampling=st.sampled_from(SUBSAMPLINGS),
    kind=st.sampled_from(["noise", "saturated", "blocks", "smooth"]),
    quality=st.integers(1, 100),
    seed=st.integers(0, 1000),
)
def test_equals_pillow_at_every_size(height, width, channels, subsampling, kind, quality, seed):
    images = content(kind, (2, height, width, channels), seed)
    check(images, [quality, 101 - quality], subsampling)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (5, 3), (16, 4), (3, 17)])
def test_equals_pillow_on_tiny_images(shape):
    images = content("noise", (2, *shape, 3), 3)
    for subsampling in ("444", "422", "420"):
        check(images, [20, 95], subsampling)


@pytest.mark.parametrize(
    "subsampling",
    ["420", *(pytest.param(name, marks=pytest.mark.slow) for name in ("422", "444", "400"))],
)
def test_byte_length_equals_that_of_pillow(subsampling):
    qualities = [1, 10, 50, 75, 95, 100]
    length = tf.function(lambda x: jpeg.byte_length(x, qualities, subsampling))
    for kind in ("noise", "saturated", "smooth"):
        for seed in range(3):
            images = content(kind, (len(qualities), 26, 35, 3), seed)
            expected = references(images, qualities, subsampling)[1]
            np.testing.assert_array_equal(length(images.astype(np.float32)), expected)


@pytest.mark.parametrize(
    ("shape", "compile_it"), [((3, 150, 230, 3), True), ((6, 120, 130, 3), False)]
)
def test_compiled_equals_eager_equals_graph(shape, compile_it):
    # More pixels than one part holds, so that these forms loop over one or three images.
    images = content("smooth", shape, 1).astype(np.float32)
    qualities = np.linspace(5, 100, shape[0]).astype(int)

    def work(x, q):
        return jpeg.round_trip_and_bytes(x, q, "420", exact=False)

    eager = work(images, qualities)
    compiled = tf.function(work, jit_compile=compile_it)(images, tf.constant(qualities))
    np.testing.assert_array_equal(compiled[0], eager[0])
    np.testing.assert_array_equal(compiled[1], eager[1])


def test_estimated_length_is_within_half_a_percent_on_photos():
    photos = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
    images = np.stack([photo[40:264, 60:284] for photo in photos for _ in range(2)])
    qualities = [10, 90, 30, 75, 50, 95]
    expected = references(images, qualities, "420")[1]
    estimated = jpeg.byte_length(images.astype(np.float32), qualities, "420", exact=False)
    np.testing.assert_allclose(estimated, expected, rtol=0.005)


def test_differentiable_form_has_the_same_pixels_and_a_useful_gradient():
    images = tf.constant(skimage.data.astronaut()[None, 30:128, 70:184].astype(np.float32))
    for quality, subsampling in ((10, "420"), (50, "444"), (90, "422"), (50, "400")):
        with tf.GradientTape() as tape:
            tape.watch(images)
            result = jpeg.round_trip(images, quality, subsampling, differentiable=True)
            loss = tf.reduce_mean((result - 127.0) ** 2)
        np.testing.assert_array_equal(result, jpeg.round_trip(images, quality, subsampling))
        gradient = tape.gradient(loss, images).numpy()
        assert np.isfinite(gradient).all()
        assert (gradient != 0).mean() > 0.9
        # The gradient that a codec without loss would have.
        if subsampling == "444":
            identity = 2 * (images.numpy() - 127) / images.numpy().size
            assert np.corrcoef(gradient.ravel(), identity.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("shape", [(2, 17, 19, 3), (1, 32, 5, 3), (2, 3, 4, 3), (1, 9, 11, 1)])
def test_gradient_equals_automatic_differentiation_with_roundings_passed(
    subsampling, shape, monkeypatch
):
    images = tf.constant(content("noise", shape, 3).astype(np.float32))
    direction = tf.constant(np.random.default_rng(4).normal(size=shape).astype(np.float32))
    quality = [20, 70][: shape[0]]

    def gradient(work):
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_sum(work(images) * direction)
        return tape.gradient(loss, images)

    written_out = gradient(lambda x: jpeg.round_trip(x, quality, subsampling, differentiable=True))
    floor = keras.ops.floor

    def code_planes(planes, subsampling, chroma):
        tables = jpeg_blocks.tables_for(tf.constant(quality), chroma)
        reduced = jpeg_color.reduce(planes, subsampling)
        coefficients = jpeg_blocks.forward(tf.stop_gradient(reduced), tables, "float32")
        decoded = jpeg_blocks.inverse(coefficients, tables, *reduced.shape[1:], "float32")
        decoded = reduced + tf.stop_gradient(decoded - reduced)
        decoded = tf.clip_by_value(decoded, 0.0, 255.0)
        return jpeg_color.enlarge(decoded, subsampling, *planes.shape[1:])

    def straight_through(x):
        if shape[-1] == 1 or subsampling == "400":
            y = x[..., 0] if shape[-1] == 1 else jpeg_color.luma(x)
            return tf.repeat(code_planes(y, "444", False)[..., None], shape[-1], axis=-1)
        y, chroma = jpeg_color.to_ycbcr(x, "float32")
        chroma = [code_planes(plane, subsampling, True) for plane in tf.split(chroma, 2)]
        decoded = jpeg_color.to_rgb(code_planes(y, "444", False), tf.concat(chroma, 0))
        return tf.clip_by_value(decoded, 0.0, 255.0)

    monkeypatch.setattr(keras.ops, "floor", lambda x: x + tf.stop_gradient(floor(x) - x))
    expected = gradient(straight_through)
    np.testing.assert_allclose(written_out, expected, atol=1e-5)


@pytest.mark.slow  # other tests have gradients, and compile
def test_gradient_flows_through_the_layer_and_compiles():
    layer = Jpeg(30, differentiable=True)
    images = tf.constant(content("smooth", (2, 20, 20, 3), 5).astype(np.float32))

    @tf.function(jit_compile=True)
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x, seed=1))
        return tape.gradient(loss, x)

    assert np.isfinite(gradient(images)).all()
    assert np.any(gradient(images) != 0)
    np.testing.assert_allclose(gradient(images), gradient.python_function(images), atol=1e-4)
    # What a graph cuts to 0-255 has no gradient.
    outside = tf.constant([-9.0, 300.0, 100.0])
    cut = tf.function(
        lambda x: tf.gradients(jpeg.round_trip(x + outside, 50, differentiable=True), x)[0]
    )(tf.zeros([1, 8, 8, 3]))
    assert not np.any(cut[..., :2])
    assert np.any(cut[..., 2])
    # The layer's own rounding of fractions passes the gradient too.
    assert np.any(gradient(images * 0.99) != 0)


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_codec_and_tensor_implementations_agree(subsampling):
    images = content("smooth", (2, 19, 30, 3), 7).astype(np.float32)
    layers = [
        Jpeg((1, 101), subsampling=subsampling, implementation=name) for name in ("tensor", "codec")
    ]
    (tensor, tensor_sizes), (codec, codec_sizes) = (
        layer.call_with_bytes(images, 4) for layer in layers
    )
    np.testing.assert_array_equal(tensor, codec)
    np.testing.assert_array_equal(tensor_sizes, codec_sizes)
    np.testing.assert_array_equal(layers[0](images, seed=4), tensor)


@pytest.mark.slow
def test_auto_works_in_a_dataset_in_a_graph_and_under_xla():
    images = content("smooth", (3, 24, 17, 3), 8).astype(np.float32)
    layer = Jpeg((10, 90))
    eager = layer(images, seed=2)
    mapped = tf.data.Dataset.from_tensors(images).map(lambda x: layer(x, seed=2))
    np.testing.assert_array_equal(next(iter(mapped)), eager)
    for compile_it in (True, False):
        step = tf.function(lambda x: layer(x, seed=2), jit_compile=compile_it)
        np.testing.assert_array_equal(step(images), eager)


def test_level_101_leaves_the_image_and_counts_no_bytes():
    images = content("noise", (2, 9, 9, 3), 0).astype(np.float32)
    for name in ("tensor", "codec"):
        pixels, sizes = Jpeg(101, implementation=name).call_with_bytes(images, 0)
        np.testing.assert_array_equal(pixels, images)
        np.testing.assert_array_equal(sizes, [0, 0])


def test_undegraded_images_count_no_bytes():
    images = content("noise", (64, 8, 8, 3), 0).astype(np.float32)
    layer = Jpeg(5, p=0.5, implementation="tensor", size_estimate=True)
    pixels, sizes = (np.asarray(part) for part in layer.call_with_bytes(images, 3))
    same = np.all(pixels == images, axis=(1, 2, 3))
    assert 10 < same.sum() < 54
    np.testing.assert_array_equal(sizes == 0, same)
    np.testing.assert_array_equal(layer(images, seed=3), pixels)


def test_fractions_are_truncated_or_rounded_before_encoding():
    images = np.full((1, 8, 8, 3), 100.6, np.float32)
    for name in ("tensor", "codec"):
        assert np.asarray(Jpeg(100, implementation=name)(images, seed=0)).max() == 100
        rounding = Jpeg(100, implementation=name, quantize="round")
        assert np.asarray(rounding(images, seed=0)).max() == 101


def test_unknown_batch_size():
    images = content("smooth", (3, 20, 20, 3), 2).astype(np.float32)
    signature = [tf.TensorSpec([None, 20, 20, 3], tf.float32)]
    work = tf.function(lambda x: jpeg.round_trip(x, 20), input_signature=signature)
    np.testing.assert_array_equal(work(images), jpeg.round_trip(images, 20))


def test_configuration_round_trip_and_parser():
    layer = degradations.parse("jpeg:quality=10-20,subsampling=444,implementation=tensor,p=0.5")
    assert (layer.subsampling, layer.implementation, layer.p) == ("444", "tensor", 0.5)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert copy.get_config() == layer.get_config()
    np.testing.assert_array_equal(
        degradations.parse("jpeg_compression@1-5").severities(224).ravel(), [25, 18, 15, 10, 7]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": 0}, "quality must be a number from 1 to 101"),
        ({"level": 102}, "quality must be a number from 1 to 101"),
        ({"level": 10, "subsampling": "411"}, "subsampling must be one of 444, 422, 420, 400"),
        ({"level": 10, "implementation": "gpu"}, "implementation must be one of"),
        ({"level": 10, "differentiable": 1}, "differentiable must be True or False"),
        ({"level": 10, "differentiable": True, "implementation": "codec"}, "no gradient"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Jpeg(**arguments)


def test_bad_input():
    good = np.zeros((1, 8, 8, 3), np.float32)
    with pytest.raises(ValueError, match="NaN"):
        jpeg.round_trip(good * np.nan, 10)
    with pytest.raises(ValueError, match="values from -1"):
        Jpeg(10)(good - 1, seed=0)
    with pytest.raises(ValueError, match="float32"):
        Jpeg(10)(good.astype(np.uint8), seed=0)
    with pytest.raises(ValueError, match=r"\[B, H, W, 3\]"):
        jpeg.round_trip(good[0], 10)
    for quality in (0, 101, 10.5, [[10]]):
        with pytest.raises(ValueError, match="quality must be integers 1-100"):
            jpeg.round_trip(good, quality)
    with pytest.raises(ValueError, match="arithmetic must be one of"):
        jpeg.round_trip(good, 10, arithmetic="bfloat16")
    unknown = tf.function(
        lambda x: jpeg.round_trip(x, 10),
        input_signature=[tf.TensorSpec([1, None, None, 3], tf.float32)],
    )
    with pytest.raises(ValueError, match="known height and width"):
        unknown(good)


def test_no_undefined_values_come_out_of_a_graph():
    images = np.full((1, 8, 8, 3), np.nan, np.float32)
    for compile_it in (True, False):
        step = tf.function(lambda x: Jpeg(10)(x, seed=0), jit_compile=compile_it)
        assert np.isfinite(step(tf.constant(images))).all()


def test_tables_equal_those_in_pillow_files():
    for quality in (1, 10, 49, 50, 75, 100):
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
        tables = Image.open(file).quantization
        for index, table in enumerate((jpeg_blocks.LUMA_TABLE, jpeg_blocks.CHROMA_TABLE)):
            ours = jpeg_blocks.scaled_tables(table)[quality]
            np.testing.assert_array_equal(ours.ravel(), tables[index])


@pytest.mark.slow  # JAX compiles every operation
def test_runs_on_jax():
    pytest.importorskip("jax", reason="JAX is an optional second backend")
    script = """
import numpy as np, jax
from degradations import jpeg
images = np.random.default_rng(0).integers(0, 256, (2, 19, 21, 3)).astype("float32")
for subsampling, arithmetic in (("444", "int32"), ("420", "float32")):
    work = lambda x: jpeg.round_trip(x, [10, 90], subsampling, arithmetic=arithmetic)
    for pixels in (work(images), jax.jit(work)(images)):
        print(int(np.asarray(pixels).astype("int64").dot(np.arange(1, 4)).sum()))
print(*np.asarray(jax.jit(lambda x: jpeg.byte_length(x, [10, 90], exact=False))(images)))
layer = jpeg.Jpeg(10, differentiable=True)
gradient = jax.grad(lambda x: (layer(x, seed=1) ** 2).sum())(images)
assert np.isfinite(gradient).all() and np.any(gradient != 0)
np.testing.assert_array_equal(jpeg.Jpeg(10)(images, seed=1), jpeg.round_trip(images, 10))
"""
    root = pathlib.Path(__file__).parents[2]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    lines = result.stdout.splitlines()
    images = np.random.default_rng(0).integers(0, 256, (2, 19, 21, 3)).astype("uint8")
    for i, subsampling in enumerate(("444", "420")):
        pixels, sizes = references(images, [10, 90], subsampling)
        expected = str(pixels.astype(int).dot(np.arange(1, 4)).sum())
        assert lines[2 * i : 2 * i + 2] == [expected] * 2
    np.testing.assert_allclose([int(size) for size in lines[4].split()], sizes, rtol=0.02)
