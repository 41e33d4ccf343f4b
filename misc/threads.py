"""Work on many files at once, with progress, where one broken file need not stop the rest."""

import concurrent.futures
import os

from absl import logging

from misc import progress


def for_each(work, items, description, skip_broken=False, unit="image"):
    """Calls `work(item)` for all items on a pool of threads.

    Args:
        work: function of one item; a ValueError that it raises means a broken item and names it.
        items: sequence of items.
        description: text beside the progress bar.
        skip_broken: whether broken items are logged and left out instead of raised.
        unit: what an item is, for the progress bar.

    Returns:
        `(results, skipped)`: results in the order of `items`, None where skipped; and the list of
        the error messages.

    Raises:
        ValueError: the first broken item's, unless `skip_broken`; items not yet begun are left.
    """
    results = [None] * len(items)
    skipped = []
    threads = min(8, max(2, os.cpu_count() or 1))
    with (
        concurrent.futures.ThreadPoolExecutor(threads) as pool,
        progress.track(total=len(items), description=description, unit=unit) as bar,
    ):
        futures = {pool.submit(work, item): number for number, item in enumerate(items)}
        try:
            for future in concurrent.futures.as_completed(futures):
                try:
                    results[futures[future]] = future.result()
                except ValueError as error:
                    if not skip_broken:
                        raise
                    skipped.append(str(error))
                    logging.warning("Skipped: %s", error)
                bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if skipped:
        logging.warning("%s: skipped %d of %d", description, len(skipped), len(items))
    return results, skipped
