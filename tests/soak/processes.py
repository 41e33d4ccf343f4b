"""One command, started again and again, with all that it starts itself."""

import contextlib
import os
import pathlib
import signal
import subprocess

from tests import commands

# Before that, a process has not begun to be the command.
EARLIEST = 0.3


class Processes:
    """The processes of a command, of which one at a time is the first of its session.

    Attributes:
        first: `subprocess.Popen` of the one that was started last.
    """

    def __init__(self, command, environment, output_path):
        """Takes what follows `python`, {name: value} for its environment, and a file to print to.

        A pipe would break for what outlives the first process.
        """
        self._command, self._environment, self._output_path = command, environment, output_path
        self._sessions = []
        self.first = None

    def start(self):
        """Starts the command once more."""
        self.find()
        with open(self._output_path, "w") as output:
            self.first = commands.start(
                *self._command,
                environment=self._environment,
                start_new_session=True,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._sessions.append(self.first.pid)

    def output(self):
        """Returns what was printed since the last start."""
        return self._output_path.read_text()

    def runs_after(self, seconds):
        """Waits so long at most; returns whether the first process still runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.first.wait(max(seconds, EARLIEST))
        return self.first.poll() is None

    def send(self, number, to_all):
        """Sends a signal to the first process, or to all that were started with it."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if to_all else os.kill)(self.first.pid, number)

    def find(self):
        """Returns {process number: command line} of what runs, also of what earlier ones left."""
        found, alive = {}, set()
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                state, *numbers = (path / "stat").read_text().rpartition(")")[2].split()
                session = int(numbers[2])
                if state not in "ZX" and session in self._sessions:
                    found[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")
                    alive.add(session)
        # The number of one that is no more may be given to somebody else's.
        self._sessions = [session for session in self._sessions if session in alive]
        return found

    def end_all(self):
        """Kills all that still runs."""
        for number in self.find():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.first.wait()
