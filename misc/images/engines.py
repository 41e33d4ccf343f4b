"""Where independent pieces of work run: on threads of this process, or on a cluster of dask's."""

import concurrent.futures
import contextlib
import pathlib

from absl import logging

ENGINES = ("local", "dask")
# Seconds to wait for an address that nobody may listen at.
TIMEOUT = 10
ROOT = pathlib.Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def open_executor(engine="local", workers=None, scheduler=None):
    """Yields an executor, as those of `concurrent.futures`, for functions that can be pickled.

    When the context ends, what was not begun is dropped. What is local ends first; what a cluster
    has begun goes on there.

    Args:
        engine: one of `ENGINES`.
        workers: number of threads of "local"; `None`: as many as Python thinks fit.
        scheduler: address of dask's scheduler, such as tcp://HOST:8786, for "dask". A worker of its
            that dies loses nothing: others do its work again.

    Raises:
        ValueError: if there is no address, or dask.distributed is not installed.
        OSError: if nobody answers there, or the scheduler or too many workers die.
    """
    if engine == "local":
        pool = concurrent.futures.ThreadPoolExecutor(workers)
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return
    if not scheduler:
        raise ValueError("--engine=dask needs --dask_scheduler, such as tcp://HOST:8786.")
    try:
        import distributed
    except ImportError as error:
        raise ValueError("--engine=dask needs dask.distributed: pip install distributed") from error
    try:
        client = distributed.Client(scheduler, timeout=TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise OSError(f"--dask_scheduler={scheduler}: no scheduler answers: {error}") from error
    with client:
        threads = client.nthreads()
        logging.info(
            "%s has %d workers with %d threads%s",
            scheduler,
            len(threads),
            sum(threads.values()),
            "" if threads else ": the work waits until some come",
        )
        executor = client.get_executor(pure=False)
        try:
            yield _Cluster(executor)
        except (distributed.KilledWorker, concurrent.futures.CancelledError) as error:
            raise OSError(
                f"--dask_scheduler={scheduler} has lost the work: "
                f"{str(error) or 'the scheduler is gone'}. The same command goes on."
            ) from error
        finally:
            executor.shutdown(wait=False)


class _Cluster(concurrent.futures.Executor):
    """Sends functions so that only the workers need this project, and find it by themselves."""

    def __init__(self, executor):
        self._executor = executor

    def submit(self, function, /, *args, **kwargs):
        """Returns the future of `function(*args, **kwargs)`."""
        import cloudpickle

        def call(root, content):
            # Sent with its code, since it is nested: the scheduler cannot import this module.
            import pickle
            import sys

            if root not in sys.path:
                sys.path.insert(0, root)
            function, args, kwargs = pickle.loads(content)
            return function(*args, **kwargs)

        content = cloudpickle.dumps((function, args, kwargs))
        return self._executor.submit(call, str(ROOT), content)
