"""The live table of a comparison on stderr, read from the run folders: any executor, any process can be watched."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zopog_models.files.untrusted import check_regular
from zopog_ref.app.compare.cells import Cell
from zopog_ref.app.compare.schedule import Errors, eta
from zopog_ref.app.report.terminal import rewritten, terminal
from zopog_ref.app.run.saved_run import Accuracies

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

COLUMN = 12  # of a seed


class LiveTable:
    """A line a task and method, a column a seed: calls while it runs, test accuracy when done; until close().

    On a terminal the table rewrites itself; elsewhere, and where runs speak on the same stream, a line a finished cell.
    """

    def __init__(self, cells: Sequence[Cell], budgets: Sequence[int], rewrite: bool) -> None:
        self.cells, self.budgets = cells, budgets
        console = terminal(sys.stderr) if rewrite else None
        self.seeds = sorted({cell.seed for cell in cells})
        rows = list(dict.fromkeys((cell.task, cell.method) for cell in cells))
        several = len({task for task, _ in rows}) > 1
        self.rows = [(f"{task}: {method}" if several else method, task, method) for task, method in rows]
        self.by_place = {(cell.task, cell.method, cell.seed): cell for cell in cells}
        # Seeds that do not fit beside one another stand below; what has scrolled away could not be rewritten.
        name = max(len(name) for name, _, _ in self.rows)
        self.beside = max(1, ((console.width if console else 80) - name) // COLUMN)
        height = -(-len(self.seeds) // self.beside) * (len(rows) + 1) + 2
        self.told = {cell for cell in cells if cell.finished}
        self.started = time.monotonic()
        self.before = self._share({})
        self.live = rewritten(console) if console and height <= console.height else None

    def __call__(self, errors: Errors) -> None:
        """Show where the cells stand."""
        if self.live:
            self.live.update(self._table(errors), refresh=True)
            return
        for cell in self.cells:
            if cell not in self.told and (cell.finished or cell in errors):
                self.told.add(cell)
                text = errors.get(cell) or f"test accuracy {accuracy(cell, ' and with its readout ')}"
                sys.stderr.write(f"[{len(self.told)}/{len(self.cells)}] {cell.name}: {text}\n")
        sys.stderr.flush()

    def close(self) -> None:
        """Leave the table as it is."""
        if self.live:
            self.live.stop()

    def _share(self, errors: Errors) -> float:
        """How much of all calls is spent, between 0 and 1."""
        parts = (
            1.0 if cell.finished or cell in errors else calls(cell.folder) / budget
            for cell, budget in zip(self.cells, self.budgets)
        )
        return sum(parts) / len(self.cells)

    def _table(self, errors: Errors) -> "Group":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        blocks: list[RenderableType] = []
        for first in range(0, len(self.seeds), self.beside):
            seeds = self.seeds[first : first + self.beside]
            block = Table(box=None, padding=0, pad_edge=False, header_style="bold")
            block.add_column(no_wrap=True)
            for seed in seeds:
                block.add_column(Text(f"seed {seed}"), justify="right", no_wrap=True, width=COLUMN)
            for name, task, method in self.rows:
                cells = [self.by_place[task, method, seed] for seed in seeds]
                block.add_row(Text(name), *(Text(self._state(cell, errors), _style(cell, errors)) for cell in cells))
            blocks.append(block)
        done, share = sum(cell.finished for cell in self.cells), self._share(errors)
        left = eta(self.started, self.before, share)
        to_go = ""
        if left is not None and share < 1:
            to_go = f", about {left / 60:.0f} min to go" if left > 90 else ", a minute to go"
        failed = f", {len(errors)} failed" if errors else ""
        last = f"{done} of {len(self.cells)} cells{failed}; calls spent {share:.0%}{to_go}"
        return Group(*blocks, Text(last, no_wrap=True, overflow="ellipsis"))

    def _state(self, cell: Cell, errors: Errors) -> str:
        if cell in errors:
            return "failed"
        if cell.finished:
            return accuracy(cell)
        spent = calls(cell.folder)
        return f"{spent} calls" if spent else "..." if (cell.folder / "config.json").exists() else "-"


def _style(cell: Cell, errors: Errors) -> str:
    return "red" if cell in errors else "green" if cell.finished else ""


def accuracy(cell: Cell, between: str = ", ") -> str:
    """Of a finished cell, on the test rows, of a search as it is and with its readout; on dev where there are none."""
    found = Accuracies.read(cell.folder)
    if found.test_accuracy is None:
        return f"dev {found.dev_accuracy:.1%}"
    own = [value for value in (found.tuned_accuracy, found.tuned_readout_accuracy) if value]
    return between.join(f"{100 * value:.1f}" for value in own or [found.test_accuracy]) + "%"


def calls(folder: Path) -> int:
    """Calls spent so far, from the last whole line of the learning curve; 0 before the first."""
    try:
        check_regular(folder / "curve.jsonl")
        with open(folder / "curve.jsonl", "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 4096))
            *lines, _ = file.read().split(b"\n")
        return int(json.loads(lines[-1])["calls"])
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return 0
