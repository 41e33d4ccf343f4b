"""Flags outside the command line's one set of them."""

import contextlib

from absl import flags


@contextlib.contextmanager
def fresh_flags():
    """Swaps all flags for none while the block runs, and yields the empty `flags.FLAGS`."""
    saved = dict(flags.FLAGS.__dict__)
    flags.FLAGS.__dict__.clear()
    flags.FLAGS.__init__()
    try:
        yield flags.FLAGS
    finally:
        flags.FLAGS.__dict__.clear()
        flags.FLAGS.__dict__.update(saved)


def defined_flags(*definitions):
    """Returns the set of the names of the flags that functions such as `define_flags` define."""
    with fresh_flags() as fresh:
        for define in definitions:
            define()
        return set(fresh)
