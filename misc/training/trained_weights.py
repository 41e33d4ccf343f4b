"""Trained weights that come with the project: NAME.h5 in the folder weights/ of a package.

The file digests.json beside them has the SHA-256 of each, which is checked before they are used,
and fixes their order. They are of 16 bits, tell what made them, and are read as data alone.
"""

import hashlib
import pathlib

from misc.images import files
from misc.training import weight_files
from misc.training.command_line import PACKAGES, ROOT

DIGESTS = "digests.json"
DTYPE = "float16"


def paths():
    """Returns {name: path} of all trained weights, the first choice for a job first."""
    folders = [ROOT / package / "weights" for package in PACKAGES]
    return {
        name: folder / f"{name}{weight_files.SUFFIX}"
        for folder in folders
        if (folder / DIGESTS).is_file()
        for name in files.read_json(folder / DIGESTS)
    }


def find(name):
    """Returns the path of the weights of that name, after a check of what is there.

    Raises:
        ValueError: if the file is not the one that came with the project; names it.
        FileNotFoundError: if it is missing.
    """
    path = paths()[name]
    if _digest(path) != files.read_json(path.with_name(DIGESTS))[name]:
        raise ValueError(f"{path} is not the file that came with the project. {files.FETCH_AGAIN}")
    return path


def for_scale(scale):
    """Returns the name of the first weights that were trained for an upscaling factor, or `None`.

    The factor is a text, as on the command line; `None` without one.
    """
    for name, path in paths().items():
        scales = weight_files.read_arguments(path).get("scales", ())
        if scale in map(str, scales):
            return name
    return None


def describe():
    """Returns how to choose trained weights, "; or --weights=...", "" where there are none."""
    names = " or ".join(f"--weights={name}" for name in paths())
    return names and f"; or {names}, trained weights that come with the project"


def write(path, networks, step, arguments):
    """Writes weights as 16 bits, and their digest to digests.json beside them.

    Args:
        path: NAME.h5.
        networks: {name: keras.Model}.
        step: number of the training step.
        arguments: {flag: value} of the run that made them, with "model"; paths are left out.

    Raises:
        ValueError: if a weight is beyond what 16 bits hold.
    """
    path = pathlib.Path(path)
    arguments = {
        name: value
        for name, value in arguments.items()
        if value is not None and not name.endswith("_path")
    }
    weight_files.write(path, networks, step, DTYPE, arguments)
    digests = path.with_name(DIGESTS)
    known = files.read_json(digests) if digests.is_file() else {}
    files.write_json(digests, known | {weight_files.stem(path): _digest(path)})


def _digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
