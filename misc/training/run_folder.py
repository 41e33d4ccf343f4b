"""The folder of one training run: its settings, checkpoints, best weights and history."""

import glob
import json
import pathlib
import re
import shutil
import tempfile

import tensorflow as tf

from misc.images import files
from misc.training import checkpoints, epochs, summaries, weight_files
from misc.training import settings as settings_of_flags

ARGUMENTS = "arguments.json"
METADATA = "metadata"
# In arguments.json of a run that has no checkpoint yet.
UNSAVED = "unsaved"
HISTORY = "history.jsonl"
# Folder of the best weights by a method's objective.
BEST = "best"
# Folders of processes that are not the chief.
_WORKER = ".worker_"


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
        self._max_to_keep = max_to_keep
        self._weights_path = pathlib.Path(weights_path) if weights_path else None
        self._checkpoint = method.checkpoint()
        self._searched, self._latest = False, None
        self._arguments = None
        self.path.mkdir(parents=True, exist_ok=True)

    def latest_checkpoint(self):
        """Returns the path of the newest whole checkpoint, or `None` where nothing was saved yet.

        Raises:
            ValueError: if the folder holds a run, but no whole checkpoint; names what is there.
            FileExistsError: if there is a weight file of another run.
        """
        if not self._searched:
            self._searched, self._latest = True, self._find()
        return self._latest and str(self._latest)

    def _find(self):
        found, damaged = checkpoints.find_newest(self.path)
        if found and damaged:
            self._say(f"{self.path}: {damaged}; {found.name} is the newest whole one")
        if found:
            return found
        if read_arguments(self.path).get(UNSAVED):
            self._say(f"{self.path}: a run was ended here before its first checkpoint")
            return None
        names = (ARGUMENTS, HISTORY, checkpoints.STATE, *self.method.bests)
        traces = [damaged, *(name for name in names if (self.path / name).exists())]
        if any(traces):
            raise ValueError(
                f"{self.path} holds a run, but no whole checkpoint: "
                f"{'; '.join(filter(None, traces))}. Nothing was changed. Put back what is missing,"
                f" or give another folder{self._describe_bests()}."
            )
        for path in self._weight_files():
            if path.exists():
                raise FileExistsError(
                    f"{path} exists, but not the run that wrote it, {self.path}: give another "
                    "--weight_filename or --train_path."
                )
        return None

    def _describe_bests(self):
        found = [checkpoints.find_newest(self.path / name)[0] for name in self.method.bests]
        found = [f"--restore_path={path}" for path in found if path]
        return f", where a run may begin with {' or '.join(found)}" if found else ""

    def _say(self, text):
        if self.is_chief:
            print(text, flush=True)

    def check_settings(self, settings, changeable):
        """Raises ValueError if the folder holds checkpoints of a run with other settings.

        Those in `changeable` may differ between a run and its continuation.
        """
        if self.latest_checkpoint() is None:
            return
        stored = read_arguments(self.path)
        if not stored:
            raise ValueError(
                f"--train_path={self.path} holds checkpoints, but no {ARGUMENTS} with their "
                f"settings. Put it back, such as the copy in {BEST}/, or start another run from "
                f"them: --restore_path={self.latest_checkpoint()}, with another --train_path."
            )
        before = settings_of_flags.values_before() | stored
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
        self._arguments = settings | ({METADATA: metadata} if metadata else {})
        self._write_arguments(self.path)

    def _write_arguments(self, folder):
        if self.is_chief:
            # A run that was killed before it saved anything may begin again.
            unsaved = {} if folder != self.path or self.latest_checkpoint() else {UNSAVED: True}
            files.write_json(folder / ARGUMENTS, self._arguments | unsaved)

    def tidy(self, step):
        """Makes the folder what it was when `step` was saved, or before anything was.

        A process that was killed may have come further, or have left unfinished files. Bests that
        are no more, or are another run's, are forgotten, so that the next validation makes new
        ones.
        """
        for name in self.method.bests:
            found, damaged = checkpoints.find_newest(self.path / name)
            if found is None and self.method.forget_best(name) and self.latest_checkpoint():
                damaged = damaged or "its checkpoint is missing"
                self._say(f"{self.path / name}: {damaged}; the next validation makes a new one")
        if self.is_chief:
            self._sweep()
            last = step if self.latest_checkpoint() else -1
            _cut_history(self.path / HISTORY, last)
            epochs.cut(self.path / epochs.FILE, last)
            summaries.cut(self.path, last)
            self._remove_old(step)

    def _sweep(self):
        """Removes what killed processes left, also those of versions with names of their own."""
        folders = [self.path, *(self.path / name for name in self.method.bests)]
        files.sweep([*folders, *{file.parent for file in self._weight_files()}])
        written = [folder / name for folder in folders for name in (ARGUMENTS, "results.json")]
        for file in (*written, *self._weight_files()):
            for left in file.parent.glob(f".{glob.escape(file.name)}.????????.tmp"):
                shutil.rmtree(left)
        for folder in folders:
            checkpoints.sweep(folder)
        for left in self.path.glob(f"{_WORKER}*"):
            shutil.rmtree(left)

    def save(self, step):
        """Saves everything that the run needs to continue at `step`, as model.ckpt-STEP.

        Raises:
            ArithmeticError: if a value is not finite; nothing is saved then.
        """
        self.method.step.assign(step)
        self.method.check_finite(step)
        # First, so that a run that is killed in between still has to write it when it goes on.
        self._write_weights(self._weights_path, step)
        is_first = self._latest is None
        self._searched, self._latest = True, self._write_checkpoint(self.path, step)
        if is_first and self._arguments is not None:
            self._write_arguments(self.path)
        self._remove_old(step)
        return str(self._latest)

    def _remove_old(self, step):
        # What is newer is damaged, and stays until the run comes there.
        if self.is_chief:
            steps = [found for found in checkpoints.list_steps(self.path) if found <= step]
            checkpoints.remove(self.path, steps[self._max_to_keep :])

    def save_best(self, step, results, name):
        """Saves the state as the best of that name, with the validation results beside it.

        Raises:
            ArithmeticError: if a value is not finite; nothing is saved then.
        """
        self.method.step.assign(step)
        self.method.check_finite(step)
        if self._weights_path:
            self._write_weights(self._weight_file(name), step)
        folder = self.path / name
        path = self._write_checkpoint(folder, step)
        if self.is_chief:
            files.write_json(folder / "results.json", {"step": step, **results})
            self._write_arguments(folder)
            checkpoints.remove(folder, set(checkpoints.list_steps(folder)) - {step})
        return str(path)

    def _write_checkpoint(self, folder, step):
        if self.is_chief:
            return checkpoints.write(self._checkpoint, folder, step)
        with tempfile.TemporaryDirectory(prefix=_WORKER, dir=self.path) as temporary:
            self._checkpoint.write(str(checkpoints.path_of(temporary, step)))
        return checkpoints.path_of(folder, step)

    def _weight_file(self, name):
        stem = weight_files.stem(self._weights_path)
        file = self._weights_path.name.replace(stem, f"{stem}_{name}", 1)
        return self._weights_path.with_name(file)

    def _weight_files(self):
        if self._weights_path is None:
            return []
        return [self._weights_path, *map(self._weight_file, self.method.bests)]

    def _write_weights(self, path, step):
        if path and self.is_chief:
            with self.method.averaged_weights():
                weight_files.write(path, self.method.networks, step)

    def append_history(self, step, scalars):
        """Appends one line {"step": ..., name: value} to history.jsonl."""
        if self.is_chief:
            path = self.path / HISTORY
            with files.naming(path), open(path, "a") as file:
                file.write(json.dumps({"step": step, **scalars}) + "\n")

    def append_epoch(self, step, rows):
        """Appends the rows of a validation to epochs.csv; see `Method.epoch_rows`."""
        if self.is_chief and rows:
            epochs.append(self.path / epochs.FILE, step, rows)


def _cut_history(path, step):
    """Removes what comes after a step, and lines that a killed run did not finish."""
    if not path.exists():
        return
    lines = path.read_text(errors="replace").splitlines()
    kept = [line for line in lines if (row := _history_row(line)) and row["step"] <= step]
    if len(kept) < len(lines):
        with files.write_atomically(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in kept))


def _history_row(line):
    """Returns {"step": ..., name: value} of a line, `None` if it holds none."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None


def read_history(path):
    """Returns the run's history as a list of {"step": ..., name: value}, each step once, sorted.

    Steps that were run twice, because a run was killed after its last save, appear as they were
    run last.
    """
    rows = {}
    text = (pathlib.Path(path) / HISTORY).read_text(errors="replace")
    for row in filter(None, map(_history_row, text.splitlines())):
        rows.setdefault((row["step"], frozenset(row)), {}).update(row)
    return sorted(rows.values(), key=lambda row: row["step"])


def read_arguments(restore_path):
    """Returns the flags of the run that a checkpoint belongs to, {} where none are stored.

    It is a checkpoint `FOLDER/model.ckpt-STEP`, or its folder; or a weight file `PATH/NAME.h5` or
    `PATH/NAME_best.h5`, whose run is in `PATH/NAME`, or which tells them itself. One that is no
    JSON object is a ValueError.
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
            return _read_object(file)
    is_file = weight_files.is_weight_file(path) and path.is_file()
    return weight_files.read_arguments(path) if is_file else {}


def _read_object(file):
    try:
        content = files.read_json(file)
    except ValueError as error:
        raise ValueError(f"{error}. Put back a copy of it.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} is damaged: it holds no settings. Put back a copy of it.")
    return content


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
        path = checkpoints.path_of(path, step) if step is not None else _newest(path, flag)
    if path.suffix == ".index":
        path = path.with_suffix("")
    damage = checkpoints.find_damage(path)
    if damage:
        there = [f"{checkpoints.NAME}-{found}" for found in checkpoints.list_steps(path.parent)]
        raise FileNotFoundError(
            f"--{flag}={restore_path} is no checkpoint that can be read: {damage}. "
            f"Found in {path.parent}: {', '.join(there) or 'no checkpoint'}"
        )
    if step is not None and not path.name.endswith(f"-{step}"):
        raise FileNotFoundError(
            f"--{flag}={restore_path} is not the checkpoint of step {step}, "
            "which --restore_global_step asks for."
        )
    return str(path)


def _newest(folder, flag):
    found, damaged = checkpoints.find_newest(folder)
    if found and damaged:
        print(f"{folder}: {damaged}; {found.name} is the newest whole one", flush=True)
    if found is None and not damaged:
        found = tf.train.latest_checkpoint(folder)  # other programs give them other names
    if found is None:
        raise FileNotFoundError(
            f"--{flag}={folder} holds no whole checkpoint: {damaged or 'no checkpoint is there'}"
        )
    return pathlib.Path(found)


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
