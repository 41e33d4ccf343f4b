"""The contract of a degradation."""

import math
import numbers
import warnings

import keras
import numpy as np
from keras import ops

from degradations import random, severity

# A float32 sum that should be a whole number may end just below it, by up to 1e-4; truncation would
# then lose a grey level. Anything this close below a whole number counts as that number.
ROUNDING_SLACK = 2.0**-12

QUANTIZE = ("truncate", "round", None)


def register(layer):
    """Makes a layer class known to `keras.saving` under the name of this package."""
    return keras.saving.register_keras_serializable(package="degradations")(layer)


def is_grey(images):
    """Returns whether [B, H, W, 1] rather than [B, H, W, 3]."""
    return images.shape[-1] == 1


def per_image(levels, images):
    """Reshapes levels of shape [B] to [B, 1, 1, 1], to act on images of shape [B, H, W, C]."""
    return ops.reshape(levels, [-1] + [1] * (len(images.shape) - 1))


def choose(mask, images, others):
    """Returns, per image, `images` where the mask [B] is true, else `others`; both finite."""
    # Five times as fast as ops.where on a CPU, and exact, since the mask is 0 or 1.
    mask = per_image(ops.cast(mask, "float32"), images)
    return images * mask + others * (1.0 - mask)


def to_8_bits(images, quantize="truncate"):
    """Cuts to 0-255 and drops ("truncate") or rounds ("round") what 8 bits can't hold.

    None only cuts. The result stays float32.
    """
    if quantize == "truncate":
        return ops.floor(ops.clip(images + ROUNDING_SLACK, 0.0, 255.0))
    images = ops.clip(images, 0.0, 255.0)
    # Half goes up, as in images stored by C code; ops.round would send half to even.
    return ops.floor(images + 0.5) if quantize == "round" else images


class Degradation(keras.layers.Layer):
    """Base class: draws a level per image, applies it, and returns to 8-bit values.

    `layer(images, seed=seed)` takes float32 RGB images of shape [B, H, W, 3], or grey ones of shape
    [B, H, W, 1], with values 0-255, any H and W from 1 up, and returns the same shape and range.
    Image i of a batch depends on the seed and on i, not on the batch size. Without a seed, as in
    `keras.Sequential` or `Dataset.map(layer)`, every call draws another one from the layer's own
    `keras.random.SeedGenerator`. The layer degrades in training and in inference alike.

    A subclass implements `apply`, and names its level:

    - `parameters`: names of the numbers that make one level, at least one;
    - `unit`: what they mean;
    - `limits`: smallest and largest allowed value of each parameter;
    - `integer`: whether drawn levels are whole numbers;
    - `severity_table`: name of its levels in `severity`, or `severities`, a method that gives five
      levels, where the literature has them;
    - `options`: names of further arguments of its constructor, kept as attributes;
    - `host_only`: True if it needs host code, such as a codec library. It then works eagerly and in
      a `Dataset.map`, not in a compiled step on an accelerator;
    - `shares_level`: True if `apply` also takes one level for the whole batch. It then gets that
      when all images have the same, which saves work;
    - `whole`: True if `apply` itself returns whole numbers from 0 to 255.

    Bad input raises ValueError when values are at hand (eagerly); a batch that is not black but
    nowhere above 1 looks like images in 0-1 and gives a warning, once. While a graph is traced
    values aren't at hand: those outside 0-255 are cut and undefined ones (NaN) count as 0, so that
    no NaN comes out.

    Args:
        level: one number for every image; a pair (low, high) to draw from uniformly, per image;
            with several parameters, a mapping from each parameter's name to a number or a pair.
        severity: instead of a level, a number from 1 to 5 or a pair (low, high); fractions
            interpolate the table linearly. 0 leaves the image as it is.
        p: probability that an image is degraded at all.
        step: distance between the levels (or severities) that can be drawn, counted from low, with
            high included; None draws any real number. Layers with whole levels have step 1.
        quantize: how the result returns to 8-bit values: "truncate", "round", or None to keep
            fractions (cut to 0-255).
        size: whose table of severities: 224 (ImageNet-C), 64 (Tiny-ImageNet-C), 32 (CIFAR-10-C).

    Raises:
        ValueError: if an argument is outside its range.
    """

    parameters = ("level",)
    severity_table = None
    options = ()
    unit = ""
    limits = ((-math.inf, math.inf),)
    integer = False
    host_only = False
    shares_level = False
    whole = False
    codec_name = None

    def __init__(
        self,
        level=None,
        severity=None,
        p=1.0,
        step=None,
        quantize="truncate",
        size=224,
        name=None,
    ):
        super().__init__(name=name, dtype="float32", autocast=False, trainable=False)
        if quantize not in QUANTIZE:
            raise ValueError(f"quantize must be one of {QUANTIZE}. Received: {quantize!r}")
        _check_number("p", p, 0.0, 1.0)
        if step is not None:
            _check_number("step", step, 0.0, math.inf)
            if step == 0:
                raise ValueError("step must be above 0, or None. Received: 0")
        if size not in (32, 64, 224):
            raise ValueError(f"size must be 32, 64 or 224. Received: {size!r}")
        self.level, self.severity = _plain(level), _plain(severity)
        self.p, self.step, self.quantize, self.size = p, step, quantize, size
        # Variables can't be made while a function is traced.
        self._seeds = None if random.is_tracing() else keras.random.SeedGenerator()
        self._warned = False
        self._table = None
        self._ranges = None
        self._set_level()

    @classmethod
    def severities(cls, size=224):
        """Returns the levels of severity 1 to 5, shape [5, parameters], or None without a table."""
        return severity.table(cls.severity_table, size) if cls.severity_table else None

    def _set_level(self):
        kind = type(self).__name__
        if (self.level is None) == (self.severity is None):
            raise ValueError(
                f"{kind} needs either a level ({', '.join(self.parameters)}; {self.unit}) or a "
                f"severity. Received: level={self.level!r}, severity={self.severity!r}"
            )
        if self.severity is not None:
            table = self.severities(self.size)
            if table is None:
                raise ValueError(f"{kind} has no severities, give its level ({self.unit})")
            self._table = np.asarray(table, np.float32).reshape(5, len(self.parameters))
            low, high = _as_range("severity", self.severity, 0.0, 5.0)
            fractions = [v for v in (low, high) if 0 < v < 1]
            if fractions or (low == 0 and high > 0 and (self.step or 0) != 1):
                raise ValueError(
                    "severity must be 0 or from 1 to 5; a range from 0 needs step=1. "
                    f"Received: {self.severity!r}"
                )
            self._ranges = np.array([[low, high]], np.float32)
            return
        values = self.level
        if not isinstance(values, dict):
            if len(self.parameters) > 1:
                raise ValueError(
                    f"{kind} has several parameters: give each of {', '.join(self.parameters)}, or "
                    f"a severity. Received: {values!r}"
                )
            values = {self.parameters[0]: values}
        missing = set(self.parameters) ^ set(values)
        if missing:
            raise ValueError(
                f"{kind} takes exactly the parameters {', '.join(self.parameters)}. "
                f"Received: {', '.join(values)}"
            )
        self._ranges = np.array(
            [
                _as_range(f"{kind} {name}", values[name], *limit)
                for name, limit in zip(self.parameters, self.limits, strict=True)
            ],
            np.float32,
        )

    def draw(self, batch_size, seed):
        """Draws one level per image.

        Returns:
            float32 tensor of shape [B] if the layer has one parameter, else [B, parameters].
        """
        return self._to_levels(self._draw_values(batch_size, random.make_seed(seed)))

    def apply(self, images, levels, seed):
        """Degrades float32 images [B, H, W, C] of 0-255 by one level per image.

        The result is float32; it may leave 0-255 and hold fractions, which `call` removes.
        """
        raise NotImplementedError(f"{type(self).__name__} has no apply")

    def call(self, images, seed=None):
        """Draws, applies, and returns to 8-bit values."""
        return self.degrade(images, self._seed(seed))[0]

    def call_with_bytes(self, images, seed=None):
        """Returns what the layer returns, and the bytes of each image's bit stream, int32 [B].

        An image that went through no codec, because of `p`, a severity of 0 or the layer itself,
        counts 0 bytes: it has no bit stream, and belongs in no mean.

        Args:
            images: as the layer takes them.
            seed: as the layer takes it.
        """
        return self.degrade(self._check(images), self._seed(seed), with_bytes=True)

    def call_at(self, images, value, seed):
        """Degrades all images by the same level; see `call_at_with_bytes`."""
        return self._call_at(images, value, seed, with_bytes=False)[0]

    def call_at_with_bytes(self, images, value, seed):
        """Degrades all images by the same level; returns 8-bit values, and bytes as int32 [B].

        Args:
            images: float32 [B, H, W, C], values 0-255.
            value: scalar within `span`: the level, or the severity where the layer was given
                severities.
            seed: integer, or integer tensor of shape [] or [2].

        Raises:
            ValueError: if the layer has no `span`.
        """
        return self._call_at(images, value, seed, with_bytes=True)

    def _call_at(self, images, value, seed, with_bytes):
        if self.span is None:
            raise ValueError(f"{type(self).__name__} has no single level: call it without one.")
        rows = 1 if self.shares_level else ops.shape(images)[0]
        values = ops.broadcast_to(ops.cast(value, "float32"), [rows, 1])
        return self._degrade_at(images, values, random.make_seed(seed), with_bytes)

    def degrade(self, images, seed, with_bytes=False):
        """Does what `call` and `call_with_bytes` do, for checked images and any seed of `random`.

        Returns:
            The images, and their bytes where these are asked for, else None.
        """
        rows = 1 if self.shares_level and self.fixed else ops.shape(images)[0]
        values = self._draw_values(rows, random.fold_in(seed, 0))
        return self._degrade_at(images, values, seed, with_bytes)

    def _degrade_at(self, images, values, seed, with_bytes=False):
        degraded, sizes = self.apply_to_8_bits(
            images, self._to_levels(values), random.fold_in(seed, 1), with_bytes
        )
        keep = self._keep(values, ops.shape(images)[0], seed)
        if keep is None:
            return degraded, sizes
        sizes = None if sizes is None else ops.where(keep, 0, sizes)
        return choose(keep, images, degraded), sizes

    def apply_to_8_bits(self, images, levels, seed, with_bytes=False):
        """Does what `apply` does, then returns to 8-bit values; results as of `degrade`."""
        degraded = self.apply(images, levels, seed)
        if not self.whole:
            degraded = to_8_bits(degraded, self.quantize)
        return degraded, ops.zeros([ops.shape(images)[0]], "int32") if with_bytes else None

    def _seed(self, seed):
        if seed is not None:
            return random.make_seed(seed)
        if self._seeds is None:
            raise ValueError(
                f"{type(self).__name__} was made inside a traced function, where it has no seeds "
                "of its own: make it outside, or give a seed."
            )
        return random.make_seed(self._seeds.next())

    def _keep(self, values, batch_size, seed):
        """Returns which images stay as they are, bool [B], or None if all are degraded."""
        keep = None
        if self._starts_clean:
            keep = ops.broadcast_to(values[:, 0] < 0.5, [batch_size])
        if self.p < 1:
            missed = random.uniform([batch_size], random.fold_in(seed, 2)) >= self.p
            keep = missed if keep is None else ops.logical_or(keep, missed)
        return keep

    def __call__(self, images, seed=None, **kwargs):
        """Checks the images and the seed, then calls the layer.

        Args:
            images: float32 [B, H, W, 3] or [B, H, W, 1], values 0-255.
            seed: integer, or integer tensor of shape [] or [2]; None draws one from the layer's own
                `keras.random.SeedGenerator`.
            **kwargs: what Keras itself passes.

        Raises:
            ValueError: if the images have another type, shape or range, hold NaN, or the seed is
                not an integer or a pair.
        """
        images = self._check(images)
        if seed is not None and not isinstance(images, keras.KerasTensor):
            seed = random.make_seed(seed)
        return super().__call__(images, seed=seed, **kwargs)

    def _check(self, images):
        images = check_images(images, type(self).__name__, clean=not self.cleans(images))
        symbolic = self._warned or isinstance(images, keras.KerasTensor)
        values = None if symbolic else random.concrete(images)
        # Mostly the first value tells.
        if values is not None and values.size and values.flat[0] <= 1 and 0 < values.max() <= 1:
            self._warned = True
            warnings.warn(
                f"{type(self).__name__} takes images with values 0-255, and all of these are in "
                f"{values.min():g}-{values.max():g}: multiply images in 0-1 by 255.",
                stacklevel=3,
            )
        return images

    def cleans(self, images):
        """Returns whether the layer itself cuts these images to 0-255 and removes NaN."""
        return False

    @property
    def _starts_clean(self):
        # Severities below 1 leave a share of the images as they are.
        return self._table is not None and self._ranges[0, 0] < 1

    @property
    def keeps_some(self):
        """True if some images may stay as they are."""
        return bool(self.p < 1 or self._starts_clean)

    def build(self, *_, **__):
        """A degradation has no weights."""
        self.built = True

    def compute_output_shape(self, images_shape, *_, **__):
        """A degradation keeps the shape."""
        return images_shape

    def get_config(self):
        """Returns the arguments of the constructor, plain enough for JSON."""
        own = ("name", "level", "severity", "p", "step", "quantize", "size", *self.options)
        return {name: getattr(self, name) for name in own}

    @property
    def fixed(self):
        """True if every image gets the same level."""
        return bool(np.all(self._ranges[:, 0] == self._ranges[:, 1]))

    @property
    def span(self):
        """(low, high, step) of the levels or severities; step None: any number between them.

        None where more than one number is drawn, or not every image is degraded.
        """
        if self._ranges is None or len(self._ranges) > 1 or self.p < 1:
            return None
        low, high = (float(value) for value in self._ranges[0])
        return low, high, self.step or (1 if self.integer or self._table is not None else None)

    def largest(self, parameter):
        """Returns the largest value that the parameter can be drawn at, to size static arrays."""
        return self._extreme(parameter, max)

    def smallest(self, parameter):
        """Returns the smallest value that the parameter can be drawn at."""
        return self._extreme(parameter, min)

    def _extreme(self, parameter, choose):
        index = self.parameters.index(parameter)
        if self._table is None:
            return float(choose(self._ranges[index]))
        low, high = self._ranges[0]
        rows = np.concatenate([[low], np.arange(math.ceil(low), math.floor(high) + 1), [high]])
        return float(choose(_interpolate_numpy(self._table, np.maximum(rows, 1))[:, index]))

    def _draw_values(self, batch_size, seed):
        """Draws levels, or severities where the layer was given those; shape [B, values]."""
        low, high = self._ranges[:, 0], self._ranges[:, 1]
        step = self.step or (1 if self.integer and self._table is None else None)
        if np.all(low == high):
            return ops.broadcast_to(ops.convert_to_tensor(low[None]), [batch_size, len(low)])
        draws = random.uniform([batch_size, len(low)], seed)
        if step is None:
            return low + (high - low) * draws
        counts = np.floor((high - low) / step + 1e-4) + 1
        return low + np.float32(step) * ops.floor(draws * counts.astype(np.float32))

    def _to_levels(self, values):
        if self._table is not None:
            values = _interpolate(self._table, values[:, 0])
            if self.integer:
                values = ops.round(values)
        return values[:, 0] if len(self.parameters) == 1 else values


def check_images(images, who, clean=True):
    """Returns the images as a tensor after checking type, shape and, eagerly, range.

    In a graph under construction, values are not at hand: they are cut to 0-255 and NaN becomes 0,
    unless `clean` is false.

    Raises:
        ValueError: naming `who`, what was found and what is allowed.
    """
    if not hasattr(images, "dtype"):
        images = np.asarray(images)
    kind = keras.backend.standardize_dtype(images.dtype)
    if kind != "float32":
        raise ValueError(
            f"{who} takes float32 images with values 0-255; cast them first. Received: {kind}"
        )
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[-1] not in (1, 3):
        raise ValueError(
            f"{who} takes images of shape [B, H, W, 3] or [B, H, W, 1]. Received: {shape}"
        )
    if any(side == 0 for side in shape[1:3]):
        raise ValueError(f"{who} takes images of at least 1x1 pixels. Received: {shape}")
    if isinstance(images, keras.KerasTensor):
        return images
    values = random.concrete(images)
    images = ops.convert_to_tensor(images)
    if values is None:
        return _clean(images) if clean else images
    if values.size:
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 255):
            found = "NaN" if math.isnan(low) else f"values from {low:g} to {high:g}"
            raise ValueError(f"{who} takes images with values 0-255. Received: {found}")
    return images


def _clean(images):
    # Three reductions are cheaper than cleaning, which hardly any batch needs. A sum carries NaN;
    # minima and maxima may drop it.
    good = ops.logical_and(ops.min(images) >= 0, ops.max(images) <= 255)
    good = ops.logical_and(good, ops.isfinite(ops.sum(images)))
    return ops.cond(
        good,
        lambda: images,
        lambda: ops.clip(ops.where(ops.isnan(images), 0.0, images), 0.0, 255.0),
    )


def _interpolate(table, severities):
    position = ops.clip(severities, 1.0, 5.0) - 1.0
    below = ops.clip(ops.floor(position), 0.0, 3.0)
    fraction = ops.expand_dims(position - below, -1)
    index = ops.cast(below, "int32")
    table = ops.convert_to_tensor(table)
    first, second = ops.take(table, index, axis=0), ops.take(table, index + 1, axis=0)
    # Written so that whole severities give the table's own numbers, without rounding.
    return first * (1.0 - fraction) + second * fraction


def _interpolate_numpy(table, severities):
    return np.stack([np.interp(severities, np.arange(1, 6), column) for column in table.T], axis=-1)


def _check_number(name, value, low, high):
    good = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not good or not low <= value <= high:
        raise ValueError(f"{name} must be a number from {low:g} to {high:g}. Received: {value!r}")


def _as_range(name, value, low, high):
    pair = value if isinstance(value, list | tuple) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"{name} must be a number or a pair (low, high). Received: {value!r}")
    for number in pair:
        _check_number(name, number, low, high)
    if pair[0] > pair[1]:
        raise ValueError(f"{name} must have low <= high. Received: {value!r}")
    return float(pair[0]), float(pair[1])


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
