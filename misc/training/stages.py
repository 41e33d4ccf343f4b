"""Commands that run one after the other, or side by side where they do not need each other.

Each is printed so that it can be repeated by hand.
"""

import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
ROOT = pathlib.Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Stage:
    """One command of Python; it is done when its product exists, without one it always runs."""

    title: str
    command: tuple
    product: pathlib.Path | None = None

    @classmethod
    def from_text(cls, title, text, **values):
        """Returns the stage of a command line, in which {name} stands for one of the values."""
        return cls(title, tuple(part.format(**values) for part in text.split()))

    def run(self, log=None):
        """Runs the command, unless its product is there; a ValueError says that it failed.

        Args:
            log: file that takes what the command prints; `None`: it goes where ours goes.
        """
        if self.is_done:
            print(f"== {self.title}: done ({self.product})", flush=True)
            return
        if log is None:
            print(self.describe(), flush=True)
        status = _run([sys.executable, *self._command()], log)
        if status:
            # A negative one is the number of the signal that killed the process.
            raise ValueError(
                f"{self.title} ended with status {status}. The same command goes on there."
                + (f" What it said: {log}" if log else "")
            )
        if self.product and not self.product.exists():
            raise ValueError(f"{self.title} ended without {self.product}.")

    @property
    def is_done(self):
        """Whether the product is there."""
        return bool(self.product and self.product.exists())

    def describe(self):
        """Returns the title and the command as text."""
        return f"\n== {self.title}\n$ {shlex.join(['python', *self._command()])}\n"

    def _command(self):
        return [str(part) for part in self.command]


def run_side_by_side(stages, executor, folder):
    """Runs stages that do not need each other on an executor of `misc.images.engines`.

    Args:
        stages: list of `Stage`, each of which has a product.
        executor: executor; its workers see the folders of this host.
        folder: folder for what they print: a file for each.

    Raises:
        ValueError: if one fails; the others end first.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    running = {}
    try:
        for stage in stages:
            if stage.is_done:
                stage.run()
                continue
            log = folder / f"{re.sub(r'[^a-z0-9]+', '_', stage.title.lower()).strip('_')}.log"
            print(f"{stage.describe()}It writes to {log}", flush=True)
            running[executor.submit(stage.run, log)] = stage
        for future in concurrent.futures.as_completed(running):
            if future.exception() is None:
                print(f"== {running[future].title}: ended", flush=True)
            else:
                print(f"== {running[future].title}: failed", flush=True)
        for future in running:
            future.result()
    except BaseException:
        for future in running:
            future.cancel()
        _end_all()
        raise


def executable(name):
    """Returns the path of a program of this environment, or its name if it lies elsewhere."""
    path = pathlib.Path(sys.executable).parent / name
    return path if path.exists() else name


# Those that run beside each other, which no signal handler knows.
_processes = set()


def _end_all():
    """Asks the commands that run beside each other to save their state and end."""
    for process in list(_processes):
        with contextlib.suppress(ProcessLookupError):
            process.terminate()


def _run(command, log=None):
    """Runs a command to its end; returns its status.

    A signal that asks this process to end goes to the command, which may save its state first, and
    then does here what it would have done without. When this process is killed, so is the command.
    """
    if log is not None:
        return _run_in_thread(command, log)
    process, caught = None, []

    def pass_on(number, frame):
        del frame
        caught.append(number)
        if process:
            process.send_signal(signal.SIGTERM)

    before = {n: signal.signal(n, pass_on) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        process = _start(command)
        if caught:
            process.send_signal(signal.SIGTERM)
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if caught:
        signal.raise_signal(caught[0])
    return status


def _run_in_thread(command, log):
    with open(log, "ab") as file, _start(command, stdout=file, stderr=file) as process:
        _processes.add(process)
        try:
            return process.wait()
        finally:
            _processes.discard(process)


def _start(command, **kwargs):
    # A terminal's Ctrl-C reaches both, but the command need not be ready for it, and should not get
    # two signals: it inherits that this one is blocked.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen([*_tied_to(os.getpid()), *command], cwd=ROOT, **kwargs)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _tied_to(parent):
    """Returns what makes a command on Linux end with its parent, before the command itself."""
    if sys.platform != "linux":
        return []
    program = (
        "import ctypes, os, signal, sys\n"
        f"ctypes.CDLL(None).prctl({PR_SET_PDEATHSIG}, signal.SIGKILL)\n"
        f"if os.getppid() == {parent}:\n"
        "    os.execv(sys.argv[1], sys.argv[1:])"
    )
    return [sys.executable, "-c", program]
