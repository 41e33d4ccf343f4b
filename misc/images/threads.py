"""Work on many files at once, with progress, where one broken file need not stop the rest."""

import collections
import concurrent.futures
import os

from absl import logging

from misc.images import progress


def for_each(work, items, description, skip_broken=False, unit="image", total=None, threads=None):
    """Calls `work(item)` for all items on a pool of threads.

    Items are taken as threads become free, so that a generator may hold large ones.

    Args:
        work: function of one item; a ValueError that it raises means a broken item and names it.
        items: iterable of items.
        description: text beside the progress bar.
        skip_broken: whether broken items are logged and left out instead of raised.
        unit: what an item is, for the progress bar.
        total: number of items, where `items` has no length.
        threads: number of threads; None for one per core, within bounds.

    Returns:
        `(results, skipped)`: results in the order of `items`, None where skipped; and the list of
        the error messages.

    Raises:
        ValueError: the first broken item's, unless `skip_broken`; items not yet begun are left.
    """
    results, skipped = {}, []
    total = len(items) if total is None else total
    threads = threads or _count_threads()
    pending = {}

    def collect(return_when):
        done, _ = concurrent.futures.wait(pending, return_when=return_when)
        for future in done:
            number = pending.pop(future)
            try:
                results[number] = future.result()
            except ValueError as error:
                if not skip_broken:
                    raise
                results[number] = None
                skipped.append(str(error))
                logging.warning("Skipped: %s", error)
            bar.update()

    with (
        concurrent.futures.ThreadPoolExecutor(threads) as pool,
        progress.track(total=total, description=description, unit=unit) as bar,
    ):
        try:
            for number, item in enumerate(items):
                pending[pool.submit(work, item)] = number
                if len(pending) >= 2 * threads:
                    collect(concurrent.futures.FIRST_COMPLETED)
            collect(concurrent.futures.ALL_COMPLETED)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if skipped:
        logging.warning("%s: skipped %d of %d", description, len(skipped), len(results))
    return [results[number] for number in range(len(results))], skipped


def ahead(work, items, count):
    """Yields `(item, work(item), None)` in the order of the items; threads work ahead.

    Args:
        work: function of one item; a ValueError that it raises means a broken item and names it.
            The item is then yielded as `(item, None, error)`.
        items: iterable of items.
        count: number of items that are worked on before they are asked for.
    """

    def attempt(item):
        try:
            return item, work(item), None
        except ValueError as error:
            return item, None, error

    pool = concurrent.futures.ThreadPoolExecutor(_count_threads())
    try:
        pending = collections.deque()
        for item in items:
            pending.append(pool.submit(attempt, item))
            if len(pending) > count:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _count_threads():
    return min(8, max(2, os.cpu_count() or 1))
