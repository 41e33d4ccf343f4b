"""Locks keep other living processes out, and nobody else."""

import errno
import fcntl
import os
import signal

import pytest

from misc.images import locks
from tests import forks


def _enter(folder):
    with locks.hold(folder):
        pass


def test_another_process_is_kept_out_until_the_end(tmp_path):
    folder = tmp_path / "run"
    with locks.hold(folder):
        assert forks.run(lambda: _enter(folder)) == forks.OS_ERROR
    assert not folder.exists()
    folder.mkdir()
    assert forks.run(lambda: _enter(folder)) == 0
    assert not list(folder.iterdir())


def test_the_message_names_folder_and_owner(tmp_path):
    with (
        forks.beside(locks.hold(tmp_path)) as process,
        pytest.raises(OSError, match=rf"{tmp_path} is in use by process {process} on "),
    ):
        _enter(tmp_path)
    _enter(tmp_path)


def test_the_lock_of_a_killed_process_does_not_hold(tmp_path):
    def die():
        with locks.hold(tmp_path):
            os.kill(os.getpid(), signal.SIGKILL)

    assert forks.run(die) == -signal.SIGKILL
    assert (tmp_path / locks.LOCK).exists()
    _enter(tmp_path)
    assert not (tmp_path / locks.LOCK).exists()


def test_disks_without_locks_can_be_written_to(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", fail)
    _enter(tmp_path)
    assert not list(tmp_path.iterdir())
