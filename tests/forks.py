"""Forks of the tests' own process: what others do at the same time, or are killed in."""

import contextlib
import os
import resource
import traceback

OS_ERROR = 1


def run(function):
    """Returns the exit status of the function in a fork, or less the signal that ended it."""
    process = os.fork()
    if not process:
        try:
            function()
        except OSError:
            os._exit(OS_ERROR)
        except BaseException:
            traceback.print_exc()
            os._exit(2)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@contextlib.contextmanager
def beside(context):
    """Enters a context in a fork and stays there; yields the fork's id."""
    ready, started = os.pipe()
    go_on, waits = os.pipe()
    process = os.fork()
    if not process:
        try:
            os.close(waits)  # else it would wait for itself
            with context:
                os.write(started, b"x")
                os.read(go_on, 1)
        finally:
            os._exit(0)
    os.read(ready, 1)
    try:
        yield process
    finally:
        for descriptor in (waits, ready, started, go_on):
            os.close(descriptor)
        os.waitpid(process, 0)


@contextlib.contextmanager
def full_disk(size):
    """Lets no file grow beyond `size` bytes, as if the disk were full then."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
