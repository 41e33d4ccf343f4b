"""Whole files or none: nothing that is killed half-way leaves a broken file behind."""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile


@contextlib.contextmanager
def write_atomically(path):
    """Yields a temporary path beside `path` that takes its place when the block ends well.

    The temporary file (or folder) keeps the extension, is flushed to disk before the rename, and
    is removed if the block raises. An existing file at `path` is replaced; an existing folder must
    be empty.

    Args:
        path: final path of a file or folder; its parent folders are made.

    Yields:
        `pathlib.Path` to write to.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    temporary = holder / path.name
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def write_json(path, value):
    """Writes `value` as indented JSON, atomically; infinite and undefined numbers become text."""
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(_plain(value), indent=2, ensure_ascii=False) + "\n")


def check_free(folder, names, overwrite):
    """Raises FileExistsError if the folder has files of these names that must not be replaced."""
    for name in names:
        path = pathlib.Path(folder) / name
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists: give another --output_path, or --overwrite.")


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
