"""Results of other packages, stored by `python -m tests.references.make`."""

import pathlib

import numpy as np

FOLDER = pathlib.Path(__file__).parent


def load(name):
    """Returns {key: array} of a stored file."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def save(name, arrays):
    """Stores {key: array}."""
    np.savez_compressed(FOLDER / f"{name}.npz", **arrays)


def sample(array, count=16):
    """Returns a few values of an array, evenly spread, then its root mean square; float64."""
    flat = np.asarray(array, np.float64).ravel()
    places = np.linspace(0, flat.size - 1, min(count, flat.size)).astype(int)
    return np.append(flat[places], np.sqrt(np.mean(flat**2)))
