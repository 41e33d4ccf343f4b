import os
import shutil
import signal

import cv2
import numpy as np
import PIL.Image
import pytest

from degradations import resize
from misc import downscale_folder
from misc.images import files, image_files, locks
from tests import commands, forks


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


def test_originals_are_neither_replaced_nor_taken_for_results(folder):
    high = folder / "high"
    originals = {path: path.read_bytes() for path in image_files.find_images(high)}
    # Each leads to where images of the input are; the last two to others of their names.
    (folder / "link").symlink_to(high)
    (folder / "low").mkdir()
    (folder / "low" / "x2").symlink_to(high)
    image_files.write_image(high / "sub/a.png", read(high / "a.png"))
    image_files.write_image(folder / "other/a.png", read(high / "a.png"))
    originals |= {path: path.read_bytes() for path in (high / "sub/a.png", folder / "other/a.png")}
    cases = {
        (high, high, 2): "must be another folder",
        (high, folder / "link", 2): "must be another folder",
        (folder / "link", high, 2): "must be another folder",
        (high / "a.png", high, 2): r"a\.png would replace an input",
        (high, folder / "low", 2, 4): r"x2/a\.png would replace an input",
        (high, high / "sub", 2): r"sub/a\.png is there already, and was not made by this command",
        (high, folder / "other", 2): r"other/a\.png is there already, and was not made",
    }
    for (source, target, *scales), message in cases.items():
        for overwrite in (False, True):
            if overwrite and target.name == "other":
                continue  # they are to be replaced
            with pytest.raises(ValueError, match=message):
                downscale_folder.downscale_folder(source, target, scales, overwrite=overwrite)
    assert {path: path.read_bytes() for path in originals} == originals


def test_results_of_other_settings_are_not_taken_over(folder):
    arguments = (folder / "high", folder / "low")
    downscale_folder.downscale_folder(*arguments, [2])
    with pytest.raises(ValueError, match="--scale was 2, is 4"):
        downscale_folder.downscale_folder(*arguments, [4])
    with pytest.raises(ValueError, match=r"--method was matlab, is cv.*--overwrite"):
        downscale_folder.downscale_folder(*arguments, [2], "cv")
    assert downscale_folder.downscale_folder(*arguments, [4], overwrite=True)["written"] == 2
    # Below the input folder, too, results are no input and may be replaced.
    arguments = (folder / "high", folder / "high/low")
    for overwrite in (False, True):
        counts = downscale_folder.downscale_folder(*arguments, [2], overwrite=overwrite)
        assert counts["written"] == 2


def test_a_full_disk_ends_the_work_and_leaves_what_was_whole(folder):
    generator = np.random.default_rng(0)
    for name, side in {"c": 20, "d": 200, "e": 20, "f": 200}.items():
        image = generator.integers(0, 256, (side, side, 3), np.uint8)
        image_files.write_image(folder / f"high/{name}.png", image)
    arguments = (folder / "high", folder / "low", [2])
    with forks.full_disk(10000), pytest.raises(files.DiskFullError, match=r"low/d\.png cannot be"):
        downscale_folder.downscale_folder(*arguments, skip_broken=True)
    assert {path.name for path in image_files.find_images(folder / "low")} >= {"a.png", "c.png"}
    downscale_folder.downscale_folder(*arguments)
    assert sorted(path.name for path in (folder / "low").iterdir()) == [
        ".downscale_folder", "a.png", "c.png", "d.png", "e.png", "f.png", "sub"
    ]  # fmt: skip
    for path in image_files.find_images(folder / "low"):
        image_files.read_rgb(path)


def test_another_process_is_kept_out(folder):
    with (
        forks.beside(locks.hold(folder / "low")),
        pytest.raises(OSError, match="low is in use by process"),
    ):
        downscale_folder.downscale_folder(folder / "high", folder / "low", [2])


@pytest.mark.parametrize("moment", [1, 2, 4, 6])
@pytest.mark.parametrize("before", [True, False])
def test_killed_at_any_file_the_same_call_ends_with_all_of_them(folder, moment, before):
    replace, calls = os.replace, []

    def replace_or_die(*paths):
        calls.append(paths)
        if len(calls) < moment:
            return replace(*paths)
        if not before:
            replace(*paths)
        return os.kill(os.getpid(), signal.SIGKILL)

    def work():
        downscale_folder.downscale_folder(folder / "high", folder / "low", [2, 4])

    def work_and_die():
        os.replace = replace_or_die
        work()

    assert forks.run(work_and_die) == -signal.SIGKILL
    work()
    found = {str(path.relative_to(folder / "low")) for path in (folder / "low").rglob("*")}
    expected = {f"x{scale}/{name}" for scale in (2, 4) for name in ("a.png", "sub/b.png")}
    records = {f"x{s}/.downscale_folder{name}" for s in (2, 4) for name in ("", "/settings.json")}
    assert found == expected | records | {"x2", "x4", "x2/sub", "x4/sub"}
    for name in expected:
        image_files.read_rgb(folder / "low" / name)


def test_names_that_are_long_or_no_text(folder):
    names = [os.fsdecode(b"caf\xe9.png"), "n" * 246 + ".png"]
    for name in names:
        os.rename(folder / "high/a.png", folder / "high" / name)
        shutil.copy(folder / "high" / name, folder / "high/a.png")
    counts = downscale_folder.downscale_folder(folder / "high", folder / "low", [2])
    assert counts == {"written": 4, "present": 0, "skipped": 0}
    assert all((folder / "low" / name).exists() for name in names)


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
