import numpy as np

from misc.reports import plots


def test_scatter_shows_its_points():
    rated = np.linspace(1, 9, 30)
    picture = plots.draw_scatter(rated, rated + 1, "PLCC 1.000")
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    empty = plots.draw_scatter([1.0], [1.0])
    blue = (picture[..., 2].astype(int) - picture[..., 0] > 60).sum()
    assert blue > (empty[..., 2].astype(int) - empty[..., 0] > 60).sum()


def test_histograms_take_any_number_of_panels():
    share = np.ones(5) / 5
    for count in (1, 2, 7, 12):
        panels = [("folder/with/a/long/name/of/an/image.jpg", share, share)] * count
        picture = plots.draw_histograms(panels, list("12345"))
        assert picture.dtype == np.uint8
        assert picture.min() < 100


def test_curves_take_any_number_of_panels_and_lines():
    points = [(x, 90 - x) for x in range(5)]
    for panels, lines in ((1, 1), (2, 6), (5, 3)):
        curves = {f"degradation {number}": points for number in range(lines)}
        panel = plots.Panel("severity", curves, reference=("clean", 91.0))
        picture = plots.draw_curves([panel] * panels, "accuracy")
        assert picture.dtype == np.uint8
        blue = picture[..., 2].astype(int) - picture[..., 0] > 60
        assert blue.sum() > 50 * panels


def test_lines_differ_in_more_than_colour():
    styles = [plots.line_style(number, 5) for number in range(24)]
    looks = {(style["marker"], style["linestyle"]) for style in styles}
    assert len(looks) == len(styles)
    # Of many points some are marked, so that marks tell lines apart there, too.
    assert plots.line_style(0, 100)["markevery"] == 9


def test_curves_keep_their_limits():
    """Accuracies between 70 and 71 % do not look like a fall."""
    near = {"a": [(1, 70.0), (10, 71.0), (100, 70.5)]}
    panels = [plots.Panel("bytes", near, "top 1")]
    free = plots.draw_curves(panels, "accuracy", x_scale="log")
    fixed = plots.draw_curves(panels, "accuracy", y_limits=plots.PERCENT, x_scale="log")

    def extent(picture):
        blue = picture[..., 2].astype(int) - picture[..., 0] > 100
        # Without the sample of the line in the legend.
        return np.ptp(np.flatnonzero(blue[: int(0.7 * len(blue))].any(axis=1)))

    assert extent(fixed) < 20 < extent(free)


def test_heat_maps_take_any_size_and_gaps():
    random = np.random.default_rng(0)
    for rows, columns in ((1, 1), (3, 5), (20, 2)):
        values = random.uniform(0, 100, (rows, columns))
        values[0, 0] = np.nan
        names = [f"row {number}" for number in range(rows)], [str(c) for c in range(columns)]
        picture = plots.draw_heat_map(values, *names, "severity", "", "title", decimals=1)
        assert picture.dtype == np.uint8
        assert picture.min() < 100
    large = plots.draw_heat_map(
        100 * np.eye(300), None, None, "predicted", "right", numbers=False, colours="Blues"
    )
    assert max(large.shape) < 1300


def test_numbers_can_be_read_on_every_colour():
    assert plots._text_colour((1, 1, 0.5, 1)) == "black"
    assert plots._text_colour((0, 0, 0.4, 1)) == "white"
