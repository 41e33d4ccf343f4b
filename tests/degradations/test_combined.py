"""Chains and choices: what each image draws, what it costs, and its bytes."""

import numpy as np
import pytest
import tensorflow as tf

import degradations
from degradations import base, random
from degradations.combined import OneOf
from degradations.noise import Noise

# Parts that draw much or little, per image or not at all, of one level or several.
PARTS = (
    "(noise:0-50|blur:1)/glass_blur@2/saltpepper:.2,p=0.5/(shot_noise@1-5/contrast@3)/jpeg:1-101"
)


def batch(count=12, side=20):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3)).astype("float32")


@pytest.fixture(scope="module")
def one_of():
    return degradations.parse(PARTS)


def test_an_image_is_what_its_part_makes_of_the_whole_batch(one_of):
    seed = random.make_seed(4)
    result = np.asarray(one_of(batch(), seed=seed))
    choices = np.asarray(one_of._choices(12, seed))
    assert len(set(choices)) > 3
    for i in set(choices):
        whole = one_of.layers[i](batch(), seed=random.fold_in(seed, int(i)))
        mine = choices == i
        np.testing.assert_array_equal(result[mine], np.asarray(whole)[mine])


def test_an_image_draws_the_same_whatever_else_is_in_the_batch(one_of):
    images = batch()
    result = np.asarray(one_of(images, seed=4))
    for size in (1, 5):
        np.testing.assert_array_equal(one_of(images[:size], seed=4), result[:size])
    others = np.concatenate([images[:3], 255 - images[3:]])
    np.testing.assert_array_equal(one_of(others, seed=4)[:3], result[:3])


@pytest.mark.slow
def test_a_dataset_of_batches_of_any_size_gives_the_same(one_of):
    dataset = tf.data.Dataset.from_tensor_slices(batch()).batch(12)
    dataset = dataset.map(lambda x: one_of(x, seed=4), num_parallel_calls=2)
    assert dataset.element_spec.shape == (None, 20, 20, 3)
    np.testing.assert_array_equal(next(iter(dataset)), one_of(batch(), seed=4))


def test_draw_and_apply():
    chain = degradations.parse("noise:0-9|saltpepper:.1")
    levels = chain.draw(3, 5)
    assert len(levels) == 2
    assert np.asarray(chain.apply(batch(3), levels, random.make_seed(5))).shape == (3, 20, 20, 3)
    layer = degradations.parse("noise:0/saltpepper:1/(noise:0-9|fog@1-5)/(blur:2/contrast@3)")
    seed = random.make_seed(5)
    choices, levels = layer.draw(200, seed)
    assert np.all(np.bincount(np.asarray(choices)) > 25)
    images = np.full((200, 2, 2, 3), 100, "float32")
    result = np.asarray(layer.apply(images, (choices, levels), seed))
    mine = np.asarray(choices) == 1
    assert (result[mine] != 100).any(axis=(1, 2, 3)).mean() > 0.9
    np.testing.assert_array_equal(result[np.asarray(choices) == 0], 100)


class Counting(Noise):
    """Notes how many images it was given."""

    def __init__(self, note):
        super().__init__(1)
        self._note = note

    def apply(self, images, levels, seed):
        tf.py_function(lambda count: self._note(int(count)), [tf.shape(images)[0]], [])
        return super().apply(images, levels, seed)


@pytest.mark.parametrize("compiled", [False, True])
def test_each_part_is_computed_for_its_own_images_alone(compiled):
    counts = []
    layer = OneOf([Counting(counts.append) for _ in range(6)])
    call = tf.function(layer, autograph=False) if compiled else layer
    assert call(tf.constant(batch(5)), seed=tf.constant([0, 3])).shape == (5, 20, 20, 3)
    assert sum(counts) == 5
    assert 0 not in counts


def test_gradients_pass_through_the_parts():
    layer = degradations.parse("blur:1,quantize=none/contrast@3:quantize=none")
    images = tf.Variable(batch(6))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(tf.identity(images) * 0.9, seed=2))
    assert np.abs(tape.gradient(total, images)).min(axis=(1, 2, 3)).all()


def jpeg_bytes(images, quality):
    layer = degradations.parse(f"jpeg:{quality}")
    return np.asarray(layer.call_with_bytes(images, 0)[1])


def test_a_chain_has_the_bytes_of_the_last_stream():
    images = batch()
    layer = degradations.parse("noise:5|jpeg_host:30|blur:1")
    pixels, sizes = layer.call_with_bytes(images, 7)
    np.testing.assert_array_equal(pixels, layer(images, seed=7))
    noisy = layer.layers[0](images, seed=random.fold_in(random.make_seed(7), 0))
    np.testing.assert_array_equal(sizes, jpeg_bytes(noisy, 30))
    assert layer.codec_name == "JPEG 420"
    # Where the second codec spares an image, the first one's stream is its last.
    twice = degradations.parse("jpeg:30|jpeg:90,p=0.5")
    sizes = np.asarray(twice.call_with_bytes(images, 7)[1])
    first = np.asarray(degradations.parse("jpeg:30")(images, seed=0))
    both = np.stack([jpeg_bytes(images, 30), jpeg_bytes(first, 90)])
    assert ((sizes == both).sum(axis=0) == 1).all()
    assert set((sizes == both).argmax(axis=0)) == {0, 1}


@pytest.mark.slow
def test_a_choice_has_the_bytes_of_what_was_drawn():
    images = batch()
    layer = degradations.parse("jpeg:20/blur:1/(jpeg:60|noise:3)")
    pixels, sizes = layer.call_with_bytes(images, 7)
    np.testing.assert_array_equal(pixels, layer(images, seed=7))
    expected = np.stack([jpeg_bytes(images, 20), np.zeros(12, int), jpeg_bytes(images, 60)])
    choices = np.asarray(layer._choices(12, random.make_seed(7)))
    assert set(choices) == {0, 1, 2}
    np.testing.assert_array_equal(sizes, expected[choices, np.arange(12)])
    assert layer.codec_name == "Jpeg"
    layer = degradations.parse("jpeg:20/blur:1")
    step = tf.function(lambda x: layer.call_with_bytes(x, 7), autograph=False)
    np.testing.assert_array_equal(step(images)[1], layer.call_with_bytes(images, 7)[1])


def test_without_a_codec_there_are_no_bytes():
    layer = degradations.parse("blur:1/noise:3|fog@2")
    assert layer.codec_name is None
    pixels, sizes = layer.call_with_bytes(batch(), 7)
    np.testing.assert_array_equal(pixels, layer(batch(), seed=7))
    np.testing.assert_array_equal(sizes, np.zeros(12))
    assert issubclass(type(layer), base.Degradation)
