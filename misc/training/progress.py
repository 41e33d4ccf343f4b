"""What a training run shows of its course."""

import statistics
import sys
import time

import tqdm

# How many steps behind the first one are timed, and for how many seconds. Their median tells how
# long a run takes: EUSR's first steps may be compilations too, one for each scale.
FEWEST, MOST, ENOUGH = 5, 50, 10
LONG = 86400


class TrainingProgress:
    """Shows a run: a redrawn bar on a terminal, a line for each log elsewhere."""

    def __init__(self, first, total, enabled=True, advice=""):
        """Starts the clock at step `first` of `total`; `advice` is for runs of more than a day."""
        self._first = first
        self._total = total
        self._enabled = enabled
        self._advice = advice
        self._seconds = []
        self._ended = 0.0
        self._told = False
        self._bar = None
        self._latest = (first, time.monotonic())
        if enabled and sys.stderr.isatty():
            self._bar = tqdm.tqdm(
                initial=first, total=total, unit="step", dynamic_ncols=True, file=sys.stderr
            )

    def time_step(self, started, result):
        """Tells how long the first step took, and after some more how long the run will take.

        Args:
            started: `time.monotonic()` when the step began.
            result: scalar that it computes; the first steps are waited for.
        """
        if not self._enabled or self._told:
            return
        float(result)
        now = time.monotonic()
        # From end to end: waiting for data counts, too.
        self._seconds.append(now - (self._ended or started))
        self._ended = now
        left = self._total - self._first - len(self._seconds)
        if len(self._seconds) == 1:
            taken = describe_duration(self._seconds[0])
            self.note(f"Step {self._first + 1} took {taken}, its compilation included.")
            return
        timed = self._seconds[1:]
        if len(timed) < FEWEST or (len(timed) < MOST and sum(timed) < ENOUGH):
            return
        self._told = True
        pace = statistics.median(timed)
        self.note(
            f"The next {len(timed)} steps took {describe_duration(pace)} each (median): the {left} "
            f"steps that are left take about {describe_duration(pace * left)}, without validations."
        )
        if self._advice and pace * left > LONG:
            self.note(self._advice)

    def update(self, step, values):
        """Shows the figures of a step, {name: number or text}."""
        shown = " ".join(
            f"{name} {value if isinstance(value, str) else f'{value:.4g}'}"
            for name, value in values.items()
        )
        if self._bar is not None:
            self._bar.set_postfix_str(shown, refresh=False)
            self._bar.update(step - self._bar.n)
        elif self._enabled:
            now = time.monotonic()
            # The newest interval alone: the first steps are slow, because graphs are traced.
            rate = (step - self._latest[0]) / max(now - self._latest[1], 1e-9)
            self._latest = (step, now)
            left = tqdm.tqdm.format_interval((self._total - step) / rate) if rate else "?"
            print(
                f"step {step}/{self._total}  {shown}  {rate:.3g} steps/s  {left} left", flush=True
            )

    def note(self, text):
        """Prints a line without disturbing the bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        elif self._enabled:
            print(text, flush=True)

    def close(self):
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()


def describe_duration(seconds):
    """Returns a duration such as "0.25 s", "12 min", "5 h" or "20 days"."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
