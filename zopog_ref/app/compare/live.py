"""The live table of a comparison on stderr, read from the run folders: any executor, any process can be watched."""

import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from zopog_ref.app.compare.cells import Cell
from zopog_ref.app.compare.schedule import Errors, eta
from zopog_ref.app.run.folder import read_json
from zopog_ref.app.run.saved_values import check, maybe, share


class LiveTable:
    """A line a task and method, a column a seed: calls while it runs, test accuracy when done.

    On a terminal the table rewrites itself; elsewhere, and where runs speak on the same stream, a line a finished cell.
    """

    def __init__(self, cells: Sequence[Cell], budget: int, rewrite: bool) -> None:
        self.cells, self.budget = cells, budget
        width, height = shutil.get_terminal_size()
        self.width = width - 1
        fits = len({(cell.task, cell.method) for cell in cells}) + 3 <= height  # what has scrolled away stays as it is
        self.live = rewrite and fits and sys.stderr.isatty()
        self.told = {cell for cell in cells if cell.finished}
        self.lines = 0
        self.started = time.monotonic()
        self.before = self._share({})

    def __call__(self, errors: Errors) -> None:
        """Show where the cells stand."""
        if self.live:
            text = self._table(errors)
            back = f"\x1b[{self.lines}F\x1b[J" if self.lines else ""
            self.lines = text.count("\n")
            sys.stderr.write(back + text)
        else:
            for cell in self.cells:
                if cell not in self.told and (cell.finished or cell in errors):
                    self.told.add(cell)
                    text = errors.get(cell) or f"test accuracy {accuracy(cell)}"
                    sys.stderr.write(f"[{len(self.told)}/{len(self.cells)}] {cell.name}: {text}\n")
        sys.stderr.flush()

    def _share(self, errors: Errors) -> float:
        """How much of all calls is spent, between 0 and 1."""
        parts = (1.0 if cell.finished or cell in errors else calls(cell.folder) / self.budget for cell in self.cells)
        return sum(parts) / len(self.cells)

    def _table(self, errors: Errors) -> str:
        seeds = sorted({cell.seed for cell in self.cells})
        rows = list(dict.fromkeys((cell.task, cell.method) for cell in self.cells))
        by_place = {(cell.task, cell.method, cell.seed): cell for cell in self.cells}
        several = len({task for task, _ in rows}) > 1
        names = [f"{task}: {method}" if several else method for task, method in rows]
        width = max(map(len, names))
        out = [" " * width + "".join(f"{f'seed {seed}':>12}" for seed in seeds)]
        for name, row in zip(names, rows):
            out.append(f"{name:<{width}}" + "".join(f"{self._state(by_place[(*row, s)], errors):>12}" for s in seeds))
        done, share = sum(cell.finished for cell in self.cells), self._share(errors)
        left = eta(self.started, self.before, share)
        to_go = (
            ""
            if left is None or share >= 1
            else f", about {left / 60:.0f} min to go"
            if left > 90
            else ", a minute to go"
        )
        failed = f", {len(errors)} failed" if errors else ""
        out.append(f"{done} of {len(self.cells)} cells{failed}; calls spent {share:.0%}{to_go}")
        return "\n".join(line[: self.width] for line in out) + "\n"

    def _state(self, cell: Cell, errors: Errors) -> str:
        if cell in errors:
            return "failed"
        if cell.finished:
            return accuracy(cell)
        spent = calls(cell.folder)
        return f"{spent} calls" if spent else "..." if (cell.folder / "config.json").exists() else "-"


def accuracy(cell: Cell) -> str:
    """Of a finished cell, on the test rows; on dev where there are none."""
    path = cell.folder / "result.json"
    result = read_json(path, f"{path} is missing")
    check(result, {"test_accuracy": maybe(share), "dev_accuracy": share}, path)
    found = result["test_accuracy"]
    return f"{found:.1%}" if found is not None else f"dev {result['dev_accuracy']:.1%}"


def calls(folder: Path) -> int:
    """Calls spent so far, from the last whole line of the learning curve; 0 before the first."""
    try:
        with open(folder / "curve.jsonl", "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 4096))
            *lines, _ = file.read().split(b"\n")
        return int(json.loads(lines[-1])["calls"])
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return 0
