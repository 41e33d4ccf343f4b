import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from misc.images import pixel_store

IMAGES = {
    (number, position): np.random.default_rng(number).integers(0, 256, shape, np.uint8)
    for number in range(3)
    for position, shape in enumerate([(6, 5, 3), (3, 2, 3), (0, 1, 3)])
}


def fill(write):
    for (number, position), pixels in IMAGES.items():
        if number != 1:
            write(number, position, pixels)


def check(store):
    assert len(store.shapes) == 2
    for group, number in enumerate([0, 2]):
        for position in range(3):
            np.testing.assert_array_equal(store.image(group, position), IMAGES[number, position])
        assert store.shapes[group] == [(6, 5, 3), (3, 2, 3), (0, 1, 3)]


def refuse(write):
    raise AssertionError("built again")


def test_memory():
    check(pixel_store.build_in_memory(fill))


def test_disk_is_built_once_per_key(tmp_path):
    check(pixel_store.build_on_disk(fill, tmp_path, ["key"], 100))
    again = pixel_store.build_on_disk(refuse, tmp_path, ["key"], 100)
    check(again)
    with open(again.path(1, 0), "rb") as file:
        assert file.read() == IMAGES[2, 0].tobytes()
    with pytest.raises(AssertionError, match="built again"):
        pixel_store.build_on_disk(refuse, tmp_path, ["other"], 100)


def test_failed_build_leaves_nothing(tmp_path):
    def break_off(write):
        fill(write)
        raise ValueError("broken.png")

    with pytest.raises(ValueError, match=r"broken\.png"):
        pixel_store.build_on_disk(break_off, tmp_path, ["key"], 100)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    check(pixel_store.build_on_disk(fill, tmp_path, ["key"], 100))


def test_killed_build_is_cleaned_up(tmp_path):
    program = (
        "import os, numpy as np; from misc.images import pixel_store\n"
        "def fill(write):\n"
        "    write(0, 0, np.zeros((4, 4, 3), np.uint8)); os.kill(os.getpid(), 9)\n"
        f"pixel_store.build_on_disk(fill, {str(tmp_path)!r}, ['key'], 100)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    assert any(path.suffix == ".tmp" for path in tmp_path.iterdir())
    check(pixel_store.build_on_disk(fill, tmp_path, ["key"], 100))
    assert not any(path.suffix == ".tmp" for path in tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["shorter", "missing", "index"])
def test_damaged_store_is_built_again(tmp_path, damage):
    path = pixel_store.build_on_disk(fill, tmp_path, ["key"], 100).path(1, 0)
    if damage == "shorter":
        os.truncate(path, 10)
    elif damage == "missing":
        os.remove(path)
    else:
        (tmp_path / os.path.dirname(path) / "index.json").write_text("[[0, 0,")
    check(pixel_store.build_on_disk(fill, tmp_path, ["key"], 100))


def test_builders_at_the_same_time(tmp_path):
    calls, stores = [], []

    def slow(write):
        calls.append(1)
        time.sleep(0.2)
        return fill(write)

    def build():
        stores.append(pixel_store.build_on_disk(slow, tmp_path, ["key"], 100))

    workers = [threading.Thread(target=build) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(calls) == 1
    for store in stores:
        check(store)


def test_no_room(tmp_path):
    with pytest.raises(OSError, match="GB free"):
        pixel_store.build_on_disk(fill, tmp_path, ["key"], 10**18)


def test_available_memory():
    available = pixel_store.available_memory()
    assert available is None or 0 < available < 2**50
