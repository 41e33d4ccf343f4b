"""The networks and losses of 4PP-EUSR beside stored results of theirs on JAX."""

import numpy as np
import pytest

from eusr import losses
from eusr.discriminator import Discriminator
from eusr.network import Generator
from tests import references
from tests.classifiers.networks import examples

SCALES = (2, 4, 8)


def assign_examples(network):
    """Gives a network small weights that follow from their names."""
    for variable in network.variables:
        inputs = np.prod(variable.shape[:-1])
        variable.assign(examples.uniform(variable.path, variable.shape) * np.sqrt(3 / inputs))


def results():
    """Returns {name: array} of all outputs and losses."""
    images = examples.photos(2, 12)
    generator = Generator(scales=SCALES, features=4, shared_blocks=1)
    generator(images, scale=2)
    assign_examples(generator)
    found = {f"x{s}": references.sample(generator(images, scale=s), 64) for s in SCALES}
    discriminator = Discriminator(2)
    discriminator(examples.photos(2, 32))
    assign_examples(discriminator)
    logits = [discriminator(examples.photos(2, 32, seed)) for seed in (0, 1)]
    votes = np.abs(examples.uniform("votes", (2, 4, 10)))
    votes /= votes.sum(axis=-1, keepdims=True)
    found |= {
        "logits": np.asarray(logits).ravel(),
        "reconstruction": losses.reconstruction(images, images[::-1]),
        "discrimination": losses.discrimination(*logits),
        "adversarial": losses.adversarial(logits[0]),
        "score": losses.score(*votes),
        "representation": losses.representation(*votes),
    }
    return {name: np.asarray(value, np.float64) for name, value in found.items()}


def test_outputs_and_losses_are_those_on_jax():
    stored = references.load("jax")
    for name, value in results().items():
        expected = stored[f"eusr/{name}"]
        assert value == pytest.approx(expected, abs=1e-4 * np.abs(expected).max()), name
