import numpy as np
import PIL.ImageFont

from misc.reports import contact_sheet


def test_captioned_tiles_keep_their_pixels():
    small = np.zeros((2, 2, 3), np.uint8)
    small[0, 0] = 210
    tiles = [(small, ["cat", "97.0 %", "folder/a.png"])] * 5
    sheet = contact_sheet.draw_captioned(tiles, 40, 3)
    assert sheet.dtype == np.uint8
    # Enlarged by whole pixels: a quarter of each tile.
    assert (sheet == 210).all(axis=2).sum() >= 5 * 400
    assert sheet.shape[1] == 3 * (40 + contact_sheet.MARGIN) + contact_sheet.MARGIN
    large = np.full((200, 200, 3), 55, np.uint8)
    sheet = contact_sheet.draw_captioned([(large, ["dog"])], 40, 3)
    assert (sheet == 55).all(axis=2).sum() >= 1600


def test_long_captions_are_cut_at_the_end_that_says_less():
    font = PIL.ImageFont.load_default(size=11)
    assert contact_sheet._fitting("cat", font, 60, False) == "cat"
    name = contact_sheet._fitting("a very long name of a class", font, 90, False)
    assert name.startswith("a very")
    assert name.endswith("...")
    path = contact_sheet._fitting("a/very/long/path/to/image.png", font, 90, True)
    assert path.startswith("...")
    assert path.endswith("image.png")
    assert font.getlength(path) <= 90
