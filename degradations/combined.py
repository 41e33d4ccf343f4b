"""Several degradations as one: one after the other, or one of them for each image."""

import functools

import keras
from keras import ops

from degradations import random
from degradations.base import Degradation, choose, register, to_8_bits


@register
class Chain(Degradation):
    """Applies several degradations one after the other, each ending in 8-bit values.

    `call_with_bytes` gives the size of the last bit stream that an image went through: of
    `jpeg:10|webp:30|blur:1` the WebP's, or the JPEG's where the WebP's `p` spared the image.

    Args:
        layers: degradations, first to last.
        p: probability that an image goes through the chain.
    """

    unit = "the levels of its parts"

    def __init__(self, layers, p=1.0, name=None):
        wrong = [layer for layer in layers if not isinstance(layer, Degradation)]
        if wrong or not layers:
            raise ValueError(f"layers must be degradations, at least one. Received: {layers!r}")
        super().__init__(level=0, p=p, quantize=None, name=name)
        self.layers = list(layers)

    @property
    def span(self):
        """None: its parts have levels of their own."""
        return

    @property
    def host_only(self):
        """True if any part is."""
        return any(layer.host_only for layer in self.layers)

    @property
    def codec_name(self):
        """Name of the codec that comes last, None without one."""
        names = [layer.codec_name for layer in self.layers if layer.codec_name]
        return names[-1] if names else None

    def draw(self, batch_size, seed):
        """Returns a tuple of each part's levels, drawn as `call` with this seed would."""
        seed = random.make_seed(seed)
        return tuple(
            layer.draw(batch_size, random.fold_in(random.fold_in(seed, i), 0))
            for i, layer in enumerate(self.layers)
        )

    def apply(self, images, levels, seed):
        """Applies part i with `levels[i]`; each part's own probability and severity 0 are left out.

        Each part's result returns to 8-bit values before the next.
        """
        for i in range(len(self.layers)):
            images = self._apply_part(i, images, levels[i], seed)
        return images

    def _apply_part(self, i, images, levels, seed):
        layer, seed = self.layers[i], random.fold_in(random.fold_in(seed, i), 1)
        return to_8_bits(layer.apply(images, levels, seed), layer.quantize)

    def degrade(self, images, seed, with_bytes=False):
        """Sends images through each part in turn, with its own share of the seed."""
        degraded, sizes = images, None
        for i, layer in enumerate(self.layers):
            degraded, own = layer.degrade(degraded, random.fold_in(seed, i), with_bytes)
            sizes = own if sizes is None else ops.where(own > 0, own, sizes)
        return self._keep_some(images, degraded, sizes, seed)

    def _keep_some(self, images, degraded, sizes, seed):
        if self.p >= 1:
            return degraded, sizes
        seed = random.fold_in(seed, len(self.layers))
        missed = random.uniform([ops.shape(images)[0]], seed) >= self.p
        sizes = None if sizes is None else ops.where(missed, 0, sizes)
        return choose(missed, images, degraded), sizes

    def get_config(self):
        """Returns the serialized parts."""
        layers = [keras.saving.serialize_keras_object(layer) for layer in self.layers]
        return {"name": self.name, "layers": layers, "p": self.p}

    @classmethod
    def from_config(cls, config):
        """Builds the parts, then the whole."""
        layers = [keras.saving.deserialize_keras_object(part) for part in config["layers"]]
        return cls(**{**config, "layers": layers})


@register
class OneOf(Chain):
    """Applies one of several degradations to each image, chosen at random per image.

    Each part is computed for the images that drew it alone, and they come out as if it had been
    computed for all. `call_with_bytes` gives the size of the part that an image drew.

    Where shapes must be known (under XLA, in traced functions of JAX), how many images a part gets
    cannot depend on the draw. There one image follows the other, each through its own part alone:
    no work is wasted, but images are not computed side by side. What a choice costs beyond the mean
    of its parts is the start of each part, which counts with many parts, few and small images
    (`benchmarks/one_of.py`).

    Args:
        layers: degradations to choose from, all with the same probability.
        p: probability that an image is degraded.
    """

    @property
    def codec_name(self):
        """Names of the codecs of its parts, None without one."""
        names = dict.fromkeys(layer.codec_name for layer in self.layers if layer.codec_name)
        return " or ".join(names) or None

    def draw(self, batch_size, seed):
        """Returns (choice [B], tuple of each part's levels)."""
        seed = random.make_seed(seed)
        return self._choices(batch_size, seed), super().draw(batch_size, seed)

    def apply(self, images, levels, seed):
        """Applies to each image the part that `levels[0]` names, with the levels drawn for it."""
        choices, levels = levels

        def branch(i, places):
            own = keras.tree.map_structure(lambda level: ops.take(level, places, axis=0), levels[i])
            part = ops.take(images, places, axis=0)
            return (self._apply_part(i, part, own, random.at_places(seed, places)),)

        return self._route(images, choices, branch)[0]

    def degrade(self, images, seed, with_bytes=False):
        """Chooses per image, sends it through the chosen part."""

        def branch(i, places):
            part_seed = random.at_places(random.fold_in(seed, i), places)
            part = ops.take(images, places, axis=0)
            degraded, sizes = self.layers[i].degrade(part, part_seed, with_bytes)
            return (degraded, sizes) if with_bytes else (degraded,)

        choices = self._choices(ops.shape(images)[0], seed)
        degraded, *sizes = self._route(images, choices, branch, with_bytes)
        return self._keep_some(images, degraded, sizes[0] if sizes else None, seed)

    def _choices(self, batch_size, seed):
        seed = random.fold_in(seed, len(self.layers) + 1)
        return random.integers([batch_size], seed, 0, len(self.layers))

    def _route(self, images, choices, branch, with_bytes=False):
        """Returns, per image, what `branch(its choice, its place)` gives: (images[, bytes])."""
        everyone = ops.arange(ops.shape(images)[0], dtype="int32")
        if random.is_static():
            return ops.map(lambda place: self._one(place, choices, branch), everyone)
        parts, order = [], []
        for i in range(len(self.layers)):
            places = ops.cast(ops.nonzero(choices == i)[0], "int32")
            none = (ops.take(images, places, axis=0), ops.zeros_like(places))[: 1 + with_bytes]
            parts.append(_if_any(places, functools.partial(branch, i, places), none))
            order.append(places)
        order = ops.argsort(ops.concatenate(order))
        pixels, *sizes = (
            ops.take(ops.concatenate(part), order, axis=0) for part in zip(*parts, strict=True)
        )
        return ops.reshape(pixels, ops.shape(images)), *sizes

    def _one(self, place, choices, branch):
        places = ops.expand_dims(place, 0)
        branches = [functools.partial(branch, i, places) for i in range(len(self.layers))]
        result = ops.switch(ops.take(choices, place), branches)
        return keras.tree.map_structure(lambda part: ops.squeeze(part, 0), result)


def _if_any(places, branch, none):
    """Returns `branch()`, which costs nothing where there are no places; then, `none`."""
    count = ops.shape(places)[0]
    if isinstance(count, int):
        return branch() if count else none
    return ops.cond(count > 0, branch, lambda: none)
