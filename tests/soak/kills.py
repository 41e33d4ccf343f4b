"""Starts a command, ends it at random moments, and starts it again until it is done."""

import collections
import contextlib
import dataclasses
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import time
import typing

from tests import commands
from tests.soak import contents

# How a process is ended, and how often of 20: with which signals, one after the other, and whether
# all its processes get them, as by Ctrl-C, or the first one alone.
HITS = (
    (8, (signal.SIGKILL,), True),
    (4, (signal.SIGKILL,), False),
    (2, (signal.SIGTERM,), False),
    (1, (signal.SIGTERM,), True),
    (2, (signal.SIGINT,), True),
    (1, (signal.SIGTERM, signal.SIGKILL), True),
    (1, (signal.SIGTERM, signal.SIGTERM), False),
    (1, (signal.SIGINT, signal.SIGINT), True),
)
# Before that, a process has not begun to be the command.
EARLIEST = 0.3
# Of the moments, how many lie where the command writes; and how many processes that ended leave a
# newest checkpoint that gets damaged.
WHILE_IT_WRITES = 0.6
DAMAGED = 0.15
PATIENCE = 300


@dataclasses.dataclass(frozen=True)
class Subject:
    """A command that is killed.

    Attributes:
        command: function of {name: input} and of the folder for results that returns what follows
            `python`.
        share: part of all kills.
        is_training: whether it says from which checkpoint it goes on, and whether the newest one
            gets damaged.
        pieces: number of parts of its duration, within the length of one of which it is killed.
        first: pattern of the results whose first one shows that the work has begun.
        kept: pattern of results that are never written twice, or "".
    """

    command: typing.Callable
    share: int
    is_training: bool = False
    pieces: int = 1
    first: str = "[!.]*"
    kept: str = ""


@dataclasses.dataclass
class Figures:
    """What came of it.

    Attributes:
        seconds: how long the command takes undisturbed.
        kills: number of kills.
        hits: {signals: number of kills with them}.
        damaged: number of checkpoints that were damaged.
        resumes: number of starts after one.
        runs: number of folders that were finished in spite of kills.
        identical: how many of them equal that of the undisturbed run.
        files: number of files, checkpoints, lines and points in them.
        broken: how many of those cannot be read.
        leftovers: how many the undisturbed run does not have, and processes that stayed.
        faults: list of texts, all that is wrong.
    """

    seconds: float = 0.0
    kills: int = 0
    hits: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    damaged: int = 0
    resumes: int = 0
    runs: int = 0
    identical: int = 0
    files: int = 0
    broken: int = 0
    leftovers: int = 0
    faults: list = dataclasses.field(default_factory=list)


class Attack:
    """Kills one subject again and again."""

    def __init__(self, name, subject, inputs, folder, seed):
        """Runs the command undisturbed, to know what it leaves and how long it takes.

        Args:
            name: the subject's name.
            subject: `Subject`.
            inputs: {name: input} for its command.
            folder: empty folder to work in.
            seed: seed of the moments.
        """
        self.figures = Figures()
        self._name, self._subject, self._folder = name, subject, folder
        self._random = random.Random(f"{seed} {name}")
        # The same place for all runs: some files hold paths.
        self._work = folder / "work"
        self._command = subject.command(inputs, self._work / "results")
        self._seconds, self._writes_after = self._run_undisturbed()
        self.figures.seconds = round(self._seconds, 1)
        self._expected = contents.read(self._work)

    def run(self, kills):
        """Kills so often, and goes on until the last run is done; returns the `Figures`."""
        while self.figures.kills < kills:
            self._begin()
            self._told, self._stops, self._sessions = [], set(), []
            done = False
            while not done:
                done = self._run_once(kills)
            self._compare()
        return self.figures

    def _begin(self):
        shutil.rmtree(self._work, ignore_errors=True)
        for name in ("results", "cache", "temporary"):
            (self._work / name).mkdir(parents=True)
        (self._work / "results").rmdir()

    def _start(self):
        places = {"XDG_CACHE_HOME": "cache", "TMPDIR": "temporary"}
        # A pipe would break for what outlives the first process.
        with open(self._folder / "output.txt", "w") as output:
            return commands.start(
                *self._command,
                environment={name: str(self._work / place) for name, place in places.items()},
                start_new_session=True,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def _output(self):
        return (self._folder / "output.txt").read_text()

    def _run_undisturbed(self):
        self._begin()
        started, first = time.monotonic(), None
        process = self._start()
        while process.poll() is None:
            time.sleep(0.01)
            if first is None and any((self._work / "results").rglob(self._subject.first)):
                first = time.monotonic() - started
        assert process.returncode == 0, self._output()
        return time.monotonic() - started, first

    def _run_once(self, kills):
        """Starts the command, and kills it unless that was done often enough; whether it ended."""
        before = contents.steps_of_checkpoints(self._work) if self._subject.is_training else {}
        kept = self._subject.kept and list(self._work.rglob(self._subject.kept))
        written = {path: path.stat().st_mtime_ns for path in kept}
        remains = self._find_remains()
        alive = any(map(_members, self._sessions))
        self.figures.resumes += bool(self._sessions)
        process = self._start()
        self._sessions.append(process.pid)
        if self.figures.kills < kills and self._wait(process, self._draw_moment()):
            self._hit(process, remains)
            return False
        if not self._wait(process, PATIENCE + 10 * self._seconds):
            self._check_left()
            if alive and process.returncode == 1 and "is in use by" in self._output():
                return False  # it noticed what the last one had started
            self._check_end(process, before)
            rewritten = [p for p, t in written.items() if p.exists() and p.stat().st_mtime_ns != t]
            if rewritten:
                self._blame(f"{len(rewritten)} results were written again, such as {rewritten[0]}")
            return True
        self._blame("it does not end")
        self._end_all()
        return True

    def _draw_moment(self):
        """Returns after how many seconds to kill."""
        longest = self._seconds / self._subject.pieces
        writes = self._random.random() < WHILE_IT_WRITES and self._subject.pieces == 1
        return self._random.uniform(self._writes_after if writes else EARLIEST, longest)

    def _hit(self, process, remains):
        """Ends a process that runs; `remains` lay there when it began."""
        figures, choose = self.figures, self._random
        _, signals, is_for_all = choose.choices(HITS, [weight for weight, *_ in HITS])[0]
        sent = []
        for number in signals:
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if is_for_all else os.kill)(process.pid, number)
            sent.append(number.name)
            self._wait(process, choose.uniform(0, 1) if number != signals[-1] else PATIENCE)
        if process.poll() is None:
            self._blame(f"it does not end after {'+'.join(sent)}")
            self._end_all()
            process.wait()
        name = "+".join(sent) + (" to all" if is_for_all else "")
        figures.kills += 1
        figures.hits[name] += 1
        self._told.append(f"{name} -> {process.returncode}")
        output = self._output()
        is_stop = len(signals) == 1 and signals[0] != signal.SIGKILL
        # Python ends without handlers of signals, so that one may come when all is done.
        is_dead = process.returncode in {-number for number in signals}
        is_well = process.returncode in {0, *(128 + number for number in signals)}
        is_well |= is_dead and (not is_stop or self._is_finished())
        if not is_well or "Traceback" in output:
            self._blame(f"after {name} it ended with {process.returncode}: {output[-2000:]}")
        if is_stop and self._find_remains() - remains:
            self._blame(f"after {name} it left {sorted(self._find_remains() - remains)[:5]}")
        if signals[-1] != signal.SIGKILL:
            # It saved its state; a kill would have found it somewhere between two checkpoints.
            self._stops |= {
                (path.relative_to(self._work).as_posix(), step)
                for path, steps in contents.steps_of_checkpoints(self._work).items()
                for step in steps
            }
        if not is_for_all and choose.random() < 0.5:
            self._check_left()
        if self._subject.is_training and choose.random() < DAMAGED:
            self._damage()

    def _find_remains(self):
        """Returns the names of what only a process at work has."""
        patterns = (".*", "*_temp*", "temporary/*")
        found = {path for pattern in patterns for path in self._work.rglob(pattern)}
        names = {path.relative_to(self._work).as_posix() for path in found}
        known = {name for name, *_ in self._expected}
        return {name for name in names - known if not contents.IGNORED.fullmatch(name)}

    def _damage(self):
        """Damages the newest checkpoint of a run that has an older one."""
        for path, steps in contents.steps_of_checkpoints(self._work).items():
            if len(steps) < 2:
                continue
            index = path / f"model.ckpt-{steps[-1]}.index"
            data = index.with_suffix(".data-00000-of-00001")
            file = self._random.choice([index, data, path / "checkpoint"])
            how = self._random.choice(["cut", "removed"])
            if how == "removed":
                file.unlink(missing_ok=True)
            elif file.exists():
                os.truncate(file, file.stat().st_size // 2)
            self.figures.damaged += 1
            self._told.append(f"{file.name} {how}")

    def _check_end(self, process, before):
        """Blames a start for its status, and for not going on where it could."""
        output = self._output()
        # Some commands refuse to do again what is done.
        if process.returncode and not (" exists" in output and self._is_finished()):
            self._blame(f"started again it ended with {process.returncode}: {output[-2000:]}")
        for path, steps in before.items():
            found = re.search(rf"Going on from {re.escape(str(path))}/model\.ckpt-(\d+)", output)
            # The newest may be damaged, and the one before it half removed.
            if len(steps) > 2 and (found is None or int(found[1]) < steps[-3]):
                self._blame(f"steps {steps} were there, it went on from {found and found[1]}")

    def _check_left(self):
        """Waits for what the command started; blames it for what does not end by itself."""
        deadline = time.monotonic() + 60
        while any(map(_members, self._sessions)) and time.monotonic() < deadline:
            time.sleep(0.05)
        for command in self._end_all():
            self.figures.leftovers += 1
            self._blame(f"it left a process behind: {command}")

    def _end_all(self):
        """Kills all that the command started; returns the list of their command lines."""
        found = {k: v for session in self._sessions for k, v in _members(session).items()}
        for number in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        return list(found.values())

    def _wait(self, process, seconds):
        """Returns whether the process still runs after so many seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(seconds, EARLIEST))
        return process.poll() is None

    def _is_finished(self):
        return contents.read(self._work) == self._expected

    def _compare(self):
        """Compares a finished run with the undisturbed one."""
        figures, found, expected = self.figures, contents.read(self._work), self._expected
        broken = {key for key, value in found.items() if value.startswith(contents.BROKEN)}
        differing = {k for k in expected.keys() & found.keys() - broken if expected[k] != found[k]}
        missing = {k for k in expected.keys() - found.keys() if not self._made_room(k, found)}
        more = {key for key in found.keys() - expected.keys() if not self._is_of_stop(key)}
        figures.runs += 1
        figures.files += len(found)
        figures.broken += len(broken)
        figures.leftovers += len(more)
        figures.identical += not (broken or differing or missing)
        kinds = {"broken": broken, "different": differing, "missing": missing, "too much": more}
        for kind, keys in kinds.items():
            for key in sorted(keys, key=str)[:5]:
                self._blame(f"{kind} ({len(keys)} in all): {key} {found.get(key, '')}")

    def _is_of_stop(self, key):
        """Whether a signal let the run save or log at this step, which it would not have done."""
        name, step, _ = key
        return bool({(name, step), (str(pathlib.PurePath(name).parent), step)} & self._stops)

    def _made_room(self, key, found):
        """Whether a checkpoint was removed for those of signals: all others are newer."""
        name, step, _ = key
        run, _, number = name.rpartition("-")
        others = [other for other in found if other[0] == f"{run}-{other[1]}"]
        return (
            number == str(step)
            and any(map(self._is_of_stop, others))
            and step < min(other[1] for other in others)
        )

    def _blame(self, text):
        told = ", ".join(self._told)
        self.figures.faults.append(f"{self._name}, run {self.figures.runs} [{told}]: {text}")


def _members(session):
    """Returns {process number: command line} of what runs in a session."""
    found = {}
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, *numbers = (path / "stat").read_text().rpartition(")")[2].split()
            if state not in "ZX" and int(numbers[2]) == session:
                found[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")
    return found
