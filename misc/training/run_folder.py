"""The folder of one training run: its settings, checkpoints, best weights and history."""

import json
import os
import pathlib
import re
import shutil

import tensorflow as tf

from misc.images import files
from misc.training import settings as settings_of_flags
from misc.training import weight_files

ARGUMENTS = "arguments.json"
METADATA = "metadata"
HISTORY = "history.jsonl"
CHECKPOINT = "model.ckpt"
# Folder of the best weights by a method's objective.
BEST = "best"


class RunFolder:
    """Keeps what a run writes under `--train_path`, and finds it again to go on from there."""

    def __init__(self, path, method, max_to_keep, is_chief=True, weights_path=None):
        """Prepares the folder, which is made if missing.

        Args:
            path: the run's folder.
            method: `Method` whose state is saved.
            max_to_keep: number of newest checkpoints that stay.
            is_chief: whether this process is the one that writes; the others take part in saving
                by writing to a folder that they remove again.
            weights_path: `None`, or a weight file that holds the weights of the last save; those of
                the best validation go to NAME_best.h5 beside it.
        """
        self.path = pathlib.Path(path)
        self.method = method
        self.is_chief = is_chief
        self._weights_path = pathlib.Path(weights_path) if weights_path else None
        self.path.mkdir(parents=True, exist_ok=True)
        self._folder = self.path if is_chief else self.path / f".worker_{os.getpid()}"
        self._latest = self._manage("", max_to_keep)
        self._bests = {name: self._manage(name, 1) for name in method.bests}

    def _manage(self, name, max_to_keep):
        return tf.train.CheckpointManager(
            self.method.checkpoint(), self._folder / name, max_to_keep, checkpoint_name=CHECKPOINT
        )

    def latest_checkpoint(self):
        """Returns the newest checkpoint's path, or `None`."""
        return tf.train.latest_checkpoint(self.path)

    def check_settings(self, settings, changeable):
        """Raises ValueError if the folder holds checkpoints of a run with other settings.

        Those in `changeable` may differ between a run and its continuation.
        """
        if self.latest_checkpoint() is None:
            return
        before = settings_of_flags.values_before() | read_arguments(self.path)
        differing = [
            f"  --{name}: {before[name]!r} there, {value!r} now"
            for name, value in settings.items()
            # Flags that take a list now took one value once.
            if name in before
            and name not in changeable
            and value not in (before[name], [before[name]])
        ]
        if differing:
            raise ValueError(
                f"--train_path={self.path} holds checkpoints of a run with other settings:\n"
                + "\n".join(differing)
                + "\nGive the settings of that run to continue it, or another --train_path."
            )

    def write_arguments(self, settings, metadata=None):
        """Saves {flag: value} and {name: JSON value} that trained models get as `metadata`."""
        if self.is_chief:
            content = settings | ({METADATA: metadata} if metadata else {})
            files.write_json(self.path / ARGUMENTS, content)

    def save(self, step):
        """Saves everything that the run needs to continue at `step`, as model.ckpt-STEP."""
        self.method.step.assign(step)
        # First, so that a run that is killed in between still has to write it when it goes on.
        self._write_weights(self._weights_path, step)
        path = self._latest.save(checkpoint_number=step)
        self._remove_copy(self._latest)
        return path

    def save_best(self, step, results, name):
        """Saves the state as the best of that name, with the validation results beside it."""
        self.method.step.assign(step)
        if self._weights_path:
            stem = weight_files.stem(self._weights_path)
            file = self._weights_path.name.replace(stem, f"{stem}_{name}", 1)
            self._write_weights(self._weights_path.with_name(file), step)
        path = self._bests[name].save(checkpoint_number=step)
        if self.is_chief:
            files.write_json(self.path / name / "results.json", {"step": step, **results})
            arguments = self.path / ARGUMENTS
            files.write_json(self.path / name / ARGUMENTS, json.loads(arguments.read_text()))
        self._remove_copy(self._bests[name])
        return path

    def _write_weights(self, path, step):
        if path and self.is_chief:
            with self.method.averaged_weights():
                weight_files.write(path, self.method.networks, step)

    def append_history(self, step, scalars):
        """Appends one line {"step": ..., name: value} to history.jsonl."""
        if self.is_chief:
            with open(self.path / HISTORY, "a") as file:
                file.write(json.dumps({"step": step, **scalars}) + "\n")

    def _remove_copy(self, manager):
        if not self.is_chief:
            shutil.rmtree(manager.directory, ignore_errors=True)
            pathlib.Path(manager.directory).mkdir(parents=True, exist_ok=True)

    def close(self):
        """Removes what a process that is not the chief left behind."""
        if not self.is_chief:
            shutil.rmtree(self._folder, ignore_errors=True)


def read_history(path):
    """Returns the run's history as a list of {"step": ..., name: value}, each step once, sorted.

    Steps that were run twice, because a run was killed after its last save, appear as they were
    run last.
    """
    rows = {}
    for line in (pathlib.Path(path) / HISTORY).read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue  # the line that a killed run did not finish
        rows.setdefault((row["step"], frozenset(row)), {}).update(row)
    return sorted(rows.values(), key=lambda row: row["step"])


def read_arguments(restore_path):
    """Returns the flags of the run that a checkpoint belongs to, {} where none are stored.

    It is a checkpoint `FOLDER/model.ckpt-STEP`, or its folder; or a weight file `PATH/NAME.h5` or
    `PATH/NAME_best.h5`, whose run is in `PATH/NAME`.
    """
    path = pathlib.Path(restore_path)
    folders = [path if path.is_dir() else path.parent]
    if weight_files.is_weight_file(path):
        stem = weight_files.stem(path)
        names = dict.fromkeys([stem, re.sub(r"_best\w*$", "", stem)])
        folders = [path.with_name(name) for name in names] + folders
    for folder in folders:
        file = folder / ARGUMENTS
        if file.exists():
            return json.loads(file.read_text())
    return {}


def read_metadata(restore_path):
    """Returns what the run of a checkpoint kept of its data, {} where nothing is stored."""
    return read_arguments(restore_path).get(METADATA, {})


def paths_of_run(train_path, weight_filename):
    """Returns the folder of a run, and the path of its weight file or `None`.

    A run that has one keeps its checkpoints in a folder of that name under `train_path`, so that
    several runs can share it. A name that is none of a weight file is a ValueError.
    """
    if not weight_filename:
        return pathlib.Path(train_path), None
    weight_files.check_name(weight_filename)
    path = pathlib.Path(train_path) / weight_filename
    return path.with_name(weight_files.stem(path)), path


def find_checkpoint(restore_path, step=None, flag="restore_path"):
    """Returns the path of a checkpoint without its .index, or of a weight file.

    Args:
        restore_path: `FOLDER/model.ckpt-STEP`, the same with .index, or a folder: the newest one;
            or a weight file NAME.h5.
        step: the step to take from a folder, or that the checkpoint must have.
        flag: name of the flag that the path comes from, for messages.

    Raises:
        FileNotFoundError: if there is none; lists those that are there.
    """
    path = pathlib.Path(restore_path)
    if weight_files.is_weight_file(path) and not path.is_dir():
        return _find_weight_file(path, step, flag)
    if path.is_dir():
        if step is not None:
            path = path / f"{CHECKPOINT}-{step}"
        else:
            path = pathlib.Path(tf.train.latest_checkpoint(path) or path / CHECKPOINT)
    if path.suffix == ".index":
        path = path.with_suffix("")
    if not path.with_name(path.name + ".index").exists():
        there = sorted(p.with_suffix("").name for p in path.parent.glob(f"{CHECKPOINT}-*.index"))
        raise FileNotFoundError(
            f"--{flag}={restore_path} is no checkpoint: {path}.index is missing. "
            f"Found in {path.parent}: {', '.join(there) or 'no checkpoint'}"
        )
    if step is not None and not path.name.endswith(f"-{step}"):
        raise FileNotFoundError(
            f"--{flag}={restore_path} is not the checkpoint of step {step}, "
            "which --restore_global_step asks for."
        )
    return str(path)


def _find_weight_file(path, step, flag):
    if not path.is_file():
        there = sorted(p.name for p in path.parent.glob(f"*{weight_files.SUFFIX}"))
        raise FileNotFoundError(
            f"--{flag}={path} does not exist. Found in {path.parent}: "
            f"{', '.join(there) or 'no weight file'}"
        )
    if step is not None:
        raise FileNotFoundError(
            f"--{flag}={path} is a weight file, which holds one step; "
            "--restore_global_step is for folders of checkpoints."
        )
    return str(path)
