"""What a folder holds, as values that are equal where two runs did the same."""

import hashlib
import json
import os
import re

import h5py
import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing import plugin_event_accumulator

from misc.export import frozen
from misc.images import preprocessing

CHECKPOINT = re.compile(r"(.*model\.ckpt-(\d+))\.(index|data-\S+)")
# What other files show, what is read otherwise, random numbers of TensorFlow, its sources for stack
# traces, which lie where the system clears up, and what other libraries keep.
IGNORED = re.compile(
    r"(?:.*/)?(?:checkpoint|events\.out\.tfevents\S*|fingerprint\.pb|__autograph_gen.*\.py)"
    r"|cache/(?!degraded-vision).*|temporary/\.ses"
)
BROKEN = "broken: "


def read(folder):
    """Returns {(name, step, detail): value} of all that lies in a folder.

    Files and folders have neither step nor detail, checkpoints a step; lines of history.jsonl and
    points of TensorBoard, as it shows them, have both. What cannot be read is `BROKEN` and why.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        checkpoint = CHECKPOINT.fullmatch(name)
        if checkpoint:
            whole = path.parent / checkpoint[1].rpartition("/")[2]
            found[checkpoint[1], int(checkpoint[2]), ""] = _attempt(_read_checkpoint, whole)
        elif path.name == "history.jsonl":
            found |= _attempt(_read_history, path, name)
        elif not IGNORED.fullmatch(name):
            found[name, None, ""] = "folder" if path.is_dir() else _attempt(_read_file, path)
    for path in {path.parent for path in folder.rglob("events.out.tfevents*")}:
        found |= _attempt(_read_events, path, path.relative_to(folder).as_posix())
    return found


def list_names(folder):
    """Returns the names of all that lies in a folder, also while it changes."""
    return [
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, folders, files in os.walk(folder)
        for name in (*folders, *files)
    ]


def steps_of_checkpoints(folder):
    """Returns {run's folder: sorted steps of its checkpoints}, without those of the best."""
    found = {}
    for path in map(folder.joinpath, list_names(folder)):
        checkpoint = CHECKPOINT.fullmatch(path.name)
        if checkpoint and path.suffix == ".index" and not path.parent.name.startswith("best"):
            found.setdefault(path.parent, []).append(int(checkpoint[2]))
    return {path: sorted(steps) for path, steps in found.items()}


def _attempt(read_one, path, *name):
    try:
        return read_one(path, *name)
    except Exception as error:  # each of several libraries has its own
        text = f"{BROKEN}{type(error).__name__}: {error}"
        return {(*name, None, ""): text} if name else text


def _read_checkpoint(path):
    reader = tf.train.load_checkpoint(str(path))
    names = sorted(reader.get_variable_to_shape_map())
    # How often a process saved is no part of the state.
    counted = [n for n in names if "CHECKPOINTABLE" not in n and "save_counter" not in n]
    return _digest(*(part for name in counted for part in (name, reader.get_tensor(name))))


def _read_history(path, name):
    found = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        kind = "validation" if any(key.startswith("validation/") for key in row) else "training"
        while (name, row["step"], kind) in found:
            kind += " again"
        found[name, row["step"], kind] = line
    return found


def _read_events(path, name):
    accumulator = plugin_event_accumulator.EventAccumulator(str(path), {"tensors": 0})
    accumulator.Reload()
    found = {}
    # Every start writes its arguments down.
    for tag in set(accumulator.Tags()["tensors"]) - {"arguments"}:
        for event in accumulator.Tensors(tag):
            key = tag
            while (name, event.step, key) in found:
                key += " again"
            found[name, event.step, key] = _digest(event.tensor_proto.SerializeToString())
    return found


def _read_file(path):
    # Threads write these, in any order; what a kill left in one may be noted once more.
    if path.name == "records.jsonl" or preprocessing.RECORD_FOLDER in path.parts:
        lines = {line for line in path.read_text().splitlines() if _is_json(line)}
        return _digest(*sorted(lines))
    if path.name == "index.json":
        return _digest(*sorted(map(json.dumps, json.loads(path.read_text()))))
    if path.suffix == ".h5":
        return _digest(*_read_h5(path))
    if path.suffix == ".onnx" or path.name == "saved_model.pb":
        return _read_frozen(path.parent if path.suffix == ".pb" else path)
    if path.suffix == ".json":
        json.loads(path.read_text())
    return _digest(path.read_bytes())


def _read_h5(path):
    parts = []
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: parts.extend(
                [name, *(f"{k}={v}" for k, v in sorted(item.attrs.items()))]
                + ([np.asarray(item)] if isinstance(item, h5py.Dataset) else [])
            )
        )
    return parts


def _read_frozen(path):
    """Returns what a frozen file computes: names in it count what its process has made."""
    model = frozen.load(path)
    images = np.random.default_rng(0).uniform(0, 255, (1, 16, 16, 3)).astype(np.float32)
    outputs = [model.predict(images, scale) for scale in model.scales or (None,)]
    arrays = [np.asarray(array) for each in outputs for array in each.values()]
    return _digest(model.description.to_json(), *arrays)


def _is_json(line):
    try:
        json.loads(line)
    except json.JSONDecodeError:
        return False
    return True


def _digest(*parts):
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            total.update(f"{part.dtype}{part.shape}".encode())
            part = part.tobytes() if part.dtype != object else repr(part.tolist())
        total.update(part.encode() if isinstance(part, str) else part)
        total.update(b"\0")
    return total.hexdigest()[:16]
