"""Progress bars that know a terminal from a pipe."""

import sys

import tqdm


def track(iterable=None, total=None, description="", unit="image"):
    """Returns a tqdm bar over `iterable` with count, rate and time left, on standard error.

    On a terminal it redraws twice a second; in a pipe or a file it writes a line every 30 seconds,
    so that logs stay readable. It can also be advanced by hand with `update`.
    """
    interactive = sys.stderr.isatty()
    return tqdm.tqdm(
        iterable,
        total=total,
        desc=description,
        unit=unit,
        mininterval=0.5 if interactive else 30,
        maxinterval=0.5 if interactive else 30,
        dynamic_ncols=interactive,
        ascii=None if interactive else True,
        leave=True,
        file=sys.stderr,
    )
