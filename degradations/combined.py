"""Several degradations as one: one after the other, or one of them for each image."""

import keras
from keras import ops

from degradations import random
from degradations.base import Degradation, choose, register, to_8_bits


@register
class Chain(Degradation):
    """Applies several degradations one after the other, each ending in 8-bit values.

    Args:
        layers: degradations, first to last.
        p: probability that an image goes through the chain.
    """

    unit = "the levels of its parts"

    def __init__(self, layers, p=1.0, name=None):
        self._check_layers(layers)
        super().__init__(level=0, p=p, quantize=None, name=name)
        self.layers = list(layers)

    @staticmethod
    def _check_layers(layers):
        wrong = [layer for layer in layers if not isinstance(layer, Degradation)]
        if wrong or not layers:
            raise ValueError(f"layers must be degradations, at least one. Received: {layers!r}")

    @property
    def span(self):
        """None: its parts have levels of their own."""
        return

    @property
    def host_only(self):
        """True if any part is."""
        return any(layer.host_only for layer in self.layers)

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
        for i, layer in enumerate(self.layers):
            seed_i = random.fold_in(random.fold_in(seed, i), 1)
            images = to_8_bits(layer.apply(images, levels[i], seed_i), layer.quantize)
        return images

    def call(self, images, seed):
        """Calls each part in turn, with its own share of the seed."""
        degraded = images
        for i, layer in enumerate(self.layers):
            degraded = layer.call(degraded, random.fold_in(seed, i))
        return self._keep_some(images, degraded, random.fold_in(seed, len(self.layers)))

    def _keep_some(self, images, degraded, seed):
        if self.p >= 1:
            return degraded
        missed = random.uniform([ops.shape(images)[0]], seed) >= self.p
        return choose(missed, images, degraded)

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

    A batch of one runs only the chosen part; a larger batch runs all of them and picks per image,
    since a compiled step has no per-image branches. Both give the same pixels.

    Args:
        layers: degradations to choose from, all with the same probability.
        p: probability that an image is degraded.
    """

    unit = "the levels of its parts"

    def draw(self, batch_size, seed):
        """Returns (choice [B], tuple of each part's levels)."""
        seed = random.make_seed(seed)
        return self._choices(batch_size, seed), super().draw(batch_size, seed)

    def apply(self, images, levels, seed):
        """Applies to each image the part that `levels[0]` names, with the levels drawn for it."""
        choices, levels = levels
        results = [
            to_8_bits(
                layer.apply(images, levels[i], random.fold_in(random.fold_in(seed, i), 1)),
                layer.quantize,
            )
            for i, layer in enumerate(self.layers)
        ]
        return _pick(results, choices)

    def call(self, images, seed):
        """Chooses per image, calls the chosen part."""
        seeds = [random.fold_in(seed, i) for i in range(len(self.layers))]
        choices = self._choices(ops.shape(images)[0], seed)
        branches = [
            lambda layer=layer, part=part: layer.call(images, part)
            for layer, part in zip(self.layers, seeds, strict=True)
        ]
        if images.shape[0] == 1:
            degraded = ops.switch(choices[0], branches)
            degraded = ops.reshape(degraded, ops.shape(images))
        else:
            degraded = _pick([branch() for branch in branches], choices)
        return self._keep_some(images, degraded, random.fold_in(seed, len(self.layers)))

    def _choices(self, batch_size, seed):
        seed = random.fold_in(seed, len(self.layers) + 1)
        return random.integers([batch_size], seed, 0, len(self.layers))


def _pick(results, choices):
    picked = results[0]
    for i, result in enumerate(results[1:], 1):
        picked = choose(choices == i, result, picked)
    return picked
