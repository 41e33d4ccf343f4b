"""Work on many files at once, with progress, where one broken file need not stop the rest."""

import collections
import concurrent.futures
import contextlib
import os

from absl import logging

from misc.images import progress


def for_each(
    work,
    items,
    description,
    skip_broken=False,
    unit="image",
    total=None,
    threads=None,
    executor=None,
    count_units=lambda item: 1,
):
    """Calls `work(item)` for all items as `ahead` does, with a progress bar.

    Args:
        work: see `ahead`.
        items: iterable of items; a generator may hold large ones.
        description: text beside the progress bar.
        skip_broken: whether broken items are logged and left out instead of raised.
        unit: what an item is, for the progress bar.
        total: number of items, where `items` has no length.
        threads: number of threads; `None`: one per core, within bounds.
        executor: see `ahead`.
        count_units: function of an item that returns how many units it is.

    Returns:
        `(results, skipped)`: results in the order of `items`, None where skipped; and the list of
        the error messages.
    """
    results, skipped = [], []
    total = sum(map(count_units, items)) if total is None else total
    threads = threads or _count_threads()
    # The workers of an executor may be many: it gets all that is to do.
    count = 4 * threads if executor is None else len(items)
    with (
        progress.track(total=total, description=description, unit=unit) as bar,
        contextlib.closing(ahead(work, items, count, threads, executor)) as done,
    ):
        for item, result, error in done:
            if error is not None:
                if not skip_broken:
                    raise error
                skipped.append(str(error))
                logging.warning("Skipped: %s", error)
            results.append(result)
            bar.update(count_units(item))
    if skipped:
        logging.warning("%s: skipped %d of %d", description, len(skipped), len(results))
    return results, skipped


def ahead(work, items, count, threads=None, executor=None):
    """Yields `(item, work(item), None)` in the order of the items; threads work ahead.

    Args:
        work: function of one item; a ValueError that it raises means a broken item and names it.
            The item is then yielded as `(item, None, error)`.
        items: iterable of items.
        count: number of items that are worked on before they are asked for.
        threads: number of threads; `None`: one per core, within bounds.
        executor: executor of `engines` to use instead of threads; it is up to the caller to end it.
    """

    def attempt(item):
        try:
            return item, work(item), None
        except ValueError as error:
            return item, None, error

    pool = executor or concurrent.futures.ThreadPoolExecutor(threads or _count_threads())
    pending = collections.deque()
    try:
        for item in items:
            pending.append(pool.submit(attempt, item))
            if len(pending) > count:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
        if executor is None:
            # What was begun is done first, so that nothing is written any more when this has ended.
            pool.shutdown(wait=True, cancel_futures=True)


def _count_threads():
    return min(8, max(2, os.cpu_count() or 1))
