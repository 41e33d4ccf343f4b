"""Flags and image files for the tests of this package."""

import types

import numpy as np
import PIL.Image
from absl import flags

from misc.training import common_flags


def default_flags(module, **values):
    """The flags that a dataloader defines, with their defaults, and those of a model."""
    before = set(flags.FLAGS)
    if "score_values" not in before:
        common_flags.define_numbers("score_values", list(range(1, 11)), "", float)
    model_default = flags.FLAGS["score_values"].default
    try:
        module.define_flags()
        defined = set(flags.FLAGS) - before | {"score_values"}
        found = {name: flags.FLAGS[name].value for name in defined}
    finally:
        flags.FLAGS.set_default("score_values", model_default)
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
    unknown = set(values) - set(found) - {"input_patch_size", "batch_size"}
    assert not unknown, unknown
    return types.SimpleNamespace(**{"input_patch_size": 24, "batch_size": 4} | found | values)


def photo(rows, columns, seed=0):
    """Smooth colours with some noise, so that JPEG files have all their parts."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    waves = [
        127 + 90 * np.sin((x * a + y * b) / 9 + c) for a, b, c in random.uniform(0.2, 2, (3, 3))
    ]
    pixels = np.stack(waves, axis=2) + random.normal(0, 12, (rows, columns, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path, **options)
    return path


def take(dataset, count):
    """The first batches as dicts of arrays."""
    return [{name: value.numpy() for name, value in batch.items()} for batch in dataset.take(count)]


def assert_equal_batches(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert set(batch) == set(other)
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name])


def join(batches, name):
    """One list of what all batches hold under that name."""
    return [value for batch in batches for value in batch[name]]
