"""Commands that run one after the other, each printed so that it can be repeated by hand."""

import dataclasses
import os
import pathlib
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

    def run(self):
        """Runs the command, unless its product is there; a ValueError says that it failed."""
        if self.product and self.product.exists():
            print(f"== {self.title}: done ({self.product})", flush=True)
            return
        command = [str(part) for part in self.command]
        print(f"\n== {self.title}\n$ {shlex.join(['python', *command])}\n", flush=True)
        status = _run([sys.executable, *command])
        if status:
            # A negative one is the number of the signal that killed the process.
            raise ValueError(
                f"{self.title} ended with status {status}. The same command goes on there."
            )
        if self.product and not self.product.exists():
            raise ValueError(f"{self.title} ended without {self.product}.")


def executable(name):
    """Returns the path of a program of this environment, or its name if it lies elsewhere."""
    path = pathlib.Path(sys.executable).parent / name
    return path if path.exists() else name


def _run(command):
    """Runs a command to its end; returns its status.

    A signal that asks this process to end goes to the command, which may save its state first, and
    then does here what it would have done without. When this process is killed, so is the command.
    """
    process, caught = None, []

    def pass_on(number, frame):
        del frame
        caught.append(number)
        if process:
            process.send_signal(signal.SIGTERM)

    before = {n: signal.signal(n, pass_on) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        # A terminal's Ctrl-C reaches both, but the command need not be ready for it, and should
        # not get two signals: it inherits that this one is blocked.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process = subprocess.Popen([*_tied_to(os.getpid()), *command], cwd=ROOT)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if caught:
            process.send_signal(signal.SIGTERM)
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if caught:
        signal.raise_signal(caught[0])
    return status


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
