"""Confidence intervals by drawing images anew."""

import numpy as np
import pytest

from classifiers import bootstrap


def test_each_resample_is_a_mean_of_drawn_rows(monkeypatch):
    monkeypatch.setattr(bootstrap, "_CHUNK", 100)  # in several parts
    values = np.random.default_rng(0).uniform(size=(30, 3))
    found = bootstrap.resample_means(values, seed=5, resamples=8)
    random = np.random.default_rng(5)
    expected = []
    for start in range(0, 8, 3):
        drawn = random.integers(0, 30, [min(3, 8 - start), 30], dtype=np.int32)
        expected += [values[one].mean(axis=0) for one in drawn]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_intervals_are_those_of_the_binomial():
    right = np.arange(400) < 300
    samples = bootstrap.resample_means(right[:, None], seed=0)[:, 0]
    low, high = bootstrap.interval(samples)
    deviation = np.sqrt(0.75 * 0.25 / 400)
    assert (low, high) == pytest.approx(
        (0.75 - 1.96 * deviation, 0.75 + 1.96 * deviation), abs=0.01
    )
    np.testing.assert_array_equal(samples, bootstrap.resample_means(right[:, None], seed=0)[:, 0])


def test_columns_see_the_same_images():
    right = np.random.default_rng(0).integers(0, 2, 50)
    samples = bootstrap.resample_means(np.stack([right, 1 - right], axis=1), seed=1)
    np.testing.assert_allclose(samples.sum(axis=1), 1, rtol=1e-6)
