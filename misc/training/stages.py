"""Commands that run one after the other, each printed so that it can be repeated by hand."""

import dataclasses
import pathlib
import shlex
import signal
import subprocess
import sys

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
    """Runs a command to its end, also when this process is asked to end; returns its status."""
    process = subprocess.Popen(command, cwd=ROOT)
    # A terminal's Ctrl-C reaches both processes: this one waits while the stage saves its state.
    handlers = {
        signal.SIGINT: lambda number, frame: None,
        signal.SIGTERM: lambda number, frame: process.send_signal(number),
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
