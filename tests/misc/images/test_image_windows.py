import numpy as np
import PIL.Image
import pytest
import skimage.data

from misc.images import image_files, image_windows

WINDOW = (41, 74, 8 * 31 + 5, 8 * 40 + 3)


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_reduced_windows_equal_those_of_the_reduced_picture(reduction, subsampling, tmp_path):
    path = tmp_path / "photo.jpg"
    PIL.Image.fromarray(skimage.data.astronaut()[:397, :501]).save(path, subsampling=subsampling)
    with PIL.Image.open(path) as image:
        image.draft("RGB", tuple(side // reduction for side in image.size))
        whole = np.asarray(image)
    assert whole.shape[0] == -(-397 // reduction)
    top, left, rows, columns = WINDOW
    size = rows // (2 * reduction)
    part, box = image_windows.read_window(path, lambda *_: WINDOW, size)
    first, start = top // reduction, left // reduction
    height, width = part.shape[:2]
    np.testing.assert_array_equal(part, whole[first : first + height, start : start + width])
    corners = np.array([left, top, left + columns, top + rows]) / reduction
    np.testing.assert_allclose(np.add(box, [start, first, start, first]), corners)
    assert 0 <= min(box[:2]) < 1
    assert width - 1 < box[2] <= width
    assert height - 1 < box[3] <= height


def test_only_jpeg_files_are_reduced_and_only_as_far_as_they_may(tmp_path):
    pixels, window = skimage.data.astronaut()[:100, :120], (3, 4, 90, 100)
    for name, size in (("a.png", 10), ("a.jpg", 23)):
        PIL.Image.fromarray(pixels).save(tmp_path / name)
        part, box = image_windows.read_window(tmp_path / name, lambda *_: window, size)
        np.testing.assert_array_equal(part, image_files.read_rgb(tmp_path / name)[3:93, 4:104])
        assert box == (0, 0, 100, 90)
    part, _ = image_windows.read_window(tmp_path / "a.jpg", lambda *_: window, 22)
    assert part.shape[:2] == (46, 50)
