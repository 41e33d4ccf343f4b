"""Locks keep other living processes out, and nobody else."""

import os
import signal

import pytest

from misc.images import locks


def _in_a_fork(function):
    """Returns the exit status of the function in a fork, or less the signal that ended it."""
    process = os.fork()
    if not process:
        try:
            function()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _enter(folder):
    with locks.hold(folder):
        pass


def test_another_process_is_kept_out_until_the_end(tmp_path):
    folder = tmp_path / "run"
    with locks.hold(folder):
        assert _in_a_fork(lambda: _enter(folder)) == 1
    assert not folder.exists()
    folder.mkdir()
    assert _in_a_fork(lambda: _enter(folder)) == 0
    assert not list(folder.iterdir())


def test_the_message_names_folder_and_owner(tmp_path):
    ready, started = os.pipe()
    go_on, waits = os.pipe()
    process = os.fork()
    if not process:
        with locks.hold(tmp_path):
            os.write(started, b"x")
            os.read(go_on, 1)
        os._exit(0)
    os.read(ready, 1)
    with pytest.raises(OSError, match=rf"{tmp_path} is in use by process {process} on "):
        _enter(tmp_path)
    os.write(waits, b"x")
    os.waitpid(process, 0)
    _enter(tmp_path)


def test_the_lock_of_a_killed_process_does_not_hold(tmp_path):
    def die():
        with locks.hold(tmp_path):
            os.kill(os.getpid(), signal.SIGKILL)

    assert _in_a_fork(die) == -signal.SIGKILL
    assert (tmp_path / locks.LOCK).exists()
    _enter(tmp_path)
    assert not (tmp_path / locks.LOCK).exists()
