"""What frozen networks say about clean images: computed once, kept in files, looked up by index.

A file belongs to one network's weights and one list of images, and is never used for others:

    FOLDER/NETWORK_STAGE/SPLIT_WEIGHTS/outputs.npy    float32, a row for each image of the split
    FOLDER/NETWORK_STAGE/SPLIT_WEIGHTS/outputs.json   what it belongs to, and checksums

WEIGHTS are the first digits of a digest. Rows are written in blocks, each with a checksum: blocks
that are damaged, or that a killed process did not come to, are computed when the file is opened.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import time
import zlib

import keras
import numpy as np
import tensorflow as tf

from classifiers import training_copies
from misc.images import files, locks, progress

# Images of a checksum: as many as a GPU computes within seconds.
BLOCK = 4096
OUTPUTS, DESCRIPTION = "outputs.npy", "outputs.json"
# What of `LabelledImages` changes no pixel; the images themselves are looked at one by one.
_NOT_PIXELS = (
    *("images", "labels", "class_names", "whole", "skip_broken"),
    *("read", "bytes", "places"),
)
# How often a process looks whether another one has computed what it waits for, in seconds.
_PATIENCE = 1.0


class TeacherOutputs:
    """Rows of a file, which stays on the disk; they can be asked for inside a `tf.function`."""

    def __init__(self, values):
        """Takes the float32 array `[N, ...]`, which may be a memory map."""
        self.values = values

    def get(self, index):
        """Returns the rows `[B, ...]` of integers `[B]`."""
        rows = tf.numpy_function(
            lambda index: np.asarray(self.values[index]), [index], tf.float32, stateful=False
        )
        return tf.ensure_shape(rows, [index.shape[0], *self.values.shape[1:]])


def open_outputs(folder, teacher, stage, images, split, batch_size=250):
    """Returns the `TeacherOutputs` of all images; what the files lack is computed.

    Other processes wait meanwhile. Images that are broken, and skipped, have undefined rows.

    Args:
        folder: folder of all such files, which is made if missing.
        teacher: network from `networks.build`.
        stage: name of the stage that is kept, such as "logits".
        images: `LabelledImages`.
        split: their name, such as "train".
        batch_size: images that the network gets at once.

    Raises:
        OSError: if the folder cannot be written.
    """
    network = digest_network(teacher)
    path = pathlib.Path(folder) / f"{teacher.name}_{stage}" / f"{split}_{network[:8]}"
    output = keras.Model(teacher.inputs[0], teacher.stages[stage])
    element = images.take(np.arange(1)).one_pass(1).element_spec["image"]
    row = output.compute_output_shape((1, *element.shape[1:]))[1:]
    wanted = {
        "network": network,
        "stage": stage,
        "images": digest_images(images),
        "shape": [len(images), *row],
        "block": BLOCK,
    }
    store = _Store(path, wanted)
    with _wait_for(path):
        missing = store.find_missing()
        if missing:
            store.fill(missing, images, tf.function(output, reduce_retracing=True), batch_size)
    return TeacherOutputs(np.load(path / OUTPUTS, mmap_mode="r"))


def create_path(flags):
    """Returns the folder of all teachers' outputs that the flags name, `None` for none."""
    if flags.teacher_cache_path is None:
        return pathlib.Path(flags.get("train_path") or "runs/run").parent / "teacher_outputs"
    return flags.teacher_cache_path or None


def open_splits(folder, teacher, stage, data, splits=("train", "validation")):
    """Returns {split: `TeacherOutputs`} of a teacher and `LabelledData`; see `open_outputs`.

    Images whose windows are drawn have no place in files, and splits without images are left out.
    """
    data = data.clean()
    if data.area is not None:
        return {}
    held_out = data.validation == "test" or data.held_out > 0
    return {
        split: open_outputs(
            folder, teacher, stage, data.part(split), split, data.evaluation_batch_size
        )
        for split in splits
        if split == "train" or held_out
    }


def teach(outputs, teacher, copies, stage=None):
    """Returns what a teacher says about the clean copies of a batch, without gradient.

    Args:
        outputs: `TeacherOutputs` of the images, or `None`: the teacher is asked.
        teacher: network of images, or of images to {stage: values}.
        copies: see `TrainingCopies`.
        stage: the stage to take of the latter.

    Raises:
        ValueError: if the clean images are needed, and not there.
    """
    if outputs is not None and "index" in copies:
        return outputs.get(copies["index"])
    taught = teacher(training_copies.clean(copies), training=False)
    return tf.stop_gradient(taught if stage is None else taught[stage])


def digest_network(network):
    """Returns the SHA-256 of what a network computes: architecture, normalisation and weights."""
    digest = hashlib.sha256()
    scaling = [
        [layer.scale, layer.offset]
        for layer in network.layers
        if isinstance(layer, keras.layers.Rescaling)
    ]
    precision = keras.config.dtype_policy().name
    digest.update(repr((network.name, network.input_shape, precision, scaling)).encode())
    for variable in network.variables:
        digest.update(np.ascontiguousarray(variable.numpy()))
    return digest.hexdigest()


def digest_images(images):
    """Returns the SHA-256 of `LabelledImages` and of how they are prepared.

    Files count by their names below a common folder, their sizes and times of change.
    """
    digest = hashlib.sha256()
    prepared = {
        field.name: getattr(images, field.name)
        for field in dataclasses.fields(images)
        if field.name not in _NOT_PIXELS
    }
    digest.update(repr(sorted(prepared.items())).encode())
    if not isinstance(images.images, list):
        digest.update(repr(images.images.shape).encode())
        digest.update(np.ascontiguousarray(images.images))
        return digest.hexdigest()
    common = os.path.commonpath([os.path.dirname(path) for path in images.images])
    for path in images.images:
        found = os.stat(path)
        name = os.path.relpath(path, common)
        digest.update(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\0".encode(errors="replace"))
    return digest.hexdigest()


class _Store:
    """The two files, of which the second one says what is good in the first."""

    def __init__(self, path, wanted):
        self.path, self.wanted = path, wanted
        self.checksums = {}
        self.row_bytes = 4 * int(np.prod(wanted["shape"][1:]))
        header = io.BytesIO()
        described = {"descr": "<f4", "fortran_order": False, "shape": tuple(wanted["shape"])}
        np.lib.format.write_array_header_1_0(header, described)
        self.header = header.getvalue()

    def find_missing(self):
        """Returns the numbers of the blocks that are not there, and says why where some were."""
        description, problem = self._read_description()
        if problem is None:
            checksums = description["checksums"]
            self.checksums, damaged = self._check(checksums)
            problem = damaged and f"{damaged} of {len(checksums)} parts are damaged"
        else:
            # Not in place: another process may be reading the old one.
            for name in (DESCRIPTION, OUTPUTS):
                (self.path / name).unlink(missing_ok=True)
        if problem:
            print(f"{self.path}: {problem}; computed anew.", flush=True)
        count = -(-self.wanted["shape"][0] // BLOCK)
        return [number for number in range(count) if str(number) not in self.checksums]

    def _read_description(self):
        """Returns what the second file says, and what is wrong with it: `None` if nothing is."""
        path = self.path / DESCRIPTION
        if not path.exists():
            return {}, "its description is missing" if (self.path / OUTPUTS).exists() else ""
        try:
            description = files.read_json(path)
            found = {name: description[name] for name in (*self.wanted, "checksums")}
            found["checksums"] = {str(k): int(v) for k, v in found["checksums"].items()}
        except (ValueError, TypeError, KeyError, AttributeError):
            return {}, "its description is damaged"
        if any(found[name] != self.wanted[name] for name in ("network", "stage")):
            return {}, "it belongs to another network"
        if any(found[name] != self.wanted[name] for name in self.wanted):
            return {}, "it belongs to other images, or to another preparation of them"
        return found, None

    def _check(self, checksums):
        """Returns the checksums that hold, and the number of the others."""
        held = {}
        with contextlib.suppress(OSError), open(self.path / OUTPUTS, "rb") as file:
            if file.read(len(self.header)) == self.header:
                for number, checksum in checksums.items():
                    file.seek(self._start(int(number)))
                    if zlib.crc32(file.read(self._length(int(number)))) == checksum:
                        held[number] = checksum
        return held, len(checksums) - len(held)

    def _start(self, number):
        return len(self.header) + number * BLOCK * self.row_bytes

    def _length(self, number):
        return min(BLOCK, self.wanted["shape"][0] - number * BLOCK) * self.row_bytes

    def fill(self, numbers, images, compute, batch_size):
        """Computes blocks and writes them, each with its checksum once it is on the disk."""
        path = self.path / OUTPUTS
        total = sum(self._length(number) for number in numbers) // self.row_bytes
        bar = progress.track(total=total, description=f"Teacher's {self.wanted['stage']}")
        with files.naming(path), bar, open(path, "r+b" if path.exists() else "w+b") as file:
            file.write(self.header)
            for number in numbers:
                block = self._compute(number, images, compute, batch_size, bar)
                file.seek(self._start(number))
                file.write(block)
                file.flush()
                os.fsync(file.fileno())
                self.checksums[str(number)] = zlib.crc32(block)
                described = self.wanted | {"checksums": self.checksums}
                files.write_text(self.path / DESCRIPTION, json.dumps(described) + "\n")
            file.truncate(self._start(0) + self.wanted["shape"][0] * self.row_bytes)

    def _compute(self, number, images, compute, batch_size, bar):
        first = number * BLOCK
        last = min(first + BLOCK, len(images))
        block = np.full([last - first, *self.wanted["shape"][1:]], np.nan, "<f4")
        for batch in images.take(np.arange(first, last)).one_pass(batch_size):
            block[batch["index"].numpy()] = compute(batch["image"], training=False).numpy()
            bar.update(len(batch["image"]))
        return np.ascontiguousarray(block).data.cast("B")


@contextlib.contextmanager
def _wait_for(path):
    """Holds a folder's lock, however long another process has it."""
    told = False
    while True:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locks.hold(path))
            except locks.InUseError as error:
                if not told:
                    print(f"Waiting: {error}", flush=True)
                told = True
            else:
                yield
                return
        time.sleep(_PATIENCE)
