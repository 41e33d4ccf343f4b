"""Bjontegaard's differences against a formula of our own in float64, and against what is known."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from misc.reports import bjontegaard

# Two presets of libx265: kbit/s and PSNR in dB; the example that FAU-LMS/bjontegaard documents.
ANCHOR = [(9487.76, 40.037), (4593.60, 38.615), (2486.44, 36.845), (1358.24, 34.851)]
OTHER = [(9787.80, 40.121), (4469.00, 38.651), (2451.52, 36.970), (1356.24, 34.987)]


def slopes(x, y):
    """Fritsch & Butland's weighted harmonic means, with three-point formulas at the ends."""
    width, slope = np.diff(x), np.diff(y) / np.diff(x)

    def end(h0, h1, d0, d1):
        value = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1)
        if np.sign(value) != np.sign(d0):
            return 0.0
        if np.sign(d0) != np.sign(d1) and abs(value) > 3 * abs(d0):
            return 3 * d0
        return value

    if len(slope) == 1:
        return np.repeat(slope, 2)
    inner = []
    for h0, h1, d0, d1 in zip(width, width[1:], slope, slope[1:], strict=False):
        first, second = 2 * h1 + h0, h1 + 2 * h0
        rising = d0 * d1 > 0
        inner.append((first + second) / (first / d0 + second / d1) if rising else 0.0)
    ends = end(*width[:2], *slope[:2]), end(*width[:-3:-1], *slope[:-3:-1])
    return np.array([ends[0], *inner, ends[1]])


def curve(x, y, places):
    """Values of the Hermite cubics at places within x."""
    left = np.clip(np.searchsorted(x, places, side="right") - 1, 0, len(x) - 2)
    width = x[left + 1] - x[left]
    t, d = (places - x[left]) / width, slopes(x, y)
    return (
        y[left] * (1 + 2 * t) * (1 - t) ** 2
        + y[left + 1] * t**2 * (3 - 2 * t)
        + width * (d[left] * t * (1 - t) ** 2 - d[left + 1] * t**2 * (1 - t))
    )


def mean_difference(anchor, other):
    """By Gauss and Legendre between all knots, exact for cubics."""
    anchor, other = (np.array(sorted(points)).T for points in (anchor, other))
    low, high = max(anchor[0][0], other[0][0]), min(anchor[0][-1], other[0][-1])
    knots = np.unique(np.clip(np.concatenate([anchor[0], other[0]]), low, high))
    nodes, weights = np.polynomial.legendre.leggauss(3)
    total = 0.0
    for start, stop in itertools.pairwise(knots):
        places = start + (stop - start) * (nodes + 1) / 2
        found = curve(*other, places) - curve(*anchor, places)
        total += (stop - start) / 2 * (weights * found).sum()
    return total / (high - low)


def reference_rate(anchor, other):
    swapped = [[(q, np.log(rate)) for rate, q in points] for points in (anchor, other)]
    return 100 * (np.exp(mean_difference(*swapped)) - 1)


def reference_quality(anchor, other):
    return mean_difference(*([(np.log(rate), q) for rate, q in p] for p in (anchor, other)))


def test_an_example_of_four_points():
    """As FAU-LMS/bjontegaard 1.3.0 has it, which agrees with JVET-T2010's spreadsheet."""
    found = bjontegaard.bd_rate(ANCHOR, OTHER), bjontegaard.bd_quality(ANCHOR, OTHER)
    assert found == pytest.approx((-4.417485350589, 0.119692785425), abs=1e-10)
    assert found[0] == pytest.approx(reference_rate(ANCHOR, OTHER))
    assert found[1] == pytest.approx(reference_quality(ANCHOR, OTHER))


def test_curves_that_are_shifted():
    """The same quality at 0.8 of the rate; 2 points better at every rate."""
    cheaper = [(0.8 * rate, quality) for rate, quality in ANCHOR]
    assert bjontegaard.bd_rate(ANCHOR, cheaper) == pytest.approx(-20)
    assert bjontegaard.bd_rate(cheaper, ANCHOR) == pytest.approx(25)
    better = [(rate, quality + 2) for rate, quality in ANCHOR]
    assert bjontegaard.bd_quality(ANCHOR, better) == pytest.approx(2)
    assert bjontegaard.bd_quality(better, ANCHOR) == pytest.approx(-2)


growing = st.lists(st.integers(1, 400), min_size=2, max_size=9, unique=True).map(sorted)


@given(growing, growing, growing, growing)
def test_any_curves_that_grow(rates, qualities, other_rates, other_qualities):
    anchor = list(zip(rates, qualities, strict=False))
    other = list(zip(other_rates, other_qualities, strict=False))
    pair = anchor, other
    common = bjontegaard.overlap(*pair)
    low, high = max(p[0][1] for p in pair), min(p[-1][1] for p in pair)
    assert common == ((low, high) if low < high else None)
    found = bjontegaard.bd_rate(*pair)
    if common is None:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(reference_rate(*pair), rel=1e-9, abs=1e-9)
        back = bjontegaard.bd_rate(other, anchor)
        assert (1 + found / 100) * (1 + back / 100) == pytest.approx(1)


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 100)), max_size=12))
def test_fronts_leave_out_what_is_no_better(points):
    kept = [tuple(point) for point in bjontegaard.front(points)]
    assert set(kept) <= set(points)
    assert (np.diff(np.array(kept).reshape(-1, 2), axis=0) > 0).all()
    for rate, quality in points:
        assert any(r <= rate and q >= quality for r, q in kept)


def test_too_few_points_and_wrong_ones():
    assert np.isnan(bjontegaard.bd_rate(ANCHOR[:1], OTHER))
    # A curve whose quality falls with the rate has one point that is worth its rate.
    assert np.isnan(bjontegaard.bd_rate([(1, 50), (2, 40), (3, 30)], OTHER))
    with pytest.raises(ValueError, match="rates above 0"):
        bjontegaard.bd_rate([(0, 50), (2, 60)], OTHER)
