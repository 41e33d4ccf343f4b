"""Runs entry points and commands as a user does, in a process of their own."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def start(*command, environment=None, **kwargs):
    """Starts `python COMMAND...` in the project's folder; returns the process."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"} | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def run(*command, status=0, environment=None, timeout=300):
    """Runs `python COMMAND...` to its end; returns what it printed, both streams together.

    Raises:
        AssertionError: if it ends with another status.
    """
    process = start(*command, environment=environment)
    output, errors = process.communicate(timeout=timeout)
    assert process.returncode == status, f"exit {process.returncode}\n{output}\n{errors}"
    return output + errors


def to_arguments(values):
    """Returns {flag: value} as command-line arguments."""
    return [
        f"--{name}={','.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in values.items()
    ]
