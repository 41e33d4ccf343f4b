import numpy as np
import pytest

from eusr import network
from misc.export.self_ensemble import self_ensemble


@pytest.mark.slow
def test_result_follows_every_flip_and_rotation():
    generator = network.Generator(scales=(2,), features=4, shared_blocks=1, residual_factor=0.1)
    function = self_ensemble(lambda images: generator(images, scale=2))
    image = np.random.default_rng(0).uniform(0, 255, (2, 6, 9, 3)).astype(np.float32)
    result = function(image)
    assert result.shape == (2, 12, 18, 3)
    for view in (
        lambda x: x[:, ::-1],
        lambda x: x[:, :, ::-1],
        lambda x: np.rot90(x, 1, axes=(1, 2)),
        lambda x: np.swapaxes(x, 1, 2),
    ):
        np.testing.assert_allclose(function(view(image)), view(result), atol=1e-3)
    assert np.abs(generator(image, scale=2) - result).max() > 1e-2


def test_a_symmetric_function_is_left_alone():
    image = np.random.default_rng(0).uniform(-20, 300, (1, 5, 7, 3)).astype(np.float32)
    np.testing.assert_allclose(self_ensemble(lambda images: images)(image), image, rtol=1e-6)
