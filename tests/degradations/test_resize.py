import math

import hypothesis
import numpy as np
import pytest
import skimage
from hypothesis import strategies as st

from degradations import resize


def slow_resize(image, factors, sizes, edges):
    """An independent float64 formulation: pixel by pixel, straight from the definition."""
    result = image.astype(np.float64)
    for axis in sorted((0, 1), key=lambda axis: factors[axis]):
        result = slow_axis(np.moveaxis(result, axis, 0), factors[axis], sizes[axis], edges)
        result = np.moveaxis(np.clip(np.floor(result + 0.5), 0, 255), 0, axis)
    return result.astype(np.uint8)


def slow_axis(rows, factor, size, edges):
    shrink = min(factor, 1.0)
    length = len(rows)
    out = []
    for position in range(1, size + 1):
        centre = position / factor + 0.5 * (1 - 1 / factor)
        total, weights = 0.0, 0.0
        reach = math.ceil(2 / shrink) + 1
        for tap in range(math.floor(centre) - reach, math.floor(centre) + reach + 2):
            weight = keys_kernel(shrink * (centre - tap))
            total = total + weight * rows[outside(tap - 1, length, edges)]
            weights += weight
        out.append(total / weights)
    return np.stack(out)


def keys_kernel(x):
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    if x <= 2:
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return 0.0


def outside(position, length, edges):
    if edges == "clamp":
        return min(max(position, 0), length - 1)
    while not 0 <= position < length:
        position = -position - 1 if position < 0 else 2 * length - position - 1
    return position


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(
    rows=st.integers(1, 21),
    columns=st.integers(1, 21),
    scale=st.sampled_from([1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 0.3, 1.7]),
    edges=st.sampled_from(resize.EDGES),
    channels=st.sampled_from([(), (1,), (3,)]),
    seed=st.integers(0, 99),
)
def test_equals_definition(rows, columns, scale, edges, channels, seed):
    image = np.random.default_rng(seed).integers(0, 256, (rows, columns, *channels), np.uint8)
    sizes = math.ceil(scale * rows), math.ceil(scale * columns)
    expected = slow_resize(image, (scale, scale), sizes, edges)
    result = resize.matlab_bicubic(image, scale, edges=edges)
    assert result.dtype == np.uint8
    assert result.shape == (*sizes, *channels)
    # Where a sum ends on .5 exactly, the order of addition may decide.
    difference = np.abs(result.astype(int) - expected)
    assert difference.max() <= (0 if math.log2(scale).is_integer() else 1)
    assert np.mean(difference > 0) < 0.02


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(
    rows=st.integers(1, 15),
    columns=st.integers(1, 15),
    size=st.tuples(st.integers(1, 19), st.integers(1, 19)),
    seed=st.integers(0, 99),
)
def test_sizes_set_the_order_of_the_passes(rows, columns, size, seed):
    image = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), np.uint8)
    factors = size[0] / rows, size[1] / columns
    expected = slow_resize(image, factors, size, "mirror")
    result = resize.matlab_bicubic(image, size=size)
    assert np.abs(result.astype(int) - expected).max() <= 1


def test_edges_differ_only_near_the_border():
    image = skimage.data.chelsea()[:64, :64]
    mirror = resize.matlab_bicubic(image, 1 / 4, edges="mirror")
    clamp = resize.matlab_bicubic(image, 1 / 4, edges="clamp")
    assert not np.array_equal(mirror, clamp)
    np.testing.assert_array_equal(mirror[2:-2, 2:-2], clamp[2:-2, 2:-2])


def test_constant_image_stays_constant():
    image = np.full((13, 10, 3), 200, np.uint8)
    for scale in (1 / 8, 1 / 2, 3):
        assert np.all(resize.matlab_bicubic(image, scale) == 200)


def test_floating_point_is_neither_rounded_nor_clipped():
    image = skimage.data.coffee()[:40, :56]
    result = resize.matlab_bicubic(image.astype(np.float32), 1 / 2)
    assert result.dtype == np.float64
    assert np.abs(result - resize.matlab_bicubic(image, 1 / 2)).max() <= 1.5
    step = np.repeat([0.0, 255.0], 8)[None].repeat(8, 0)
    enlarged = resize.matlab_bicubic(step, 2)
    assert enlarged.min() < 0
    assert enlarged.max() > 255


def test_blocks_do_not_show():
    # Longer than a block of rows in both directions, against the whole matrix.
    image = np.random.default_rng(0).integers(0, 256, (150, 133), np.uint8)
    sizes = 75, 67
    expected = slow_resize(image, (0.5, 0.5), sizes, "mirror")
    np.testing.assert_array_equal(resize.matlab_bicubic(image, 0.5), expected)


@pytest.mark.parametrize(
    ("image", "arguments", "message"),
    [
        (np.zeros((4, 4), np.int32), {"scale": 2}, "int32"),
        (np.zeros((4, 0), np.uint8), {"scale": 2}, "not empty"),
        (np.zeros((4,), np.uint8), {"scale": 2}, "image must be"),
        (np.zeros((4, 4), np.uint8), {}, "either scale or size"),
        (np.zeros((4, 4), np.uint8), {"scale": 2, "size": (1, 1)}, "either scale or size"),
        (np.zeros((4, 4), np.uint8), {"scale": -1}, "positive"),
        (np.zeros((4, 4), np.uint8), {"scale": math.inf}, "positive"),
        (np.zeros((4, 4), np.uint8), {"size": (0, 3)}, "positive"),
        (np.zeros((4, 4), np.uint8), {"scale": 2, "edges": "wrap"}, "wrap"),
    ],
)
def test_wrong_arguments(image, arguments, message):
    with pytest.raises(ValueError, match=message):
        resize.matlab_bicubic(image, **arguments)
