"""A process that has imported what takes long to import, and forks one child for each command.

It runs no TensorFlow operation, so that a child finds no threads, devices or flags that a process
started from scratch would not have. `tests.commands` starts it and speaks to it.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import tempfile
import types

# The entry points' own first import hides what TensorFlow writes while it is loaded.
HEAVY = ("misc.training.entry_point", "keras", "matplotlib.pyplot", "scipy.stats", "skimage.data")


def wait_for_command(channel):
    """Forks for every request that comes through a socket; returns it, but in the child only."""
    while True:
        message, streams, _, _ = socket.recv_fds(channel, 1 << 20, 2)
        if not message:
            os._exit(0)
        between = os.fork()
        if between == 0:
            # The process between the two ends at once: then the child belongs to the tests, which
            # can wait for it as for any of their own.
            child = os.fork()
            if child:
                channel.send(str(child).encode())
                os._exit(0)
            channel.close()
            for number, stream in enumerate(streams, start=1):
                os.dup2(stream, number)
                os.close(stream)
            return json.loads(message)
        os.waitpid(between, 0)
        for stream in streams:
            os.close(stream)
        channel.send(b"ready")


def run(arguments, environment, new_session):
    """Does what `python ARGUMENTS...` does."""
    if new_session:
        os.setsid()
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - what it was opened for was no pipe
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # found again, with this environment
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        sys.modules["__main__"] = types.ModuleType("__main__")
        exec(arguments[1], vars(sys.modules["__main__"]))
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    for module in HEAVY:
        importlib.import_module(module)
    gc.freeze()
    run(**wait_for_command(socket.socket(fileno=int(sys.argv[1]))))
