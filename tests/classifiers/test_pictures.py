"""What an evaluation draws, and what it draws nothing of."""

import numpy as np
import pytest

from classifiers import pictures
from misc.reports import plots

NAN = float("nan")
CLEAN = {"name": "clean", "level": NAN, "top1": 90.0, "top5": 99.0}


def rows(name, levels, top1=50.0):
    return [{"name": name, "level": float(x), "top1": top1 - i} for i, x in enumerate(levels)]


@pytest.fixture
def drawn(monkeypatch):
    """What the functions of `plots` were asked to draw."""
    calls = []

    def note(name):
        original = getattr(plots, name)

        def draw(*args, **kwargs):
            calls.append((args, kwargs))
            return original(*args, **kwargs)

        monkeypatch.setattr(plots, name, draw)

    note("draw_curves")
    note("draw_heat_map")
    return calls


def with_top5(found):
    return [row | {"top5": 99.0} for row in found]


def test_curves_stand_in_a_panel_for_each_unit(drawn):
    found = with_top5(
        [
            CLEAN,
            *rows("noise", range(30)),
            *rows("jpeg", [50, 10, 30]),
            *rows("fog", [1, 2, 3]),
            *rows("snow", [1, 2]),
            *rows("noise@3", [3]),
        ]
    )
    units = {"noise": "grey levels", "jpeg": "quality factor", "fog": "severity"}
    picture = pictures.draw_curves(found, units)
    assert picture.dtype == np.uint8
    ((panels, _), options) = drawn[0]
    assert {panel.reference for panel in panels} == {("clean images", 90.0)}
    assert options["y_limits"] == (0, 100)
    assert [(panel.x_label, list(panel.curves)) for panel in panels] == [
        ("grey levels", ["noise"]),
        ("quality factor", ["jpeg"]),
        ("severity", ["fog", "snow"]),
    ]
    assert panels[1].curves["jpeg"] == [(10.0, 49.0), (30.0, 48.0), (50.0, 50.0)]


def test_many_curves_share_panels_equally(drawn):
    found = with_top5([row for i in range(15) for row in rows(f"corruption{i}", range(1, 6))])
    pictures.draw_curves(found, {})
    ((panels, _), _) = drawn[0]
    assert [len(panel.curves) for panel in panels] == [5, 5, 5]
    assert panels[0].reference is None


def test_nothing_is_drawn_without_levels():
    random = {"name": "noise", "level": NAN, "top1": 40.0, "top5": 80.0}
    for found in ([CLEAN], [CLEAN, random]):
        assert pictures.draw_curves(found, {}) is None
        assert pictures.draw_grids(found, {}) == {}
    single = with_top5([CLEAN, *rows("fog", [3])])
    assert pictures.draw_curves(single, {}) is None
    assert list(pictures.draw_grids(single, {})) == ["severity"]
    # A hundred columns are no table; the curves show them.
    assert pictures.draw_grids(with_top5(rows("noise", range(100))), {}) == {}


def test_a_grid_holds_every_level_and_the_means(drawn):
    found = with_top5([CLEAN, *rows("fog", [1, 2, 3]), *rows("snow", [2, 5], 80.0)])
    assert pictures.draw_grids(found, {})["severity"].ndim == 3
    ((cells, names, columns, x_label, *_), _) = drawn[0]
    assert (names, columns) == (["fog", "snow"], ["1", "2", "3", "5", "mean"])
    np.testing.assert_array_equal(cells, [[50, 49, 48, np.nan, 49], [np.nan, 80, np.nan, 79, 79.5]])
    assert x_label == "severity"
    # Levels of different meaning are never columns of one table.
    assert list(pictures.draw_grids(found, {"fog": "amount"})) == ["amount", "severity"]
    assert [(args[1], args[3]) for args, _ in drawn[1:]] == [
        (["fog"], "amount"),
        (["snow"], "severity"),
    ]


def test_confusion_is_in_percent_of_the_right_class(drawn):
    picture = pictures.draw_confusion("clean", np.array([[3, 1], [0, 0]]), ["cat", "dog"])
    assert picture.ndim == 3
    ((shares, names, *_), options) = drawn[0]
    np.testing.assert_array_equal(shares, [[75, 25], [np.nan, np.nan]])
    assert names == ["cat", "dog"]
    assert options["numbers"]
    for classes, labelled, numbered in ((20, True, True), (30, True, False), (100, False, False)):
        pictures.draw_confusion("clean", np.eye(classes, dtype=int))
        ((_, names, *_), options) = drawn[-1]
        assert (names is not None, options["numbers"]) == (labelled, numbered)


def test_file_names_hold_no_signs_that_file_systems_refuse():
    assert pictures.file_name("noise:0-50,step=5") == "noise_0-50,step=5"
    assert pictures.file_name("blur:2|jpeg:10") == "blur_2_jpeg_10"
    assert pictures.file_name("fog@3") == "fog@3"
    assert pictures.file_name("../..") == "degradation"
