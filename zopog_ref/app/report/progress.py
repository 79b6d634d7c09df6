"""Live progress on stderr: a bar and a line that rewrite themselves on a terminal, a line now and then elsewhere."""

import sys
import time
from typing import TYPE_CHECKING

from zopog_ref.app.report.terminal import flowed, rewritten, terminal
from zopog_ref.search import Record

if TYPE_CHECKING:
    from rich.live import Live

LINES_WITHOUT_TERMINAL = 10
_REDRAW = 0.1  # seconds


class Progress:
    """Calls used and left, loss, best dev accuracy, time left, until close().

    price: calls a step; kept_back: calls of the budget that the search does not get.
    """

    def __init__(self, budget: int, price: int, quiet: bool = False, kept_back: int = 0) -> None:
        self.budget, self.steps, self.quiet = budget, max(1, (budget - kept_back) // price), quiet
        console = None if quiet else terminal(sys.stderr)
        self.live = console and rewritten(console)
        self.best: float | None = None
        self.started: float | None = None
        self.first_step, self.shown = 0, float("-inf")

    def __call__(self, record: Record) -> None:
        """Show where the run stands after a step."""
        if record.dev_metric is not None:
            self.best = max(self.best or 0.0, record.dev_metric)
        now = time.monotonic()
        if self.started is None:  # the first step's own time is unknown: count from its end
            self.started, self.first_step = now, record.step
        if self.quiet:
            return
        items = [
            f"calls {record.calls:>5} of {self.budget}, {self.budget - record.calls:>5} left",
            f" loss {record.diagnostics.get('loss', float('nan')):.3f}",
            f" best dev {'    -' if self.best is None else f'{self.best:5.1%}'}",
            f" {self._time_left(now, record.step)}",
        ]
        if self.live:
            self._draw(self.live, record.calls, [item.strip() for item in items], now)
        elif record.step >= self.steps or record.step % max(1, self.steps // LINES_WITHOUT_TERMINAL) == 0:
            sys.stderr.write("  ".join(items) + "\n")
            sys.stderr.flush()

    def _draw(self, live: "Live", calls: int, items: list[str], now: float) -> None:
        from rich.console import Group
        from rich.padding import Padding
        from rich.progress_bar import ProgressBar

        due = now - self.shown >= _REDRAW
        width = live.console.width
        bar = ProgressBar(total=self.budget, completed=calls, width=min(78, width))
        live.update(Group(Padding(bar, 0), flowed(items, width)), refresh=due)
        self.shown = now if due else self.shown

    def close(self) -> None:
        """Leave the last state as it is: a run may be over before its budget is."""
        if self.live:
            self.live.stop()

    def _time_left(self, now: float, step: int) -> str:
        done = step - self.first_step
        if step >= self.steps:
            return "done"
        if not done or self.started is None:
            return ""
        seconds = (now - self.started) / done * (self.steps - step)
        minutes = f"{int(seconds // 60)} min {int(seconds % 60):02d} s to go"
        return minutes if seconds >= 60 else f"{seconds:.0f} s to go"
