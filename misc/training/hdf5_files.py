"""HDF5 files that come from anywhere: nothing is read but numbers that the file itself holds."""

import contextlib
import mmap

import h5py

from misc.images import files

# HDF5 File Format Specification 3.0, III.E "Global Heap": where texts of any length are kept.
_HEAP = b"GCOL\x01\x00\x00\x00"
_HEADER = 16


def open_file(path, content=None):
    """Returns the `h5py.File` of a path, or of a file object with the content in its place.

    Raises:
        ValueError: names the path, and says what is wrong.
        FileNotFoundError: when there is no such file.
    """
    with naming(path):
        if content is not None:
            _check_heaps(content.getvalue())
        else:
            with (
                open(path, "rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            ):
                _check_heaps(mapped)
        return h5py.File(path if content is None else content, "r")


@contextlib.contextmanager
def naming(path):
    """Turns what h5py raises while it reads a file into a ValueError that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:  # h5py raises many kinds on damaged files
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"Cannot read the weight file {path}: {reason}. {files.FETCH_AGAIN}"
        ) from error


def check_dataset(item, name):
    """Raises OSError for what is no array of numbers that the file itself holds."""
    numbers = isinstance(item, h5py.Dataset) and item.dtype.kind in "fiub"
    if not numbers or item.external or item.is_virtual:
        raise OSError(f"{name} is no array of numbers that the file itself holds")


def _check_heaps(content):
    """Raises OSError for a heap that HDF5 would read for ever: with an object of no size."""
    start = content.find(_HEAP)
    while start >= 0:
        place, end = start + _HEADER, start + _number(content, start + 8)
        while place + _HEADER <= min(end, len(content)):
            is_used, size = any(content[place : place + 2]), _number(content, place + 8)
            # HDF5 counts in 64 bits.
            step = (_HEADER + -(-size // 8) * 8) % (1 << 64) if is_used else size
            if not step:
                raise OSError("a heap of texts is damaged")
            place += step
        start = content.find(_HEAP, start + 1)


def _number(content, place):
    return int.from_bytes(content[place : place + 8], "little")
