"""Images decoded once: in memory, or as raw files on disk that are mapped into memory.

A store holds numbered groups of images, such as a photograph and its reduced copies. On disk a
store is a folder with one file of raw pixels per image and an index; it gets its name only when
it is whole, so what a killed build leaves behind is never read.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil

import numpy as np
from absl import logging

from misc.images import files

_FORMAT = 2
_INDEX = "index.json"
# Of an image in float32 and what is made of it on the way, for two that are worked on at once:
# measured were 12 to 160 for one and a degradation.
_BYTES_PER_PIXEL = 200


class PixelStore:
    """Groups of uint8 images that belong together.

    Attributes:
        shapes: list with a list of the images' `(H, W, C)` for each group.

    Args:
        shapes: `{(number, position): (H, W, C)}`; groups are sorted by their numbers.
        images: `{(number, position): pixels}`, for a store in memory.
        folder: where the raw files are, for a store on disk.
    """

    def __init__(self, shapes, images=None, folder=None):
        self._numbers = sorted({number for number, _ in shapes})
        self._images = images
        self._folder = folder
        self.shapes = [
            [shape for (other, _), shape in sorted(shapes.items()) if other == number]
            for number in self._numbers
        ]

    def image(self, group, position):
        """Returns image `position` of the group as uint8 `[H, W, C]`, not to be written to.

        From disk, only the parts of it that are looked at are read, and they count as this
        process's memory only as long as the array lives.
        """
        if self._images is not None:
            return self._images[self._numbers[group], position]
        shape = self.shapes[group][position]
        if 0 in shape:
            return np.empty(shape, np.uint8)
        # Mapped anew each time: that takes microseconds, while maps that stay open would gather the
        # whole set in this process's memory, and Linux allows 65,530 of them.
        return np.memmap(self.path(group, position), np.uint8, "r", shape=shape)

    def path(self, group, position):
        """Returns the raw file of an image on disk: its rows one after the other, no header."""
        return str(_raw_path(self._folder, self._numbers[group], position))


def build_in_memory(fill):
    """Returns a store in memory.

    Args:
        fill: function that is given `write(number, position, pixels)` and calls it (from any
            thread) for every image; a group's number need not be its place.
    """
    images = {}

    def write(number, position, pixels):
        images[number, position] = np.ascontiguousarray(pixels)

    fill(write)
    return PixelStore({place: pixels.shape for place, pixels in images.items()}, images)


def build_on_disk(fill, folder, key, expected_bytes):
    """Returns a store on disk; builds it unless an earlier call with this key did.

    Several processes may call this at the same time: one builds, the others wait for it.

    Args:
        fill: as for `build_in_memory`; called only when there is something to build.
        folder: folder that holds stores.
        key: JSON value that says all that the pixels depend on.
        expected_bytes: size of the pixels, to complain early when the disk is too small.

    Raises:
        OSError: when the disk has no room for the store.
    """
    folder = pathlib.Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(json.dumps([_FORMAT, key]).encode()).hexdigest()[:20]
    store = folder / digest
    with _locked(folder / f"{digest}.lock"):
        opened = _open(store)
        if opened:
            return opened
        files.sweep([folder])
        _check_room(folder, expected_bytes)
        logging.info("Decoding images to the cache %s (%.1f GB)", store, expected_bytes / 1e9)
        with files.write_atomically(store) as temporary:
            temporary.mkdir()
            _write_store(fill, temporary)
        return _open(store)


def fits_in_memory(size):
    """Returns whether so many bytes need less than half of the memory that is available."""
    available = available_memory()
    return available is not None and size < available / 2


def check_pixels(height, width, what):
    """Raises ValueError if the machine has not the memory to work on `what`, of that size."""
    check_memory(_BYTES_PER_PIXEL * height * width, f"{what} of {height}x{width} pixels")


def check_memory(size, what):
    """Raises ValueError if so many bytes are more than the machine has left; `what` needs them."""
    available = available_memory()
    if available is not None and size > available:
        raise ValueError(
            f"{what} would need about {size / 1e9:,.1f} GB of memory. "
            f"Received: {available / 1e9:,.1f} GB available"
        )


def available_memory():
    """Returns the bytes that the machine or its cgroup has left, None where Linux does not tell."""
    amounts = []
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                amounts.append(int(line.split()[1]) * 1024)
    with contextlib.suppress(OSError, ValueError):
        # "max" (no limit) is no number.
        limit = int(pathlib.Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(pathlib.Path("/sys/fs/cgroup/memory.current").read_text())
        amounts.append(max(0, limit - used))
    return min(amounts, default=None)


def _write_store(fill, folder):
    shapes = {}

    def write(number, position, pixels):
        with open(_raw_path(folder, number, position), "wb") as file:
            file.write(np.ascontiguousarray(pixels).data)
            file.flush()
            os.fsync(file.fileno())
        shapes[number, position] = pixels.shape

    fill(write)
    files.write_json(folder / _INDEX, [[*place, shape] for place, shape in shapes.items()])


def _open(store):
    """Returns the store in a folder, or None where there is none that is whole."""
    if not store.is_dir():
        return None
    try:
        index = json.loads((store / _INDEX).read_text())
        shapes = {(number, position): tuple(shape) for number, position, shape in index}
        for (number, position), shape in shapes.items():
            path = _raw_path(store, number, position)
            if path.stat().st_size != np.prod(shape):
                raise ValueError(f"{path.name} has another size")
    except (OSError, ValueError, TypeError) as error:
        logging.warning("The cache %s is damaged (%s) and will be built again", store, error)
        shutil.rmtree(store)
        return None
    return PixelStore(shapes, folder=store)


def _raw_path(folder, number, position):
    return folder / f"{number:07d}_{position}.raw"


@contextlib.contextmanager
def _locked(path):
    # The system drops the lock when the process ends, however it ends.
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check_room(folder, expected_bytes):
    free = shutil.disk_usage(folder).free
    if free < expected_bytes:
        raise OSError(
            f"The cache folder {folder} needs {expected_bytes / 1e9:.1f} GB for the decoded "
            f"images. Received: {free / 1e9:.1f} GB free"
        )
