"""Live progress on stderr: one line that rewrites itself on a terminal, a line now and then elsewhere."""

import sys
import time

from zopog_ref.search import Record

LINES_WITHOUT_TERMINAL = 10


class Progress:
    """Calls used and left, loss, best dev accuracy, time left. price: calls a step."""

    def __init__(self, budget: int, price: int, quiet: bool = False) -> None:
        self.budget, self.steps = budget, max(1, budget // price)
        self.quiet, self.live = quiet, sys.stderr.isatty()
        self.best: float | None = None
        self.started: float | None = None
        self.first_step = 0
        self.line_is_open = False

    def __call__(self, record: Record) -> None:
        """Show where the run stands after a step."""
        if record.dev_metric is not None:
            self.best = max(self.best or 0.0, record.dev_metric)
        now = time.monotonic()
        if self.started is None:  # the first step's own time is unknown: count from its end
            self.started, self.first_step = now, record.step
        last = record.step >= self.steps
        if self.quiet or not (self.live or last or record.step % max(1, self.steps // LINES_WITHOUT_TERMINAL) == 0):
            return
        line = (
            f"calls {record.calls:>5} of {self.budget}, {self.budget - record.calls:>5} left"
            f"   loss {record.diagnostics.get('loss', float('nan')):.3f}"
            f"   best dev {'    -' if self.best is None else f'{self.best:5.1%}'}"
            f"   {self._time_left(now, record.step)}"
        )
        sys.stderr.write(f"\r{line:<78}" if self.live else line + "\n")
        self.line_is_open = self.live
        sys.stderr.flush()

    def close(self) -> None:
        """End the line that rewrites itself: a run may be over before its budget is."""
        if self.line_is_open:
            sys.stderr.write("\n")
            sys.stderr.flush()
        self.line_is_open = False

    def _time_left(self, now: float, step: int) -> str:
        done = step - self.first_step
        if step >= self.steps:
            return "done"
        if not done or self.started is None:
            return ""
        seconds = (now - self.started) / done * (self.steps - step)
        return (
            f"{int(seconds // 60)} min {int(seconds % 60):02d} s to go" if seconds >= 60 else f"{seconds:.0f} s to go"
        )
