"""Tiles cover the image, keep their distance from cuts, and change no pixel."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from eusr import network
from misc.export import tiling


@settings(deadline=None)
@given(length=st.integers(1, 500), overlap=st.integers(0, 40), core=st.integers(1, 100))
def test_spans_cover_each_pixel_once_and_keep_their_distance(length, overlap, core):
    tile = 2 * overlap + core
    spans = tiling.split(length, tile, overlap)
    kept = [i for span in spans for i in range(span.keep_start, span.keep_stop)]
    assert kept == list(range(length))
    assert len({span.stop - span.start for span in spans}) == 1
    for span in spans:
        assert 0 <= span.start < span.stop <= length
        assert span.stop - span.start <= tile
        assert span.keep_stop > span.keep_start
        assert span.start == 0 or span.keep_start - span.start >= overlap
        assert span.stop == length or span.stop - span.keep_stop >= overlap


def test_no_more_tiles_than_needed():
    assert len(tiling.split(100, 100, 10)) == 1
    assert len(tiling.split(101, 100, 10)) == 2
    assert len(tiling.split(180, 100, 10)) == 2
    assert len(tiling.split(181, 100, 10)) == 3
    assert len(tiling.split(10_000, 0, 10)) == 1


def test_impossible_tiles_are_refused():
    with pytest.raises(ValueError, match="--tile"):
        tiling.split(100, 20, 10)
    with pytest.raises(ValueError, match="--overlap"):
        tiling.split(100, 20, -1)


def neighbourhood_sum(radius, factor):
    """A stand-in for a network: zero-padded box filter, then nearest-neighbour upscaling."""

    def function(images):
        kernel = np.ones((2 * radius + 1, 2 * radius + 1, 1, 1), np.float32)
        padded = np.pad(images, [(0, 0), (radius, radius), (radius, radius), (0, 0)])
        result = tf.nn.conv2d(padded, kernel, 1, "VALID").numpy()
        return result.repeat(factor, axis=1).repeat(factor, axis=2)

    return function


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    radius=st.integers(0, 3),
    extra=st.integers(0, 2),
    core=st.integers(1, 12),
    factor=st.integers(1, 3),
)
def test_tiled_equals_untiled_for_any_geometry(height, width, radius, extra, core, factor):
    overlap = radius + extra
    image = np.random.default_rng(0).integers(0, 50, (height, width, 1)).astype(np.float32)
    function = neighbourhood_sum(radius, factor)
    tiled = tiling.apply_tiled(
        function, image, 2 * overlap + core, overlap, factor, dtype=np.float32
    )
    np.testing.assert_array_equal(tiled, function(image[None])[0])


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiled_network_gives_the_same_pixels(scale, dtype):
    generator = network.Generator(
        scales=(2, 4), features=4, shared_blocks=1, residual_factor=0.1, name="tiled"
    )
    maximum = np.iinfo(dtype).max
    image = np.random.default_rng(0).integers(0, maximum, (71, 103, 3), dtype, endpoint=True)
    radius = generator.receptive_radius(scale)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def function(images):
        return generator(images, scale=scale)

    whole = tiling.apply_tiled(function, image, 0, radius, scale)
    done = []
    tiled = tiling.apply_tiled(
        function, image, 2 * radius + 8, radius, scale, on_pixels=done.append
    )
    assert len(done) > 4
    assert sum(done) == 71 * 103
    assert tiled.dtype == dtype
    assert tiled.shape == (71 * scale, 103 * scale, 3)
    difference = np.abs(tiled.astype(int) - whole)
    assert difference.max() <= 1
    if dtype == np.uint8:
        assert np.mean(difference > 0) <= 1e-4
    # The image has structure at this overlap: a smaller one must be seen.
    cut = tiling.apply_tiled(function, image, 13, 1, scale)
    assert np.abs(cut.astype(int) - whole).max() > 1


def test_16_bits_keep_the_fraction():
    image = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    np.testing.assert_array_equal(tiling.apply_tiled(lambda x: x, image, 100, 5), image)
    seen = []
    tiling.apply_tiled(lambda x: seen.append(x.max()) or x, image, 0, 0)
    assert seen == [255.0]


def test_results_are_rounded_and_clipped():
    image = np.array([[[-3.0], [0.4], [0.6], [254.4], [254.6], [300.0]]])
    result = tiling.apply_tiled(lambda x: x, image, 0, 0)
    assert result.ravel().tolist() == [0, 0, 1, 254, 255, 255]
    kept = tiling.apply_tiled(lambda x: x, image, 0, 0, dtype=np.float32)
    assert kept.min() == -3
    assert kept.max() == 300


def test_wrong_factor_is_an_error():
    with pytest.raises(ValueError, match="2 times"):
        tiling.apply_tiled(lambda x: x, np.zeros((4, 4, 3), np.uint8), 0, 0, factor=2)


@settings(deadline=None)
@given(
    rows=st.integers(1, 5000),
    columns=st.integers(1, 5000),
    factor=st.sampled_from([1, 2, 4, 8]),
    overlap=st.integers(0, 400),
)
def test_chosen_tiles_cover_any_image_within_their_area(rows, columns, factor, overlap):
    tile = tiling.choose_tile((rows, columns), factor, overlap)
    spans = [tiling.split(n, t, overlap) for n, t in zip((rows, columns), tile, strict=True)]
    height, width = (span[0].stop - span[0].start for span in spans)
    limit = max(tiling.OUTPUT_TILE // factor, 2 * overlap + 128) ** 2
    assert height * width <= limit
    assert rows * columns > limit or tile == (0, 0)


def test_more_memory_makes_larger_tiles(monkeypatch):
    amounts = []
    monkeypatch.setattr(tiling.pixel_store, "available_memory", lambda: amounts[-1])
    wastes = []
    for gigabytes in (0.5, 6, 100):
        amounts.append(int(gigabytes * 10**9))
        tile = tiling.choose_tile((750, 1000), 4, 45, output_bytes=512)
        sides = [t or n for t, n in zip(tile, (750, 1000), strict=True)]
        parts = [len(tiling.split(n, t, 45)) for n, t in zip((750, 1000), tile, strict=True)]
        most = max(amounts[-1] / 2, 512 * tiling.OUTPUT_TILE**2)
        assert 16 * np.prod(sides) * 512 <= most
        wastes.append(np.prod(sides) * np.prod(parts) / (750 * 1000))
    assert wastes == sorted(wastes, reverse=True)
    assert wastes[1] < 1.25
    assert wastes[2] == 1
