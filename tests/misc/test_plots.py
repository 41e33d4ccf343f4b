import numpy as np

from misc import plots


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
