"""Parity of ImageNet-C-bar's warps with float64 NumPy and SciPy, written from the definitions."""

import math

import numpy as np
import pytest
import scipy.ndimage
from keras import ops

from degradations import cbar_warp, filters
from tests.degradations.test_cbar_noise import SIZES, assert_close, photo, to_float32


def bilinear(image, y, x):
    """Samples one point; pixels outside are 0."""
    top, left = math.floor(y), math.floor(x)
    value = np.zeros(image.shape[-1])
    for row, row_weight in ((top, top + 1 - y), (top + 1, y - top)):
        for column, column_weight in ((left, left + 1 - x), (left + 1, x - left)):
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                value = value + row_weight * column_weight * image[row, column]
    return value


def warp(image, move):
    height, width = image.shape[:2]
    return np.array([[bilinear(image, *move(y, x)) for x in range(width)] for y in range(height)])


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3), (7, 9)])
def test_border_indices_agree_with_numpy_pad(size):
    length, margin = size[1], 6
    index = np.arange(-margin, length + margin, dtype="int32")
    mirrored, reflected = (
        ops.convert_to_numpy(filters.border_index(ops.convert_to_tensor(index), length, border))
        for border in ("mirror", "reflect")
    )
    np.testing.assert_array_equal(reflected, np.pad(np.arange(length), margin, "symmetric"))
    if length > 1:
        np.testing.assert_array_equal(mirrored, np.pad(np.arange(length), margin, "reflect"))
    else:
        assert not mirrored.any()


@pytest.mark.parametrize("size", SIZES)
def test_ripple(size):
    images, rng = photo(*size), np.random.default_rng(0)
    levels = np.array([5.5, 8.0])
    draws = {
        "wavelengths": rng.uniform(0.1, 0.3, (2, 2)) * min(size),
        "phases": rng.uniform(0, 2 * np.pi, (2, 2)),
    }
    found = cbar_warp.ripple(images, np.float32(levels), **to_float32(**draws))
    for b in range(2):
        amplitude = levels[b] * 0.0025 * min(size)

        def move(y, x, b=b, amplitude=amplitude):
            point = np.array([y, x], float)
            turn = 2 * np.pi * point / draws["wavelengths"][b] + draws["phases"][b]
            return point + amplitude * np.sin(turn)

        assert_close(found[b], warp(images[b], move), tolerance=0.1)


@pytest.mark.parametrize(
    ("size", "cells"), [((32, 32), (3, 3)), ((20, 45), (3, 6)), ((128, 130), (5, 5))]
)
def test_pinch_and_twirl(size, cells):
    images = np.random.default_rng(1).uniform(0, 255, (2, *size, 3)).astype("float32")
    images = scipy.ndimage.gaussian_filter(images, (0, 1, 1, 0))
    levels = np.array([5.5, 10.0])
    cell = min(size) // min(cells)
    assert tuple(int(value) for value in cbar_warp.twirl_cells(*size)) == (cell, *cells)
    signs = np.random.default_rng(2).choice([-1.0, 1.0], (2, *cells))
    found = cbar_warp.pinch_and_twirl(images, np.float32(levels), signs.astype("float32"))
    for b in range(2):
        exponent, turn = levels[b] * 0.04 + 0.1, levels[b] * np.pi / 20

        def move(y, x, b=b, exponent=exponent, turn=turn):
            row, column = y // cell, x // cell
            if row >= cells[0] or column >= cells[1]:
                return y, x
            centre = np.array([row + 0.5, column + 0.5]) * cell
            dy, dx = np.array([y, x]) - centre
            d = np.hypot(dy, dx) / (cell / 2)
            if d > 1 or round(np.hypot(dy, dx), 3) == 0:
                return y, x
            t = np.sin(np.pi / 2 * d) ** -exponent
            a = signs[b, row, column] * turn * (1 - d) ** 2
            c, s = np.cos(a) * t, np.sin(a) * t
            return centre[0] + dy * c - dx * s, centre[1] + dy * s + dx * c

        assert_close(found[b], warp(images[b], move), tolerance=0.1)


def reference_caustics(size, time, period):
    light = np.zeros(size)
    for y in range(size[0]):
        for x in range(size[1]):
            p = (np.array([y, x]) / period % 1) * 2 * np.pi - 250
            i, c = p.copy(), 1.0
            for n in range(5):
                t = time * (1 - 3.5 / (n + 1))
                i = p + np.array(
                    [
                        np.cos(t - i[0]) + np.sin(t + i[1]),
                        np.sin(t - i[1]) + np.cos(t + i[0]),
                    ]
                )
                c += 1 / np.hypot(
                    p[0] / (np.sin(i[0] + t) / 0.005), p[1] / (np.cos(i[1] + t) / 0.005)
                )
            light[y, x] = np.clip(abs(1.17 - (c / 5) ** 1.4) ** 8, 0, 1)
    return light


def reference_refraction(normal, index=4.0):
    """Turns (0, 0, 1) by Snell's law in the basis of the normal and the axis across it."""
    incident = np.array([0.0, 0.0, 1.0])
    if abs(incident @ normal) >= 1 - 1e-3:
        return incident
    out_angle = np.arcsin(np.sin(np.arccos(incident @ normal)) / index)
    across = np.cross(incident, normal)
    across /= np.linalg.norm(across)
    basis = np.stack([normal, np.cross(normal, across), across])
    return np.linalg.inv(basis) @ np.array([np.cos(out_angle), np.sin(out_angle), 0])


@pytest.mark.parametrize("size", [(24, 24), (21, 30)])
def test_caustic_refraction(size):
    images = photo(*size)
    levels = np.array([2.35, 9.15])
    draws = {"time": np.array([0.7, 1.8]), "size": np.array([0.8, 1.2]) * min(size)}
    found = cbar_warp.caustic_refraction(images, np.float32(levels), **to_float32(**draws))
    for b in range(2):
        light = reference_caustics(size, draws["time"][b], draws["size"][b])
        light = scipy.ndimage.gaussian_filter(light, 1)
        around = np.pad(light, 1)
        expected = np.zeros((*size, 3))
        for y in range(size[0]):
            for x in range(size[1]):
                west, east = around[y, x + 1], around[y + 2, x + 1]
                north, south = around[y + 1, x], around[y + 1, x + 2]
                normal = np.array([east - west, south - north, 1])
                ray = reference_refraction(normal / np.linalg.norm(normal))
                ray = np.round(ray * levels[b] * 0.05 * min(size), 3)
                lighting = levels[b] * 0.2 * (north - south + east - west)
                expected[y, x] = bilinear(images[b], y + ray[0], x + ray[1]) + 255 * lighting
        assert_close(found[b], expected, tolerance=0.5, share=0.99)


@pytest.mark.parametrize("size", [(16, 16), (15, 22), (2, 3)])
def test_circular_motion_blur(size):
    images = photo(*size)
    levels = np.array([2.8, 6.0])
    found = cbar_warp.circular_motion_blur(images, np.float32(levels))
    t = np.linspace(-1, 1, 21)
    weights = np.exp(-2 * t**2)
    for b in range(2):
        expected = sum(
            weight
            * scipy.ndimage.rotate(images[b].astype(float), levels[b] * 1.5 * turn, reshape=False)
            for turn, weight in zip(t, weights, strict=True)
        )
        assert_close(found[b], expected / weights.sum(), tolerance=0.05, share=0.99)


@pytest.mark.parametrize("size", [(32, 32), (17, 25), (2, 3)])
def test_transverse_chromatic_abberation(size):
    images = photo(*size)
    levels = np.array([2.0, 10.0])
    order = np.array([[0, 1, 2], [2, 0, 1]], "int32")
    found = ops.convert_to_numpy(
        cbar_warp.transverse_chromatic_abberation(images, np.float32(levels), order)
    )
    for b in range(2):
        for c in range(3):
            scale = 1 + levels[b] * 0.05 * order[b, c] / 2
            zoomed = scipy.ndimage.zoom(images[b, ..., c].astype(float), scale, prefilter=False)
            top, left = (zoomed.shape[0] - size[0]) // 2, (zoomed.shape[1] - size[1]) // 2
            expected = zoomed[top : top + size[0], left : left + size[1]]
            assert np.abs(found[b, ..., c] - expected).max() <= 0.5 + 1e-3
            np.testing.assert_array_equal(found, np.round(found))
