"""The expected calibration error."""

import numpy as np
import pytest

from classifiers import calibration


def reference(confidence, right, bins):
    """Equation 3 of Guo et al. (ICML 2017), bin by bin."""
    total = 0.0
    for number in range(bins):
        inside = (confidence > number / bins) & (confidence <= (number + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return 100 * total


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_as_defined(count):
    random = np.random.default_rng(count)
    confidence = random.uniform(0.05, 1, count)
    right = random.uniform(size=count) < confidence**2
    found = calibration.expected_calibration_error(confidence, right)
    assert found == pytest.approx(reference(confidence, right, 15), abs=1e-10)


def test_what_is_known():
    assert calibration.expected_calibration_error([1.0, 1.0], [True, False]) == 50
    assert calibration.expected_calibration_error([0.5] * 4, [True, False] * 2) == 0
    # A model that gives no number is wrong, and not sure of it.
    assert calibration.expected_calibration_error([np.nan], [False]) == 0
    assert np.isnan(calibration.expected_calibration_error([], []))
