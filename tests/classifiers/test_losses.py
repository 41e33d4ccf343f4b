import numpy as np
import pytest

from classifiers import losses
from tests import references

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(6, 5)).astype(np.float32) * 3
OTHERS = RANDOM.normal(size=(6, 5)).astype(np.float32)
LABELS = np.array([0, 4, 2, 2, 1, 3])


def probabilities(logits):
    exponentials = np.exp(logits.astype(np.float64))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def test_cross_entropy_is_the_mean_in_nats():
    expected = -np.log(probabilities(LOGITS)[np.arange(6), LABELS]).mean()
    assert float(losses.cross_entropy(LABELS, LOGITS)) == pytest.approx(expected, rel=1e-5)


def test_cosine_embedding_flattens_features():
    a = RANDOM.normal(size=(4, 3, 3, 2)).astype(np.float32)
    b = RANDOM.normal(size=(4, 3, 3, 2)).astype(np.float32)
    flat = [x.reshape(4, -1).astype(np.float64) for x in (a, b)]
    cosine = (flat[0] * flat[1]).sum(1) / np.prod([np.linalg.norm(x, axis=1) for x in flat], axis=0)
    assert float(losses.cosine_embedding(a, b)) == pytest.approx((1 - cosine).mean(), rel=1e-5)
    assert float(losses.cosine_embedding(a, 3 * a)) == pytest.approx(0, abs=1e-6)
    assert float(losses.cosine_embedding(a, -a)) == pytest.approx(2)
    assert np.isfinite(float(losses.cosine_embedding(0 * a, 0 * a)))


def test_losses_equal_those_of_pytorch():
    stored = references.load("training")
    found = {
        "cosine_embedding": losses.cosine_embedding(LOGITS, OTHERS),
        "cross_entropy": losses.cross_entropy(LABELS, LOGITS),
    }
    for name, value in found.items():
        assert float(value) == pytest.approx(float(stored[f"loss/{name}"]), rel=1e-5)
