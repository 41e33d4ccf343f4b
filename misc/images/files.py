"""Whole files or none: nothing that is killed half-way leaves a broken file behind."""

import contextlib
import errno
import fcntl
import functools
import json
import os
import pathlib
import shutil
import tempfile

# Whatever is written next meets these as well: no room, a quota, a limit of size, a disk to read.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# `tempfile` puts eight characters between the two.
_PREFIX, _SUFFIX = ".degraded-vision.", ".tmp"
# What errors that name a file end with, where it may be damaged.
FETCH_AGAIN = "If the file is damaged, take another copy of it."
# A table or settings have far less; what is larger is not read.
LARGEST_TEXT = 1 << 28


class DiskFullError(OSError):
    """The disk takes no more, so that there is no use in trying other files."""


@contextlib.contextmanager
def write_atomically(path):
    """Yields a temporary path beside `path` that takes its place when the block ends well.

    The temporary file (or folder) has the same name in a folder of its own. It is flushed to disk
    before the rename, and is removed if the block raises; `sweep` does so after a kill, at the
    latest when something is written beside it again. An existing file at `path` is replaced; an
    existing folder must be empty.

    Args:
        path: final path of a file or folder; its parent folders are made.

    Yields:
        `pathlib.Path` to write to.

    Raises:
        DiskFullError: when the disk takes no more; names `path`.
    """
    path = pathlib.Path(path)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep_once(path.parent.absolute())
        with _temporary_folder(path.parent) as folder:
            temporary = folder / path.name
            yield temporary
            _flush(temporary)
            os.replace(temporary, path)


@contextlib.contextmanager
def open_writer(folder):
    """Yields `write(path, data)`, which does what `write_atomically` does, for many small files.

    They take their places below `folder` from one temporary folder there, where a kill leaves at
    most the one that was written.

    Args:
        folder: folder on the disk of all the files; it is made.

    Yields:
        Function of a path and bytes. It raises DiskFullError when the disk takes no more.
    """
    folder = pathlib.Path(folder)
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _sweep_once(folder.absolute())
        with _temporary_folder(folder) as temporary:

            def write(path, data):
                with naming(path):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    own = temporary / path.name
                    with open(own, "wb") as file:
                        file.write(data)
                        file.flush()
                        os.fsync(file.fileno())
                    os.replace(own, path)

            yield write


@contextlib.contextmanager
def naming(path):
    """Turns what any library raises on a full disk into a DiskFullError that names `path`."""
    try:
        yield
    except Exception as error:
        reason = full_disk(error)
        if reason is None or isinstance(error, DiskFullError):
            raise
        raise DiskFullError(f"{path} cannot be written: {reason}") from error


def full_disk(error):
    """Returns what an exception says of a disk that takes no more, None if it is something else."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno) if error.errno in _FULL else None
    # TensorFlow and HDF5 have it in their text alone.
    found = [os.strerror(number) for number in _FULL if os.strerror(number) in str(error)]
    return found[0] if found else None


def sweep(folders):
    """Removes what killed processes left of `write_atomically` in folders, some may be missing.

    What belongs to a living process stays: it holds a lock that ends with it. Disks that lock no
    folders are left alone.
    """
    for folder in folders:
        with contextlib.suppress(OSError), _locked(folder, fcntl.LOCK_EX):
            for left in pathlib.Path(folder).glob(f"{_PREFIX}????????{_SUFFIX}"):
                with (
                    contextlib.suppress(OSError),
                    _locked(left, fcntl.LOCK_EX | fcntl.LOCK_NB) as is_stale,
                ):
                    if is_stale:
                        shutil.rmtree(left)


@functools.cache
def _sweep_once(folder):
    sweep([folder])


@contextlib.contextmanager
def _temporary_folder(parent):
    with contextlib.ExitStack() as stack:
        with _locked(parent, fcntl.LOCK_SH):  # no sweep comes before its own lock
            # It is removed at the end of the process, too, should the context not come to its end.
            temporary = tempfile.TemporaryDirectory(
                prefix=_PREFIX, suffix=_SUFFIX, dir=parent, ignore_cleanup_errors=True
            )
            folder = stack.enter_context(temporary)
            stack.enter_context(_locked(folder, fcntl.LOCK_EX))
        yield pathlib.Path(folder)


@contextlib.contextmanager
def _locked(folder, operation):
    """Holds the lock of a folder; yields whether it could be locked. BlockingIOError: if taken."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, operation)
            is_locked = True
        except BlockingIOError:
            raise
        except OSError:
            is_locked = False  # some network disks cannot
        yield is_locked
    finally:
        os.close(descriptor)


def read_text(path, errors="strict"):
    """Returns the text in a UTF-8 file that is a table or holds settings.

    Raises:
        ValueError: when it is no text, or far larger than such files are; names the file.
        OSError: when it cannot be opened.
    """
    size = os.path.getsize(path)
    if size > LARGEST_TEXT:
        raise ValueError(f"{path} is too large for a table or settings: {size / 1e9:.1f} GB")
    try:
        return pathlib.Path(path).read_text("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: {error}") from error


def read_json(path):
    """Returns the value in a JSON file; one that is damaged is a ValueError that names it."""
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def write_text(path, text):
    """Writes text as UTF-8, atomically; bytes of file names that are none stay as `\\udcXX`."""
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path, value):
    """Writes `value` as indented JSON, atomically; infinite and undefined numbers become text."""
    # What `write_text` makes of the bytes of file names is JSON, too.
    write_text(path, json.dumps(_plain(value), indent=2, ensure_ascii=False) + "\n")


def check_free(folder, names, overwrite):
    """Raises FileExistsError if the folder has files of these names that must not be replaced.

    The first name is that of results in JSON with a key "images", which are written first: where
    the last file is missing beside them, a run was stopped in between, and its files are replaced.
    """
    paths = [pathlib.Path(folder) / name for name in names]
    there = [path for path in paths if path.exists()]
    if overwrite or not there or (not paths[-1].exists() and _holds_results(paths[0])):
        return
    raise FileExistsError(f"{there[0]} exists: give another --output_path, or --overwrite.")


def _holds_results(path):
    try:
        return "images" in json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _plain(value):
    # JSON has no infinity; a PSNR of identical images has that value.
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return str(value)
    return value


def _flush(path):
    if path.is_dir():
        return
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def cache_folder():
    """Returns the project's folder in the user's cache folder (XDG Base Directory)."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "degraded-vision"
