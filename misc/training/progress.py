"""What a training run shows of its course."""

import sys
import time

import tqdm


class TrainingProgress:
    """Shows a run: a redrawn bar on a terminal, a line for each log elsewhere."""

    def __init__(self, first, total, enabled=True):
        """Starts the clock at step `first` of `total`."""
        self._total = total
        self._enabled = enabled
        self._bar = None
        self._latest = (first, time.monotonic())
        if enabled and sys.stderr.isatty():
            self._bar = tqdm.tqdm(
                initial=first, total=total, unit="step", dynamic_ncols=True, file=sys.stderr
            )

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
