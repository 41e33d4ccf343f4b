"""Which levels of a degradation classifiers are trained on and tested at.

A degradation is given as a text that `degradations.parse` takes. The bare names of FusionDistill's
four stand for the ranges of its paper, other bare names for severity 1 to 5.
"""

import dataclasses
import zlib

import numpy as np

import degradations
from degradations import random
from degradations.base import Degradation

# Daultani & Larochelle (WACV-W 2024): training draws whole numbers of the given steps; every one of
# them is tested.
FUSION_DISTILL = {
    "jpeg": "jpeg:1-101",
    "blur": "blur:0-5,step=0.1",
    "saltpepper": "saltpepper:0-0.25,step=0.01",
    "noise": "noise:0-50,step=1",
}
# The same with the authors' blur, which truncates between its passes, and their nearly black salt.
AUTHORS_VARIANT = {
    "blur_authors": "blur:0-5,step=0.1,authors_variant=true",
    "saltpepper_authors": "saltpepper:0-0.25,step=0.01,authors_variant=true",
}
SIZES = (32, 64, 224)
SEVERITY = "severity"


def training_layers(texts, size):
    """Returns one layer per degradation, which draws its levels per image.

    Args:
        texts: list; see `degradations.expand`.
        size: whose severities: 224, 64 or 32.

    Raises:
        ValueError: if a text can't be read, or comes twice.
    """
    return [_layer(text, size) for text in _expand(texts)]


def _expand(texts):
    try:
        expanded = degradations.expand(texts)
    except ValueError as error:
        raise ValueError(f"--degradations: {error}") from error
    names = [text.strip() for text in expanded]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"--degradations holds the same degradation twice: {', '.join(twice)}")
    return expanded


def _layer(text, size):
    try:
        return degradations.parse(_known(text), size, severity=(1, 5))
    except ValueError as error:
        raise ValueError(f"--degradations={text}: {error}") from error


def _known(text):
    return (FUSION_DISTILL | AUTHORS_VARIANT).get(text.strip(), text)


@dataclasses.dataclass(frozen=True)
class TestDegradation:
    """One degradation and the levels that it is tested at.

    Attributes:
        name: its text, as given.
        layer: the layer that draws from the whole range.
        values: list of levels or severities; `None` stands for what the layer draws by itself.
    """

    __test__ = False  # no test, though its name begins like one

    name: str
    layer: Degradation
    values: list

    def apply(self, images, value, seed):
        """Returns the images at one level, as 8-bit values, and the bytes of their bit streams.

        These are int32 `[B]`, 0 for images that were not coded; `None` without a codec.

        Args:
            images: float32 `[B, H, W, 3]` in 0-255.
            value: scalar tensor, one of `values`; anything where those are [None].
            seed: integer tensor of shape [2].
        """
        coded = self.layer.codec_name is not None
        if self.values == [None]:
            if coded:
                return self.layer.call_with_bytes(images, seed)
            return self.layer(images, seed=seed), None
        if coded:
            return self.layer.call_at_with_bytes(images, value, seed)
        return self.layer.call_at(images, value, seed), None

    @property
    def unit(self):
        """What its values are: SEVERITY, or the unit of the levels."""
        return _unit(self.layer)

    def seed(self, seed, value):
        """Returns the seed of a level: it depends on the name, not on what else is tested."""
        seed = random.fold_in(seed, zlib.crc32(self.name.encode()) & 0x7FFFFFFF)
        return random.fold_in(seed, 0 if value is None else round(1000 * value))


def unit(text):
    """Returns what the levels of a degradation, a text, are: SEVERITY, or their unit."""
    return _unit(_layer(text, SIZES[0]))


def _unit(layer):
    return SEVERITY if getattr(layer, "severity", None) is not None else layer.unit


def test_degradations(texts, levels, size):
    """Returns a `TestDegradation` for each text.

    Args:
        texts: list; see `degradations.expand`.
        levels: "random": levels drawn per image as in training; "all": every level of the range;
            or a text of numbers such as "10,30,50": these levels (severities where a degradation
            has them and no level is given).
        size: whose severities: 224, 64 or 32.

    Raises:
        ValueError: if a text can't be read or comes twice, a level is outside the range or comes
            twice, or "all" is asked for where the range has no step.
    """
    tested = []
    for text in _expand(texts):
        layer = _layer(text, size)
        tested.append(TestDegradation(text.strip(), layer, _values(text, layer, levels)))
    return tested


test_degradations.__test__ = False


def _values(text, layer, levels):
    if levels == "random":
        return [None]
    if layer.span is None:
        if levels != "all":
            raise ValueError(
                f"--levels={levels}: {text} has no single level to set. Test it with --levels=all "
                "or random, which both leave it as it is."
            )
        return [None]
    low, high, step = layer.span
    if levels != "all":
        try:
            values = [float(part) for part in str(levels).split(",")]
        except ValueError as error:
            raise ValueError(
                f"--levels must be random, all, or numbers such as 10,30. Received: {levels!r}"
            ) from error
        outside = [value for value in values if not low <= value <= high]
        if outside:
            raise ValueError(
                f"--levels={levels}: {text} has levels from {low:g} to {high:g}. "
                f"Received: {outside[0]:g}"
            )
        if len(set(values)) < len(values):
            raise ValueError(f"--levels={levels} has a level twice.")
        return values
    if low == high:
        return [low]
    if step is None:
        raise ValueError(
            f"--levels=all needs to know the distance between the levels of {text}: "
            f"write {text},step=... or list the --levels."
        )
    count = int(np.floor((high - low) / step + 1e-4)) + 1
    return [round(low + step * number, 6) for number in range(count)]
