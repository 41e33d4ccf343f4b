"""Checkpoints in a folder: finding whole ones, writing them, removing old ones.

What is there is read from the folder itself. TensorFlow writes a checkpoint's index last, with the
size and the CRC-32C of every tensor, so that one whose tensors can all be read is whole.
"""

import os
import pathlib
import re
import shutil

import tensorflow as tf

from misc.images import files

NAME = "model.ckpt"
# TensorFlow's own note of the newest one; nothing here is decided by it.
STATE = "checkpoint"
_PIECE = re.compile(rf"{re.escape(NAME)}-(0|[1-9]\d*)\.(index|data-\d+-of-\d+)")


def path_of(folder, step):
    """Returns the path of the checkpoint of a step, which its pieces' names begin with."""
    return pathlib.Path(folder) / f"{NAME}-{step}"


def list_steps(folder):
    """Returns the steps of which a folder holds a checkpoint or a piece of one, newest first."""
    found = {int(match[1]) for match, _ in _pieces(folder)}
    return sorted(found, reverse=True)


def find_damage(path):
    """Returns what is wrong with the checkpoint of a path, `None` if it is whole."""
    index = pathlib.Path(f"{path}.index")
    if not index.is_file():
        return f"{index.name} is missing"
    try:
        reader = tf.train.load_checkpoint(str(path))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except Exception as error:  # TensorFlow raises many kinds
        return str(error).strip().splitlines()[0]
    return None


def find_newest(folder):
    """Returns the path of the newest whole checkpoint or `None`, and what is wrong with newer ones.

    The latter is a text such as "model.ckpt-8 is damaged (...)", empty where nothing is.
    """
    damaged = []
    for step in list_steps(folder):
        path = path_of(folder, step)
        damage = find_damage(path)
        if damage is None:
            return path, "; ".join(damaged)
        damaged.append(f"{path.name} is damaged ({damage})")
    more = [f"{len(damaged) - 3} more are damaged"] if len(damaged) > 3 else []
    return None, "; ".join(damaged[:3] + more)


def write(checkpoint, folder, step):
    """Writes a `tf.train.Checkpoint` as model.ckpt-STEP; returns its path.

    All pieces are on the disk before the index gets its name.
    """
    path = path_of(folder, step)
    with files.write_atomically(f"{path}.index") as index:
        checkpoint.write(str(index.with_suffix("")))
        for piece in index.parent.glob(f"{NAME}-{step}.data-*"):
            with open(piece, "rb") as file:
                os.fsync(file.fileno())
            os.replace(piece, path.with_name(piece.name))
    state = tf.compat.v1.train.generate_checkpoint_state_proto(str(folder), path.name)
    with files.write_atomically(path.with_name(STATE)) as temporary:
        temporary.write_text(str(state))
    return path


def remove(folder, steps):
    """Removes the checkpoints of these steps; the index first, so that none looks whole."""
    pieces = sorted(_pieces(folder), key=lambda piece: piece[0][2] != "index")
    for match, path in pieces:
        if int(match[1]) in steps:
            path.unlink()


def sweep(folder):
    """Removes what TensorFlow left of a checkpoint where its process was killed."""
    for path in pathlib.Path(folder).glob(f"{NAME}-*_temp"):
        shutil.rmtree(path)
    for path in pathlib.Path(folder).glob(f"{STATE}.tmp*"):
        path.unlink()


def _pieces(folder):
    """Yields the (match of the name, path) of each file of a checkpoint."""
    for path in pathlib.Path(folder).glob(f"{NAME}-*"):
        match = _PIECE.fullmatch(path.name)
        if match:
            yield match, path
