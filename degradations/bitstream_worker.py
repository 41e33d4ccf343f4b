"""Runs functions in worker processes, for libraries that hold Python's lock while they compute.

`call(function, *arguments)` works from any thread, one worker per call at a time; workers start
when they are first needed, at most one per core, import nothing of the calling program, and end
with it. They are plain child processes over pipes: multiprocessing would import the caller's main
module, TensorFlow with it, into each.
"""

import atexit
import os
import pickle
import queue
import subprocess
import sys
import threading


class _Worker:
    def __init__(self):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "degradations.bitstream_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            process_group=0,  # a terminal's Ctrl-C reaches the calling program alone, which ends it
        )

    def call(self, function, arguments):
        pickle.dump((function, arguments), self._process.stdin, pickle.HIGHEST_PROTOCOL)
        self._process.stdin.flush()
        return pickle.load(self._process.stdout)

    def stop(self):
        self._process.kill()
        self._process.communicate()


class _Pool:
    def __init__(self, size):
        # None stands for a worker that is not started; running ones lie on top.
        self._free = queue.LifoQueue()
        for _ in range(size):
            self._free.put(None)

    def call(self, function, *arguments):
        worker = self._free.get()
        answer = None
        try:
            worker = worker or _Worker()
            answer = worker.call(function, arguments)
        except (EOFError, OSError, pickle.UnpicklingError) as broken:
            raise RuntimeError(f"the worker process for {function.__name__} died") from broken
        finally:
            # After an interrupted call a worker would answer the wrong question next time.
            self._free.put(worker if answer else None)
            if worker and not answer:
                worker.stop()
        error, result = answer
        if error is not None:
            raise error
        return result

    def stop(self):
        while not self._free.empty():
            worker = self._free.get()
            if worker:
                worker.stop()


_pool = None
_pool_lock = threading.Lock()


def call(function, *arguments):
    """Returns `function(*arguments)`, computed in a worker process.

    Args:
        function: a function that can be imported without TensorFlow.
        *arguments: what can be pickled.

    Raises:
        RuntimeError: if the worker process dies; else what the function raises.
    """
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = _Pool(os.cpu_count() or 1)
            atexit.register(_pool.stop)
    return _pool.call(function, *arguments)


def _serve():
    """Answers calls from standard input until it closes."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # What a library prints must not end up among the answers.
    while True:
        try:
            function, arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            answer = (None, function(*arguments))
        except Exception as error:
            answer = (error, None)
        pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()


if __name__ == "__main__":
    _serve()
