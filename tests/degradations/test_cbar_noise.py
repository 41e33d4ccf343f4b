"""Parity of ImageNet-C-bar's patterns with float64 NumPy, written from the definitions."""

import numpy as np
import pytest
import skimage.data
import skimage.draw
from keras import ops

from degradations import cbar_noise

SIZES = [(24, 24), (17, 17), (20, 31)]


def photo(height, width):
    image = skimage.data.astronaut()[30 : 30 + 4 * height : 4, 150 : 150 + 4 * width : 4]
    return np.stack([image, image[::-1]]).astype("float32")


def grid(height, width):
    return np.meshgrid(np.arange(height, dtype=float), np.arange(width, dtype=float), indexing="ij")


def to_float32(**draws):
    return {
        name: ops.convert_to_tensor(np.asarray(value).astype("float32"))
        if np.asarray(value).dtype.kind == "f"
        else ops.convert_to_tensor(np.asarray(value, "int32"))
        for name, value in draws.items()
    }


def assert_close(found, expected, tolerance=0.02, share=1.0):
    difference = np.abs(ops.convert_to_numpy(found) - expected)
    assert np.isfinite(difference).all()
    assert np.mean(difference <= tolerance) >= share, difference.max()


@pytest.mark.parametrize("size", SIZES)
def test_single_frequency_greyscale(size):
    images, rng = photo(*size), np.random.default_rng(0)
    levels = np.array([1.0, 4.5])
    draws = {name: rng.uniform(-3, 3, 2) for name in ("frequency_x", "frequency_y", "phase")}
    found = cbar_noise.single_frequency_greyscale(images, np.float32(levels), **to_float32(**draws))
    y, x = grid(*size)
    for b in range(2):
        wave = np.sin(draws["frequency_x"][b] * x + draws["frequency_y"][b] * y + draws["phase"][b])
        assert_close(found[b], images[b] + levels[b] * 19.6 * wave[..., None])


@pytest.mark.parametrize("size", SIZES)
def test_cocentric_sine_waves(size):
    images, rng = photo(*size), np.random.default_rng(1)
    levels = np.array([3.0, 10.0])
    draws = {
        "centre": rng.uniform(0, min(size), (2, 2)),
        "petals": rng.uniform(0, 10, 2),
        "amplitude": rng.uniform(0, 2.0, 2),
        "ring_width": rng.uniform(0.3, 2.0, 2),
    }
    found = cbar_noise.cocentric_sine_waves(images, np.float32(levels), **to_float32(**draws))
    y, x = grid(*size)
    for b in range(2):
        y0, x0 = draws["centre"][b]
        ring = draws["ring_width"][b]
        wave = draws["amplitude"][b] * np.sin(draws["petals"][b] * np.arctan2(x - x0, y - y0))
        teeth = (np.hypot(x - x0, y - y0) + wave) % ring / ring - 0.5
        # At the jump of a tooth rounding decides the side.
        assert_close(found[b], images[b] + levels[b] * 12.8 * teeth[..., None], share=0.99)


def plasma_pixel(x, y, time, iterations, sharpness, scale):
    x, y = x / scale, y / scale
    i = np.array([1.0, 1.0, 1.0, 0.0])
    for _ in range(iterations):
        r = np.array([np.cos(y * i[0] - i[3] + time / i[1]), np.sin(x * i[0] - i[3] + time / i[1])])
        r = r / i[2]
        r = r + 0.3 * np.array([-r[1], r[0]])
        x, y = x + r[0], y + r[1]
        i = i * np.array([1.93, 1.15, 2.25 - sharpness, time * i[1]])
    return np.sin(x - time), np.sin((x + y + np.sin(time)) / 2), np.sin(y + time)


@pytest.mark.parametrize("size", [(12, 12), (9, 14)])
def test_plasma_noise(size):
    images, rng = photo(*size), np.random.default_rng(2)
    levels = np.array([4.75, 9.25])
    draws = {
        "time": rng.uniform(0, 6 * np.pi, 2),
        "iterations": np.array([4, 6]),
        "sharpness": rng.uniform(0.5, 1, 2),
        "scale": rng.uniform(0.075, 0.2, 2) * 224,
    }
    found = cbar_noise.plasma_noise(images, np.float32(levels), **to_float32(**draws))
    for b in range(2):
        own = [draws[name][b] for name in ("time", "iterations", "sharpness", "scale")]
        colour = np.array(
            [[plasma_pixel(x, y, *own) for x in range(size[1])] for y in range(size[0])]
        )
        intensity = levels[b] * 6.4
        assert_close(found[b], (1 - intensity / 255) * images[b] + intensity * colour)


def reference_fourier_noise(phases, amplitude):
    height, width = phases.shape
    side = min(height, width)
    u, v = grid(height, width)
    frequency = side * np.hypot((u - height / 2) / height, (v - width / 2) / width)
    spectrum = amplitude(frequency) * np.exp(1j * phases)
    spectrum = np.roll(spectrum, (height // 2, width // 2), axis=(0, 1))
    noise = np.fft.ifft2(spectrum).real
    return noise / noise.std()


@pytest.mark.parametrize("size", SIZES)
def test_point_symmetric_phases(size):
    uniform = np.random.default_rng(3).uniform(size=(2, *size)).astype("float32")
    phases = ops.convert_to_numpy(cbar_noise.point_symmetric_phases(uniform))
    np.testing.assert_array_equal(phases, phases[:, ::-1, ::-1])
    assert phases.max() <= 2 * np.pi + 1e-5
    if size[0] * size[1] % 2:
        assert np.all(phases[:, size[0] // 2, size[1] // 2] == 0)
    assert len(np.unique(phases[0])) == -(-size[0] * size[1] // 2)


@pytest.mark.parametrize("size", SIZES)
def test_blue_noise_sample(size):
    images = photo(*size) + 1.0
    levels = np.array([2.4, 5.6])
    uniform = np.random.default_rng(4).uniform(size=(2, *size)).astype("float32")
    phases = ops.convert_to_numpy(cbar_noise.point_symmetric_phases(uniform))
    found = cbar_noise.blue_noise_sample(images, np.float32(levels), phases)
    for b in range(2):
        noise = reference_fourier_noise(phases[b].astype(float), lambda frequency: frequency)
        kept = noise > levels[b] * 0.3 - 2.5
        assert_close(found[b], images[b] * kept[..., None], share=0.995)


@pytest.mark.parametrize("size", SIZES)
def test_brownish_noise(size):
    images = photo(*size)
    levels = np.array([1.0, 5.0])
    uniform = np.random.default_rng(5).uniform(size=(6, *size)).astype("float32")
    phases = ops.convert_to_numpy(cbar_noise.point_symmetric_phases(uniform))
    phases = phases.reshape(2, 3, *size)
    found = cbar_noise.brownish_noise(images, np.float32(levels), phases)
    for b in range(2):
        for c in range(3):
            noise = reference_fourier_noise(phases[b, c].astype(float), lambda f: 1 / (f**2 + 1))
            assert_close(found[b, ..., c], images[b, ..., c] + levels[b] * 6.4 * noise)


@pytest.mark.parametrize("size", SIZES)
def test_checkerboard_cutout(size):
    images, rng = photo(*size), np.random.default_rng(6)
    levels = np.array([6.0, 3.0])
    draws = {
        "angle": np.array([0.7, 4.0]),
        "cell": np.array([4.3, 3.1]),
        "grid": rng.uniform(size=(2, 32, 32)),
    }
    found = cbar_noise.checkerboard_cutout(images, np.float32(levels), **to_float32(**draws))
    for b in range(2):
        expected = images[b].copy()
        sine, cosine = np.sin(draws["angle"][b]), np.cos(draws["angle"][b])
        for y in range(size[0]):
            for x in range(size[1]):
                row = int(np.floor((cosine * y + sine * x) / draws["cell"][b]))
                column = int(np.floor((cosine * x - sine * y) / draws["cell"][b]))
                kept = draws["grid"][b, row % 32, column % 32] < levels[b] / 10
                if (row - column) % 2 == 0 and kept:
                    expected[y, x] = 128
        assert_close(found[b], expected)


def reference_star(size, centre, lengths, exponent):
    rays = len(lengths)
    weight = np.zeros(size)
    for y in range(size[0]):
        for x in range(size[1]):
            down, right = y - centre[0], x - centre[1]
            turn = (np.arctan2(right, down) + np.pi) / (2 * np.pi) * rays
            index = int(turn)
            f = turn - index
            length = (1 - f) * lengths[index % rays] + f * lengths[(index + 1) % rays]
            g = (length**2 / (down**2 + right**2 + 1e-4)) ** exponent
            weight[y, x] = min((1 - (f - 0.5) ** 2) * g, 1)
    return weight[..., None]


@pytest.mark.parametrize("size", SIZES)
def test_sparkles(size):
    images, rng = photo(*size), np.random.default_rng(7)
    levels = np.array([1.0, 6.0])
    draws = {
        "centres": rng.uniform(0, min(size), (2, 3, 2)),
        "ray_normals": rng.normal(size=(2, 3, 200)),
        "rays": rng.integers(50, 200, (2, 3)),
    }
    found = cbar_noise.sparkles(images, np.float32(levels), **to_float32(**draws))
    for b in range(2):
        expected = images[b].astype(float)
        radius = levels[b] * 0.01 * min(size)
        for star in range(3):
            lengths = np.maximum(1, radius + 0.25 * radius * draws["ray_normals"][b, star])
            lengths = lengths[: draws["rays"][b, star]]
            weight = reference_star(size, draws["centres"][b, star], lengths, 1.0)
            expected = expected + weight * (255 - expected)
        assert_close(found[b], expected, share=0.99)


@pytest.mark.parametrize("size", SIZES)
def test_inverse_sparkles(size):
    images, rng = photo(*size), np.random.default_rng(8)
    levels = np.array([1.0, 9.0])
    draws = {
        "centre": rng.uniform(0.25, 0.75, (2, 2)) * min(size),
        "ray_normals": rng.normal(size=(2, 200)),
        "rays": np.array([50, 199]),
    }
    found = cbar_noise.inverse_sparkles(images, np.float32(levels), **to_float32(**draws))
    for b in range(2):
        lengths = 0.25 * min(size) * (1 + 0.25 * draws["ray_normals"][b])[: draws["rays"][b]]
        weight = reference_star(size, draws["centre"][b], lengths, levels[b] * 6.5 / 50)
        assert_close(found[b], 255 + weight * (images[b] - 255), share=0.99)


def reference_gradient_noise(angles, y, x):
    row, column = int(np.floor(y)), int(np.floor(x))
    down, right = y - row, x - column

    def dot(i, j):
        angle = angles[row + i, column + j]
        return np.sin(angle) * (down - i) + np.cos(angle) * (right - j)

    fade_y, fade_x = down**2 * (3 - 2 * down), right**2 * (3 - 2 * right)
    upper = dot(0, 0) + fade_x * (dot(0, 1) - dot(0, 0))
    lower = dot(1, 0) + fade_x * (dot(1, 1) - dot(1, 0))
    return 1.5 * (upper + fade_y * (lower - upper))


@pytest.mark.parametrize("size", SIZES)
def test_perlin_noise(size):
    images, rng = photo(*size), np.random.default_rng(9)
    levels = np.array([4.6, 8.8])
    lattice = [cbar_noise.perlin_lattice_size(length, min(size)) for length in size]
    angles = rng.uniform(0, 2 * np.pi, (2, *lattice)).astype("float32")
    found = cbar_noise.perlin_noise(images, np.float32(levels), angles)
    spacing = 32 * min(size) / 224
    for b in range(2):
        value = np.zeros(size)
        for y in range(size[0]):
            for x in range(size[1]):
                total = sum(
                    abs(reference_gradient_noise(angles[b], f * y / spacing, f * x / spacing)) / f
                    for f in (1, 2, 4, 8, 16)
                )
                value[y, x] = np.clip(0.5 * total + 0.5, 0, 1)
        share = levels[b] * 0.05
        assert_close(found[b], (1 - share) * images[b] + share * 255 * value[..., None])


@pytest.mark.parametrize("size", SIZES)
def test_lines(size):
    images, rng = photo(*size), np.random.default_rng(10)
    levels = np.array([0.5, 2.5])
    side = min(size)
    draws = {
        "centres": rng.uniform(size=(2, side, 2)) * size,
        "turns": rng.uniform(size=(2, side)),
        "angle": rng.uniform(0, 2 * np.pi, 2),
        "angle_variation": rng.uniform(0.1, 1, 2),
    }
    found = cbar_noise.lines(images, np.float32(levels), **to_float32(**draws))
    for b in range(2):
        expected = images[b].astype(float)
        for line in range(int(levels[b] / 10 * side)):
            turn = draws["turns"][b, line] - 0.5
            angle = draws["angle"][b] + 2 * np.pi * draws["angle_variation"][b] * turn
            reach = side * np.array([np.cos(angle), np.sin(angle)])
            start = (draws["centres"][b, line] - reach).astype(int)
            end = (draws["centres"][b, line] + reach).astype(int)
            rows, columns, value = skimage.draw.line_aa(*start, *end)
            inside = (rows >= 0) & (columns >= 0) & (rows < size[0]) & (columns < size[1])
            rows, columns, value = rows[inside], columns[inside], value[inside, None]
            expected[rows, columns] = (1 - value) * expected[rows, columns] + value * 128
        # The rasteriser leaves a pixel out where a line nearly touches it.
        assert_close(found[b], expected, share=0.99)
