import numpy as np
import pytest
import scipy.stats

from score_predictors import metrics

VALUES = metrics.AVA_VALUES


def distributions(count, seed):
    return np.random.default_rng(seed).dirichlet(np.ones(10), count)


def test_moments_are_those_of_scipy():
    rows = distributions(4, 0)
    for row, mean, deviation in zip(
        rows,
        metrics.mean_scores(rows, VALUES),
        metrics.score_deviations(rows, VALUES),
        strict=True,
    ):
        variable = scipy.stats.rv_discrete(values=(VALUES, row))
        assert mean == pytest.approx(variable.mean())
        assert deviation == pytest.approx(variable.std())


def test_figures_are_those_of_scipy_and_the_ratings_given():
    predicted, target = distributions(30, 0), distributions(30, 1)
    rated = np.random.default_rng(2).uniform(1, 10, 30)
    figures = metrics.compare(predicted, target, VALUES, rated_mean=rated)
    means = metrics.mean_scores(predicted, VALUES)
    assert figures["plcc"] == pytest.approx(np.corrcoef(means, rated)[0, 1])
    assert figures["srcc"] == pytest.approx(scipy.stats.spearmanr(means, rated).statistic)
    assert figures["krcc"] == pytest.approx(scipy.stats.kendalltau(means, rated).statistic)
    assert figures["rmse"] == pytest.approx(np.sqrt(np.mean((means - rated) ** 2)))
    assert figures["accuracy_above_5"] == pytest.approx(np.mean((means > 5) == (rated > 5)))
    assert {"emd_r1", "emd_r2", "std_plcc", "std_srcc", "plcc_logistic4"} <= set(figures)
    assert "accuracy_above_5" not in metrics.compare(predicted, target, range(10))


def test_unknown_ratings_come_from_the_targets():
    target = distributions(3, 0)
    known = np.array([np.nan, 4.0, np.nan])
    mean, deviation = metrics.rated_moments(target, VALUES, known, None)
    assert mean[1] == 4
    np.testing.assert_allclose(mean[[0, 2]], metrics.mean_scores(target, VALUES)[[0, 2]])
    np.testing.assert_allclose(deviation, metrics.score_deviations(target, VALUES))


def test_logistic_straightens_a_curved_relation_in_both_directions():
    rated = np.linspace(0, 10, 60)
    for sign in (1, -1):
        predicted = sign * np.log(rated + 0.5) + np.random.default_rng(0).normal(0, 0.02, 60)
        fitted = metrics.plcc_after_logistic(predicted, rated)
        assert fitted > 0.99
        assert fitted > abs(metrics.plcc(predicted, rated))


def test_undefined_figures_are_left_out():
    target = distributions(5, 0)
    constant = np.tile(target[:1], (5, 1))
    figures = metrics.compare(constant, target, VALUES)
    assert "plcc" not in figures
    assert np.isfinite(list(figures.values())).all()
    assert np.isnan(metrics.srcc([1.0], [2.0]))
    assert "emd_r2" not in metrics.compare(constant, target[:, :5], VALUES, np.arange(5))


def test_floor_is_what_a_constant_gets():
    target = distributions(40, 0)
    floor = metrics.floor(target, VALUES)
    constant = np.tile(target.mean(axis=0), (40, 1))
    assert floor["emd_r2"] == pytest.approx(
        np.mean(metrics.earth_movers_distances(constant, target, 2))
    )
    assert floor["rmse"] == pytest.approx(metrics.mean_scores(target, VALUES).std())
    assert not any(name.endswith("lcc") or name.endswith("rcc") for name in floor)
    other = metrics.floor(target, VALUES, constant=target[0])
    assert other["emd_r2"] > floor["emd_r2"]


def test_groups_are_measured_alone():
    predicted, target = distributions(9, 0), distributions(9, 1)
    groups = ["b", "a", "c"] * 3
    rows = metrics.by_group(groups, predicted, target, VALUES)
    assert [row["group"] for row in rows] == ["a", "b", "c"]
    chosen = np.array(groups) == "b"
    expected = metrics.compare(predicted[chosen], target[chosen], VALUES)
    assert rows[1]["images"] == 3
    assert rows[1]["srcc"] == pytest.approx(expected["srcc"])
    assert rows[1]["emd_r2"] == pytest.approx(expected["emd_r2"])
    assert rows[1]["floor_emd_r2"] < rows[1]["emd_r2"] * 10
