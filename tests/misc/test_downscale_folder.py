import cv2
import numpy as np
import PIL.Image
import pytest

from degradations import resize
from misc import downscale_folder
from misc.images import image_files
from tests import commands


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for name, shape in {"a.png": (17, 22, 3), "sub/b.bmp": (16, 24, 3)}.items():
        image = generator.integers(0, 256, shape, np.uint8)
        image_files.write_image(tmp_path / "high" / name, image)
    return tmp_path


def read(path):
    return np.asarray(PIL.Image.open(path))


def test_matlab_in_several_scales(folder):
    counts = downscale_folder.downscale_folder(folder / "high", folder / "low", [2, 4])
    assert counts == {"written": 4, "present": 0, "skipped": 0}
    image = read(folder / "high/a.png")
    for scale in (2, 4):
        expected = resize.matlab_bicubic(image, 1 / scale)
        np.testing.assert_array_equal(read(folder / f"low/x{scale}/a.png"), expected)
        assert (folder / f"low/x{scale}/sub/b.png").exists()


def test_crop_and_edges(folder):
    downscale_folder.downscale_folder(
        folder / "high", folder / "low", [4], edges="clamp", crop=True
    )
    expected = resize.matlab_bicubic(read(folder / "high/a.png")[:16, :20], 1 / 4, edges="clamp")
    np.testing.assert_array_equal(read(folder / "low/a.png"), expected)


def test_other_methods_round_sizes_down(folder):
    for method in ("cv", "tf"):
        downscale_folder.downscale_folder(folder / "high", folder / method, [4], method)
        assert read(folder / method / "a.png").shape == (4, 5, 3)
    expected = cv2.resize(read(folder / "high/a.png"), (5, 4), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(read(folder / "cv/a.png"), expected)


def test_tensorflow_keeps_corners_and_truncates(folder):
    # align_corners maps the four corners onto each other.
    downscale_folder.downscale_folder(folder / "high", folder / "tf", [2], "tf")
    image, reduced = read(folder / "high/a.png"), read(folder / "tf/a.png")
    np.testing.assert_array_equal(reduced[::7, ::10], image[::16, ::21])


def test_keeps_what_is_there(folder):
    arguments = (folder / "high", folder / "low", [2])
    downscale_folder.downscale_folder(*arguments)
    (folder / "low/a.png").write_bytes(b"mine")
    counts = downscale_folder.downscale_folder(*arguments)
    assert counts == {"written": 0, "present": 2, "skipped": 0}
    assert (folder / "low/a.png").read_bytes() == b"mine"
    assert downscale_folder.downscale_folder(*arguments, overwrite=True)["written"] == 2
    assert read(folder / "low/a.png").shape == (9, 11, 3)


def test_broken_image(folder):
    whole = (folder / "high/a.png").read_bytes()
    (folder / "high/broken.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"broken\.png"):
        downscale_folder.downscale_folder(folder / "high", folder / "low", [2])
    counts = downscale_folder.downscale_folder(
        folder / "high", folder / "low", [2], skip_broken=True
    )
    assert counts["skipped"] == 1
    assert not (folder / "low/broken.png").exists()


def test_wrong_arguments(folder):
    for scales in ([], [1], [2, 2]):
        with pytest.raises(ValueError, match="--scale"):
            downscale_folder.downscale_folder(folder / "high", folder / "low", scales)
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="no image"):
        downscale_folder.downscale_folder(folder / "empty", folder / "low", [2])
    with pytest.raises(ValueError, match=r"Cannot reduce .*smaller than the scale 64"):
        downscale_folder.downscale_folder(folder / "high", folder / "low", [64], "cv")
    image_files.write_image(folder / "high/a.bmp", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r"a\.bmp and .*a\.png would both"):
        downscale_folder.downscale_folder(folder / "high", folder / "low", [2])


def test_command(folder):
    command = ["-m", "misc.downscale_folder", f"--input_path={folder}/high"]
    output = commands.run(*command, f"--output_path={folder}/low", "--scale=2,4")
    assert output.startswith("4 images written, 0 were there already, 0 inputs skipped\n")
    assert (folder / "low/x4/a.png").exists()
