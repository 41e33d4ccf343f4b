"""Ends a command at random moments, and starts it again until it is done."""

import collections
import dataclasses
import pathlib
import random
import re
import shutil
import signal
import time
import typing

from tests.soak import contents
from tests.soak.processes import EARLIEST, Processes

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
# Of the moments, how many lie where the command writes; and after how many of the kills the newest
# checkpoint gets damaged.
WHILE_IT_WRITES = 0.6
DAMAGED = 0.2
# Names of what only a process at work has.
HIDDEN = re.compile(r"(?:^|/)\.|_temp|^temporary/.")
# Seconds for what happens at once on an idle machine.
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
        kept: pattern of results that are never written twice, or "".
    """

    command: typing.Callable
    share: int
    is_training: bool = False
    pieces: int = 1
    kept: str = ""


@dataclasses.dataclass
class Figures:
    """What came of it.

    Attributes:
        seconds: how long the command takes undisturbed.
        kills: number of kills.
        hits: {signals: number of kills with them}.
        damaged: number of checkpoints that were damaged.
        resumes: number of starts after a kill.
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
        self._results = self._work / "results"
        self._command = subject.command(inputs, self._results)
        self._begin()
        self._seconds, self._writes_after = self._run_undisturbed()
        self.figures.seconds = round(self._seconds, 1)
        self._expected = contents.read(self._work)

    def run(self, kills):
        """Kills so often, and goes on until the last run is done; returns the `Figures`."""
        while self.figures.kills < kills:
            self._begin()
            done = False
            while not done:
                done = self._run_once(kills)
                self.figures.resumes += not done
            self._compare()
        return self.figures

    def _begin(self):
        """Clears the place for another run."""
        shutil.rmtree(self._work, ignore_errors=True)
        places = {"XDG_CACHE_HOME": self._work / "cache", "TMPDIR": self._work / "temporary"}
        for place in places.values():
            place.mkdir(parents=True)
        environment = {name: str(place) for name, place in places.items()}
        self._processes = Processes(self._command, environment, self._folder / "output.txt")
        self._story, self._stops = [], set()

    def _run_undisturbed(self):
        """Returns how long the command takes, and after how long its results begin to change."""
        first, shown = None, "history.jsonl" if self._subject.is_training else ""
        started = time.monotonic()
        self._processes.start()
        while self._processes.first.poll() is None:
            time.sleep(0.01)
            names = contents.list_names(self._results) if first is None else ()
            if any(name.endswith(shown) and not HIDDEN.search(name) for name in names):
                first = time.monotonic() - started
        assert self._processes.first.returncode == 0, self._processes.output()
        return time.monotonic() - started, first

    def _run_once(self, kills):
        """Starts the command, and kills it unless that was done often enough; whether it ended."""
        before = contents.steps_of_checkpoints(self._work) if self._subject.is_training else {}
        kept = self._results.rglob(self._subject.kept) if self._subject.kept else ()
        written = {path: path.stat().st_mtime_ns for path in kept}
        remains = self._find_remains()
        outlived = bool(self._processes.find())
        self._processes.start()
        if self.figures.kills < kills and self._processes.runs_after(self._draw_moment()):
            self._kill(remains)
            return False
        if self._processes.runs_after(PATIENCE + 10 * self._seconds):
            self._blame("it does not end")
        self._check_processes()
        if outlived and "is in use by" in self._processes.output():
            return False  # it noticed what the last one had started
        self._check_end(before)
        again = [p for p, time in written.items() if p.exists() and p.stat().st_mtime_ns != time]
        if again:
            self._blame(f"{len(again)} results were written again, such as {again[0]}")
        return True

    def _draw_moment(self):
        """Returns after how many seconds to kill."""
        longest = self._seconds / self._subject.pieces
        writes = self._random.random() < WHILE_IT_WRITES and self._subject.pieces == 1
        return self._random.uniform(self._writes_after if writes else EARLIEST, longest)

    def _kill(self, remains):
        """Ends a process that runs; `remains` lay there when it began."""
        figures, processes = self.figures, self._processes
        _, signals, is_for_all = self._random.choices(HITS, [weight for weight, *_ in HITS])[0]
        *earlier, last = signals
        for number in earlier:
            processes.send(number, is_for_all)
            processes.runs_after(self._random.uniform(0, 1))
        processes.send(last, is_for_all)
        processes.runs_after(PATIENCE)
        status = processes.first.poll()
        name = "+".join(number.name for number in signals) + (" to all" if is_for_all else "")
        figures.kills += 1
        figures.hits[name] += 1
        self._story.append(f"{name} -> {status}")
        if status is None:
            self._blame("it does not end")
            processes.end_all()
        self._check_status(status, signals, remains)
        if signals[0] != signal.SIGKILL:
            # It may have saved its state where the undisturbed run does not.
            self._stops |= {
                (path.relative_to(self._work).as_posix(), step)
                for path, steps in contents.steps_of_checkpoints(self._work).items()
                for step in steps
            }
        if not is_for_all and self._random.random() < 0.5:
            self._check_processes()
        if self._subject.is_training and self._random.random() < DAMAGED:
            self._damage()

    def _check_status(self, status, signals, remains):
        """Blames a process for how it ended, and for what it left in spite of a gentle signal."""
        output = self._processes.output()
        is_stop = len(signals) == 1 and signals[0] != signal.SIGKILL
        # Python ends without handlers of signals, so that one may come when all is done.
        is_dead = status in {-number for number in signals}
        is_well = is_dead and (not is_stop or contents.read(self._work) == self._expected)
        is_well |= status in {0, *(128 + number for number in signals)}
        if not (is_well or self._refuses_to_repeat(output)):
            self._blame(f"it ended with {status}: {output[-2000:]}")
        elif "Traceback" in output:
            self._blame(output[-2000:])
        if is_stop and (more := self._find_remains() - remains):
            self._blame(f"it left {sorted(more)[:5]}")

    def _find_remains(self):
        """Returns the names of what only a process at work has, and the undisturbed run had not."""
        known = {name for name, *_ in self._expected}
        return {
            name
            for name in contents.list_names(self._work)
            if HIDDEN.search(name) and name not in known and not contents.IGNORED.fullmatch(name)
        }

    def _damage(self):
        """Damages the newest checkpoint of a run that has an older one."""
        for path, steps in contents.steps_of_checkpoints(self._work).items():
            if len(steps) < 2:
                continue
            index = path / f"model.ckpt-{steps[-1]}.index"
            file = self._random.choice([index, index.with_suffix(".data-00000-of-00001")])
            how = self._random.choice(["cut", "removed"])
            if how == "removed":
                file.unlink()
            else:
                file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
            self.figures.damaged += 1
            self._story.append(f"{file.name} {how}")

    def _check_end(self, before):
        """Blames a start for its status, and for not going on where it could."""
        status, output = self._processes.first.returncode, self._processes.output()
        if status and not self._refuses_to_repeat(output):
            self._blame(f"started again it ended with {status}: {output[-2000:]}")
        for path, steps in before.items():
            found = re.search(rf"Going on from {re.escape(str(path))}/model\.ckpt-(\d+)", output)
            # The newest may be damaged, and the one before it half removed.
            if len(steps) > 2 and (found is None or int(found[1]) < steps[-3]):
                self._blame(f"steps {steps} were there, it went on from {found and found[1]}")

    def _refuses_to_repeat(self, output):
        """Returns whether a command only says that all was done before it began."""
        return " exists" in output and contents.read(self._work) == self._expected

    def _check_processes(self):
        """Waits for what the command started; blames it for what does not end by itself."""
        deadline = time.monotonic() + PATIENCE
        while self._processes.find() and time.monotonic() < deadline:
            time.sleep(0.05)
        for command in self._processes.find().values():
            self.figures.leftovers += 1
            self._blame(f"it left a process behind: {command}")
        self._processes.end_all()

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
        story = ", ".join(self._story)
        self.figures.faults.append(f"{self._name}, run {self.figures.runs} [{story}]: {text}")
