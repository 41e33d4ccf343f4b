"""Keeps two processes from writing into one folder."""

import atexit
import contextlib
import errno
import fcntl
import functools
import os
import pathlib
import socket

LOCK = ".lock"


class InUseError(OSError):
    """Another process holds the lock of a folder."""


@contextlib.contextmanager
def hold(folder):
    """Keeps other processes out of a folder, which is made if missing, while the context lasts.

    The system gives the lock back when its process ends, however it ends, so that one of a dead
    process never holds. It is the process's own: neither a thread nor a fork of it shares it. A
    folder that was made and stayed empty goes again.

    Args:
        folder: path of a folder; whatever may be written in it is up to the caller.

    Raises:
        InUseError: when another process holds the lock; names the folder and the process.
    """
    folder = pathlib.Path(folder)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    file = _acquire(path, folder)
    remove = functools.partial(path.unlink, missing_ok=True)
    atexit.register(remove)  # a library that calls back may end the process without coming here
    try:
        yield
    finally:
        atexit.unregister(remove)
        # Removed before it is given back: a process that has opened it by now looks again.
        remove()
        os.close(file)
        if is_new:
            with contextlib.suppress(OSError):  # it holds something
                folder.rmdir()


def _acquire(path, folder):
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                return file  # some network disks lock nothing
            owner = os.read(file, 200).decode(errors="replace").strip() or "another process"
            os.close(file)
            raise InUseError(
                f"{folder} is in use by {owner}, which writes there; wait for it or end it."
            ) from error
        if _is_still(path, file):
            os.ftruncate(file, 0)
            with contextlib.suppress(OSError):  # on a full disk the lock is nameless
                os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
            return file
        os.close(file)  # its owner removed it between the two calls


def _is_still(path, file):
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False
