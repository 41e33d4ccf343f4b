import math

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
from absl import logging
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from score_predictors import targets

TEN = np.arange(10.0)
UNEVEN = np.array([0.0, 1.0, 2.5, 3.0, 7.0, 10.0])


def moments(scores, values):
    scores = np.asarray(scores, np.float64)
    means = scores @ values
    return means, np.sqrt(np.maximum(scores @ values**2 - means**2, 0))


def check_distributions(scores, count):
    assert scores.dtype == np.float32
    assert scores.shape[1] == count
    assert scores.min() >= 0
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)


def test_gaussian_bins_of_the_first_row_of_tid2013():
    (scores,) = targets.gaussian_bins([5.51429], [0.13013], TEN)
    np.testing.assert_allclose(scores[5:7], [0.4563, 0.5437], atol=5e-5)
    assert scores.dtype == np.float32


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 9), st.floats(0, 3))
def test_gaussian_bins_equal_the_formula(mean, std):
    def below(x):
        return 0.5 * math.erfc(-(x - mean) / (std + 1e-10) / math.sqrt(2))

    expected = np.array([below(k + 0.5) - below(k - 0.5) for k in range(10)])
    (scores,) = targets.gaussian_bins([mean], [std], TEN)
    np.testing.assert_allclose(scores, expected / expected.sum(), atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([TEN, UNEVEN]), st.lists(st.floats(0, 1), min_size=1), st.floats(0, 3))
def test_mean_preserving_bins_keep_the_mean(values, places, std):
    means = values[0] + np.array(places) * (values[-1] - values[0])
    scores = targets.mean_preserving_bins(means, np.full(len(means), std), values)
    check_distributions(scores, len(values))
    np.testing.assert_allclose(moments(scores, values)[0], means, atol=2e-6)


def test_mean_preserving_bins_equal_the_integral():
    mean, std = 4.3, 0.7
    (scores,) = targets.mean_preserving_bins([mean], [std], TEN)

    def part(k):
        def integrand(x):
            density = math.exp(-(((x - mean) / std) ** 2) / 2) / std / math.sqrt(2 * math.pi)
            return max(0, 1 - abs(x - k)) * density

        return scipy.integrate.quad(integrand, k - 1, k + 1, points=[k])[0]

    np.testing.assert_allclose(scores, [part(k) for k in range(10)], atol=1e-6)
    found_std = moments([scores], TEN)[1][0]
    assert std < found_std <= math.sqrt(std**2 + 0.25)


def test_mean_preserving_bins_of_certain_scores_are_the_two_neighbours():
    scores = targets.mean_preserving_bins([3, 3.25, 9], [0, 0, 0], TEN)
    expected = np.zeros((3, 10))
    expected[0, 3] = expected[2, 9] = 1
    expected[1, 3:5] = 0.75, 0.25
    np.testing.assert_allclose(scores, expected, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([TEN, UNEVEN]), st.lists(st.floats(0, 1), min_size=1))
def test_maximum_entropy_has_the_mean_and_the_form(values, places):
    means = values[0] + np.array(places) * (values[-1] - values[0])
    scores = targets.maximum_entropy(means, values)
    check_distributions(scores, len(values))
    np.testing.assert_allclose(moments(scores, values)[0], means, atol=1e-5)


def test_maximum_entropy_is_exponential():
    scores = targets.maximum_entropy(np.array([4.5, 2.0]), TEN).astype(np.float64)
    np.testing.assert_allclose(scores[0], 0.1, atol=1e-6)
    np.testing.assert_allclose(
        np.diff(np.log(scores[1])), np.log(scores[1, 1] / scores[1, 0]), rtol=1e-5
    )


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([TEN, UNEVEN]),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 6)), min_size=1),
)
def test_maximum_entropy_with_std_has_both_moments(values, places):
    places = np.array(places)
    means = values[0] + places[:, 0] * (values[-1] - values[0])
    stds = places[:, 1]
    scores, raised, lowered = targets.maximum_entropy_with_std(means, stds, values)
    check_distributions(scores, len(values))
    found_means, found_stds = moments(scores, values)
    np.testing.assert_allclose(found_means, means, atol=2e-5)
    free = ~raised & ~lowered
    np.testing.assert_allclose(found_stds[free] ** 2, stds[free] ** 2, atol=2e-4)
    assert np.all(found_stds[raised] > stds[raised] - 1e-3)
    assert np.all(found_stds[lowered] < stds[lowered] + 1e-3)


@pytest.mark.parametrize(("mean", "std"), [(4.2, 0.9), (1.1, 1.5), (5.5, 0.52), (4.5, 4.0)])
def test_maximum_entropy_with_std_equals_a_general_optimizer(mean, std):
    found, raised, lowered = targets.maximum_entropy_with_std([mean], [std], TEN)
    assert not raised.any()
    assert not lowered.any()
    constraints = [
        {"type": "eq", "fun": lambda p: p.sum() - 1},
        {"type": "eq", "fun": lambda p: p @ TEN - mean},
        {"type": "eq", "fun": lambda p: p @ (TEN - mean) ** 2 - std**2},
    ]
    best = scipy.optimize.minimize(
        lambda p: np.sum(p * np.log(np.maximum(p, 1e-12))),
        np.full(10, 0.1),
        bounds=[(0, 1)] * 10,
        constraints=constraints,
        options={"maxiter": 500, "ftol": 1e-12},
    )
    np.testing.assert_allclose(found[0], best.x, atol=2e-3)


def test_impossible_deviations_are_clamped_and_reported():
    means, stds = np.array([4.3, 4.0, 4.5]), np.array([0.1, 0.0, 9.0])
    scores, raised, lowered = targets.maximum_entropy_with_std(means, stds, TEN)
    np.testing.assert_array_equal(raised, [True, False, False])
    np.testing.assert_array_equal(lowered, [False, False, True])
    np.testing.assert_allclose(scores[0, 4:6], [0.7, 0.3], atol=1e-6)
    np.testing.assert_allclose(scores[1], np.eye(10)[4], atol=1e-6)
    np.testing.assert_allclose(scores[2, [0, 9]], 0.5, atol=1e-6)


def test_what_was_clamped_is_logged_once(monkeypatch):
    lines = []
    monkeypatch.setattr(logging, "info", lambda text, *values: lines.append(text % values))
    targets.from_moments("maximum_entropy", [4.3, 4.0, 4.7], [0.1, 1, 0.2], TEN, "table.txt")
    assert len(lines) == 1
    assert "table.txt" in lines[0]
    assert "2 of 3 rows was raised to the least" in lines[0]


def test_rows_without_deviation_use_the_mean_alone():
    scores = targets.from_moments("maximum_entropy", [2.0, 2.0], [np.nan, 1.0], TEN, "table")
    np.testing.assert_array_equal(scores[:1], targets.maximum_entropy([2.0], TEN))
    np.testing.assert_allclose(moments(scores, TEN)[1][1], 1, atol=1e-5)
    for kind in ("gaussian", "mean_preserving"):
        with pytest.raises(ValueError, match="1 of 2 rows have none"):
            targets.from_moments(kind, [2.0, 2.0], [np.nan, 1.0], TEN, "table")
    alone = targets.from_moments("maximum_entropy_mean", [2.0], [1.0], TEN, "table")
    np.testing.assert_array_equal(alone, scores[:1])


@pytest.mark.parametrize(
    ("means", "stds", "values", "message"),
    [
        ([9.5], [1], TEN, "from 0 to 9.*9.5 in row 1"),
        ([4, math.nan], [1, 1], TEN, "row 2"),
        ([4], [-1], TEN, "negative"),
        ([4], [1], [1, 1], "ascending"),
        ([4], [1], [1], "at least two"),
    ],
)
def test_impossible_moments_are_errors(means, stds, values, message):
    with pytest.raises(ValueError, match=message):
        targets.from_moments("gaussian", means, stds, values, "table")


def test_unknown_kind():
    with pytest.raises(ValueError, match=r"mean_preserving.*'normal'"):
        targets.from_moments("normal", [4], [1], TEN, "table")


@settings(max_examples=50, deadline=None)
@given(
    st_numpy.arrays(
        np.int64, st.tuples(st.integers(1, 5), st.just(10)), elements=st.integers(0, 300)
    )
)
def test_counts_become_shares(counts):
    counts[:, 3] += 1
    scores = targets.from_counts(counts)
    check_distributions(scores, 10)
    np.testing.assert_allclose(scores * counts.sum(axis=1, keepdims=True), counts, atol=1e-3)


@pytest.mark.parametrize("row", [[0, 0, 0], [1, -1, 3], [1, math.nan, 3], [1, math.inf, 3]])
def test_wrong_counts_are_errors(row):
    with pytest.raises(ValueError, match=r"votes\.txt.*row 2"):
        targets.from_counts([[1, 2, 3], row], "votes.txt")
