"""The first level that changes an answer."""

import numpy as np
import pytest

from classifiers import breaking_points, levels


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("jpeg:10-90,step=20", 90, 10),
        ("jpeg2000:10-50,step=20", 10, 50),
        ("jpeg2000:30-50,step=10,mode=dB", 50, 30),
        ("noise:0-50,step=10", 0, 50),
        ("webp:10-30,step=10", 30, 10),
        ("contrast:0.1-0.5,step=0.2", 0.5, 0.1),
        ("pixelate:0.2-0.8,step=0.2", 0.8, 0.2),
        ("shot_noise:5-25,step=10", 25, 5),
        ("shot_noise", 1, 5),
        ("contrast", 1, 5),
    ],
)
def test_from_mild_to_hard(text, first, last):
    (tested,) = levels.test_degradations([text], "all", 224)
    ordered = breaking_points.order(tested)
    assert (ordered[0], ordered[-1]) == pytest.approx((first, last))
    assert sorted(ordered) == sorted(tested.values)


def test_what_has_no_order():
    (tested,) = levels.test_degradations(["noise:0-50"], "random", 224)
    assert breaking_points.order(tested) == []


@pytest.mark.parametrize(
    ("ordered", "expected"),
    [
        (range(100, 0, -1), [100, 90, 80, 70, 60, 50, 40, 30, 20, 10, 1]),
        (range(1, 51), [5, 10, 15, 20, 25, 30, 35, 40, 45, 50]),
        (np.arange(1, 51) / 10, np.arange(1, 11) / 2),
        (range(1, 6), range(1, 6)),
    ],
)
def test_shown_levels_are_round(ordered, expected):
    assert breaking_points.choose_shown(list(ordered), 10) == pytest.approx(list(expected))


@pytest.mark.parametrize("known", [(), (2, 4), (1, 2, 3, 4, 5, 6)])
def test_as_brute_force_and_with_fewer_and_fewer_images(known):
    random = np.random.default_rng(1)
    ordered = [1, 2, 3, 4, 5, 6]
    clean = random.integers(0, 3, (2, 40))
    answers = {
        level: np.where(random.uniform(size=(2, 40)) < 0.8, clean, random.integers(0, 3, (2, 40)))
        for level in ordered
    }
    asked = []

    def answer(level, holding):
        asked.append(holding.sum())
        return np.where(holding, answers[level], -5)

    found = breaking_points.find(ordered, clean, {at: answers[at] for at in known}, answer)
    changed = np.stack([answers[level] != clean for level in ordered])
    expected = np.where(changed.any(axis=0), changed.argmax(axis=0), len(ordered))
    np.testing.assert_array_equal(found, expected)
    assert len(asked) == len(ordered) - len(known)
    assert asked == sorted(asked, reverse=True)
    if not known:
        assert asked[-1] < asked[0] == clean.size
