"""ImageNet-C-bar and CIFAR-10-C-bar as layers: the draws, per image, and the tables of levels.

A level `v` from 0 to 10 stands for the amount `v * maximum / 10`; each corruption has its own
maximum. The arithmetic is in `degradations.cbar_noise` and `degradations.cbar_warp`; here
`draw_parameters` draws what is random and `transform` applies given draws.

Source: Mintun, Kirillov and Xie, "On Interaction Between Augmentations and Corruptions in Natural
Corruption Robustness", NeurIPS 2021; levels of the published data sets.
"""

import math

from keras import ops

from degradations import cbar_noise, cbar_warp, random
from degradations.base import Degradation, register


class BarCorruption(Degradation):
    """Base class of the corruptions of ImageNet-C-bar and CIFAR-10-C-bar.

    The tables of levels are those of 224x224 (ImageNet) and 32x32 (CIFAR-10) images. A corruption
    that was published for one of them only uses that table at every size, since amounts are
    relative to the image's side; 64x64 images use the table of ImageNet where there is one.
    """

    unit = "amount, tenths of the largest"
    limits = ((0.0, 10.0),)
    imagenet_levels = None
    cifar_levels = None

    @classmethod
    def severities(cls, size=224):
        """Returns the levels of severity 1 to 5."""
        if size == 32:
            return cls.cifar_levels or cls.imagenet_levels
        return cls.imagenet_levels or cls.cifar_levels

    def draw_parameters(self, images, seed):
        """Returns what `transform` needs besides images and levels: name -> tensor `[B, ...]`."""
        return {}

    @staticmethod
    def transform(images, levels, **parameters):
        """Applies given draws; see the function of the same name in `cbar_noise`, `cbar_warp`."""
        raise NotImplementedError

    def apply(self, images, levels, seed):
        """Draws the parameters of each image and applies them."""
        return self.transform(images, levels, **self.draw_parameters(images, seed))


def _uniform_columns(images, seed, *ranges):
    """Draws one number per image for each (low, high); returns tensors of shape [B]."""
    draws = random.uniform([ops.shape(images)[0], len(ranges)], seed)
    return [low + (high - low) * draws[:, i] for i, (low, high) in enumerate(ranges)]


def _points(images, seed, *shape):
    """Draws points (row, column) in 0..H and 0..W; shape [B, *shape, 2]."""
    size = ops.cast(ops.stack(ops.shape(images)[1:3]), "float32")
    return random.uniform([ops.shape(images)[0], *shape, 2], seed) * size


def _rays(images, seed, *shape):
    """Draws the standard normals [B, *shape, 200] of ray lengths and numbers of rays, 50 to 199."""
    batch_size = ops.shape(images)[0]
    normals = random.normal([batch_size, *shape, cbar_noise.MAXIMUM_RAYS], random.fold_in(seed, 0))
    rays = random.integers([batch_size, *shape], random.fold_in(seed, 1), 50, 200)
    return normals, rays


@register
class BlueNoiseSample(BarCorruption):
    """Blackens the pixels where blue noise is lowest."""

    imagenet_levels = (0.8, 1.6, 2.4, 4.0, 5.6)
    cifar_levels = (0.7, 1.4, 2.1, 3.5, 4.2)
    transform = staticmethod(cbar_noise.blue_noise_sample)

    def draw_parameters(self, images, seed):
        """Draws the phases [B, H, W]."""
        uniform = random.uniform(ops.shape(images)[:3], seed)
        return {"phases": cbar_noise.point_symmetric_phases(uniform)}


@register
class BrownishNoise(BarCorruption):
    """Adds noise with much low frequency, per channel."""

    imagenet_levels = (1.0, 2.0, 3.0, 4.0, 5.0)
    cifar_levels = (2.5, 4.0, 5.5, 6.5, 7.0)
    transform = staticmethod(cbar_noise.brownish_noise)

    def draw_parameters(self, images, seed):
        """Draws the phases [B, C, H, W]."""
        batch_size, height, width = ops.shape(images)[:3]
        shape = (batch_size, images.shape[-1], height, width)
        uniform = ops.reshape(random.uniform(shape, seed), (-1, height, width))
        return {"phases": ops.reshape(cbar_noise.point_symmetric_phases(uniform), shape)}


@register
class CheckerboardCutout(BarCorruption):
    """Cuts grey squares out of a rotated checkerboard."""

    imagenet_levels = (2.0, 3.0, 4.0, 5.0, 6.0)
    cifar_levels = (1.0, 2.0, 3.0, 4.0, 5.0)
    transform = staticmethod(cbar_noise.checkerboard_cutout)

    def draw_parameters(self, images, seed):
        """Draws angle, cell size and which squares are cut."""
        batch_size, cells = ops.shape(images)[0], cbar_noise.CHECKERBOARD_GRID
        angle, share = _uniform_columns(
            images, random.fold_in(seed, 0), (0.0, 2.0 * math.pi), (0.1, 0.25)
        )
        return {
            "angle": angle,
            "cell": ops.maximum(share * cbar_noise.image_side(images), 1.0),
            "grid": random.uniform([batch_size, cells, cells], random.fold_in(seed, 1)),
        }


@register
class InverseSparkles(BarCorruption):
    """Keeps one star of the image, white outside."""

    imagenet_levels = (1.0, 2.0, 4.0, 9.0, 10.0)
    cifar_levels = (1.0, 1.5, 2.5, 4.5, 5.0)
    transform = staticmethod(cbar_noise.inverse_sparkles)

    def draw_parameters(self, images, seed):
        """Draws the centre, in the middle half of the image, and the rays."""
        height, width = ops.shape(images)[1:3]
        row, column = _uniform_columns(images, random.fold_in(seed, 0), (0.25, 0.75), (0.25, 0.75))
        centre = [row * ops.cast(height, "float32"), column * ops.cast(width, "float32")]
        normals, rays = _rays(images, random.fold_in(seed, 1))
        return {"centre": ops.stack(centre, axis=1), "ray_normals": normals, "rays": rays}


@register
class Sparkles(BarCorruption):
    """Lays five white stars over the image."""

    imagenet_levels = (1.0, 2.0, 3.0, 5.0, 6.0)
    cifar_levels = (0.7, 3.5, 5.6, 6.3, 7.0)
    transform = staticmethod(cbar_noise.sparkles)

    def draw_parameters(self, images, seed):
        """Draws five centres and their rays."""
        normals, rays = _rays(images, random.fold_in(seed, 1), 5)
        return {
            "centres": _points(images, random.fold_in(seed, 0), 5),
            "ray_normals": normals,
            "rays": rays,
        }


@register
class CausticRefraction(BarCorruption):
    """Looks at the image through moving water."""

    imagenet_levels = (2.35, 3.2, 4.9, 6.6, 9.15)
    transform = staticmethod(cbar_warp.caustic_refraction)

    def draw_parameters(self, images, seed):
        """Draws time and wave size."""
        time, size = _uniform_columns(images, seed, (0.5, 2.0), (0.75, 1.25))
        return {"time": time, "size": size * cbar_noise.image_side(images)}


@register
class CocentricSineWaves(BarCorruption):
    """Adds rings around a point, waved like petals."""

    imagenet_levels = (3.0, 5.0, 8.0, 9.0, 10.0)
    transform = staticmethod(cbar_noise.cocentric_sine_waves)

    def draw_parameters(self, images, seed):
        """Draws centre, petals and rings."""
        petals, amplitude, ring_width = _uniform_columns(
            images, random.fold_in(seed, 1), (0.0, 10.0), (0.0, 0.1), (0.0, 0.1)
        )
        side = cbar_noise.image_side(images)
        return {
            "centre": _points(images, random.fold_in(seed, 0)),
            "petals": petals,
            "amplitude": amplitude * side,
            "ring_width": ring_width * side,
        }


@register
class PerlinNoise(BarCorruption):
    """Blends with grey turbulence."""

    imagenet_levels = (4.6, 5.2, 5.8, 7.6, 8.8)
    transform = staticmethod(cbar_noise.perlin_noise)

    def draw_parameters(self, images, seed):
        """Draws the gradients' directions on the lattice."""
        batch_size, height, width = ops.shape(images)[:3]
        side = cbar_noise.shorter_side(height, width)
        lattice = [cbar_noise.perlin_lattice_size(length, side) for length in (height, width)]
        return {"angles": random.uniform([batch_size, *lattice], seed, 0.0, 2.0 * math.pi)}


@register
class PlasmaNoise(BarCorruption):
    """Blends with coloured plasma."""

    imagenet_levels = (4.75, 7.0, 8.5, 9.25, 10.0)
    transform = staticmethod(cbar_noise.plasma_noise)

    def draw_parameters(self, images, seed):
        """Draws the moment, sharpness, scale and number of iterations."""
        time, iterations, sharpness, scale = _uniform_columns(
            images, seed, (0.0, 6.0 * math.pi), (4.0, 7.0), (0.5, 1.0), (0.075, 0.2)
        )
        return {
            "time": time,
            "iterations": ops.cast(ops.floor(iterations), "int32"),
            "sharpness": sharpness,
            "scale": scale * cbar_noise.image_side(images),
        }


@register
class SingleFrequencyGreyscale(BarCorruption):
    """Adds one plane wave."""

    imagenet_levels = (1.0, 1.5, 2.0, 4.5, 5.0)
    transform = staticmethod(cbar_noise.single_frequency_greyscale)

    def draw_parameters(self, images, seed):
        """Draws the two frequencies, the larger one along either axis, and the phase."""
        first, ratio, order, phase = _uniform_columns(
            images, seed, (-math.pi, math.pi), (-1.0, 1.0), (0.0, 1.0), (0.0, 2.0 * math.pi)
        )
        second = ratio * ops.abs(first)
        return {
            "frequency_x": ops.where(order < 0.5, first, second),
            "frequency_y": ops.where(order < 0.5, second, first),
            "phase": phase,
        }


@register
class CircularMotionBlur(BarCorruption):
    """Blurs along circles about the middle."""

    cifar_levels = (2.8, 3.6, 4.4, 5.2, 6.0)
    transform = staticmethod(cbar_warp.circular_motion_blur)


@register
class Lines(BarCorruption):
    """Draws grey lines across the image."""

    cifar_levels = (0.5, 1.0, 1.5, 2.0, 2.5)
    transform = staticmethod(cbar_noise.lines)

    def draw_parameters(self, images, seed):
        """Draws as many lines as the largest level could need."""
        batch_size, height, width = ops.shape(images)[:3]
        most = cbar_noise.shorter_side(height, width)
        angle, variation = _uniform_columns(
            images, random.fold_in(seed, 0), (0.0, 2.0 * math.pi), (0.1, 1.0)
        )
        return {
            "centres": _points(images, random.fold_in(seed, 1), most),
            "turns": random.uniform([batch_size, most], random.fold_in(seed, 2)),
            "angle": angle,
            "angle_variation": variation,
        }


@register
class PinchAndTwirl(BarCorruption):
    """Pinches and turns the image inside a grid of disks."""

    cifar_levels = (5.5, 6.0, 6.5, 8.5, 10.0)
    transform = staticmethod(cbar_warp.pinch_and_twirl)

    def draw_parameters(self, images, seed):
        """Draws the direction of each turn."""
        batch_size, height, width = ops.shape(images)[:3]
        _, cells_down, cells_right = cbar_warp.twirl_cells(height, width)
        draws = random.uniform([batch_size, cells_down, cells_right], seed)
        return {"signs": ops.where(draws < 0.5, -1.0, 1.0)}


@register
class Ripple(BarCorruption):
    """Moves rows and columns by sines."""

    cifar_levels = (5.5, 6.0, 6.5, 7.5, 8.0)
    transform = staticmethod(cbar_warp.ripple)

    def draw_parameters(self, images, seed):
        """Draws wavelengths and phases along both axes."""
        draws = random.uniform([ops.shape(images)[0], 4], seed)
        return {
            "wavelengths": (0.1 + 0.2 * draws[:, :2]) * cbar_noise.image_side(images),
            "phases": 2.0 * math.pi * draws[:, 2:],
        }


@register
class TransverseChromaticAbberation(BarCorruption):
    """Zooms the three channels differently."""

    cifar_levels = (1.0, 2.0, 5.0, 9.0, 10.0)
    transform = staticmethod(cbar_warp.transverse_chromatic_abberation)

    def draw_parameters(self, images, seed):
        """Draws the order of the channels."""
        return {"order": ops.argsort(random.uniform([ops.shape(images)[0], 3], seed), axis=1)}
