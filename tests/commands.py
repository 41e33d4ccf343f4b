"""Runs entry points and commands as a user does, in a process of their own."""

import ctypes
import functools
import json
import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PR_SET_CHILD_SUBREAPER = 36


def start(*command, environment=None, from_scratch=False, **kwargs):
    """Starts `python COMMAND...` in the project's folder; returns the process.

    It is a fork of one that has loaded TensorFlow already, or else `from_scratch`, as those are
    that need another backend. Further arguments are those of `subprocess.Popen`.
    """
    environment = environment or {}
    from_scratch = from_scratch or "KERAS_BACKEND" in environment
    return (subprocess.Popen if from_scratch else _Fork)(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"} | environment,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | kwargs,
    )


def run(*command, status=0, environment=None, timeout=300, from_scratch=False):
    """Runs `python COMMAND...` to its end; returns what it printed, both streams together.

    Raises:
        AssertionError: if it ends with another status.
    """
    process = start(*command, environment=environment, from_scratch=from_scratch)
    try:
        output, errors = process.communicate(timeout=timeout)
    finally:
        process.kill()  # else a run that hangs would outlive its test
    assert process.returncode == status, f"exit {process.returncode}\n{output}\n{errors}"
    return output + errors


def to_arguments(values):
    """Returns {flag: value} as command-line arguments."""
    return [
        f"--{name}={','.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in values.items()
    ]


class _Fork(subprocess.Popen):
    """A process that the fork server starts."""

    def _execute_child(self, args, *others):
        environment, new_session = others[5], others[-2]
        pipes = others[9:15]
        request = {
            "arguments": args[1:],
            "environment": dict(environment),
            "new_session": new_session,
        }
        channel = _fork_server()
        socket.send_fds(channel, [json.dumps(request).encode()], [pipes[3], pipes[5]])
        self.pid = int(channel.recv(100))
        assert channel.recv(100) == b"ready"
        self._child_created = True
        self._close_pipe_fds(*pipes)


@functools.cache
def _fork_server():
    # What the server forks becomes a child of this process: see there.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with there:
        subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server", str(there.fileno())],
            cwd=ROOT,
            pass_fds=[there.fileno()],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    return here
