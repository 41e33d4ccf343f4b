"""Settings and image files for the tests of this package."""

import numpy as np
import PIL.Image

from score_predictors.models import mobilenetv2
from tests import flag_values


def default_flags(module, **values):
    """The flags of a dataloader and of a model of small pictures."""
    return flag_values.of(mobilenetv2, module, **{"input_patch_size": 24, "batch_size": 4} | values)


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


def take(data, count, seed=0, **arguments):
    """The first training batches as dicts of arrays."""
    batches = data.training_batches(seed, **arguments)
    return [{name: value.numpy() for name, value in batch.items()} for batch in batches.take(count)]


def assert_equal_batches(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert set(batch) == set(other)
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name])


def join(batches, name):
    """One list of what all batches hold under that name."""
    return [value for batch in batches for value in batch[name]]
