"""One cell of a comparison: an ordinary run of `zopog tune`, started, continued or found finished in its folder.

What a cell is given and gives back is plain data and a folder, so that any concurrent.futures.Executor whose workers
see the same files can run it.
"""

import contextlib
import os
import signal
import sys
import threading
import traceback
from dataclasses import dataclass, field, replace
from multiprocessing import parent_process
from pathlib import Path

from zopog_models.errors import CapReached
from zopog_models.served.request_log import RequestLog
from zopog_models.served.spending import Prices
from zopog_ref.app.errors import InputError, Interrupted
from zopog_ref.app.run.config import Machine, RunConfig, Served
from zopog_ref.app.tune import learning
from zopog_ref.app.tune.models import REQUESTS

STARTED, ERROR = "started", "error.txt"


@dataclass(frozen=True)
class Cell:
    """A method on a task with a seed."""

    task: str
    method: str  # as the report names it
    seed: int
    folder: Path
    config: RunConfig = field(compare=False)  # told apart by the names above
    machine: Machine = field(default=Machine(), compare=False)

    @property
    def name(self) -> str:
        """For messages: task, method, seed."""
        return f"{self.task}, {self.method}, seed {self.seed}"

    @property
    def finished(self) -> bool:
        """True when the run has its result and is not run again."""
        return (self.folder / "result.json").exists()


def run_cell(cell: Cell, stop: Path, threads: int) -> str:
    """Carry a cell to its end. Returns "" when finished, "interrupted" when `stop` appeared, else what went wrong.

    An error's traceback is kept in the cell's folder. The file `started` is there while the cell runs, so that whoever
    finds a dead worker knows which cell it died of.
    """
    started, error = cell.folder / STARTED, cell.folder / ERROR
    try:
        cell.folder.mkdir(parents=True, exist_ok=True)
        started.touch()
        cell = with_what_is_left(cell, stop.parent)
        fresh = None if (cell.folder / "config.json").exists() else cell.config
        own = None if cell.config.remote is not None else threads  # a served model computes elsewhere
        learning.learn(fresh, replace(cell.machine, threads=own), cell.folder, stop.exists, quiet=True)
        error.unlink(missing_ok=True)
        return ""
    except Interrupted:
        return "interrupted"
    except Exception as failure:
        with contextlib.suppress(OSError):  # a full disk: what is returned says it
            error.write_text(traceback.format_exc(), encoding="utf-8")
        return f"{type(failure).__name__}: {failure}"
    finally:
        started.unlink(missing_ok=True)


def with_what_is_left(cell: Cell, out: Path) -> Cell:
    """The cell with what the other runs of a comparison's folder leave of its --budget-usd: the cap is that of all.

    Errors: CapReached where they leave nothing.
    """
    remote = cell.config.remote
    if remote is None or remote.budget_usd is None:
        return cell
    spent = spent_in(out, remote, but=cell.folder)
    left = remote.budget_usd - spent
    if left <= 0:
        raise CapReached(f"${spent:.4f} of ${remote.budget_usd:g} are spent by the other runs: raise --budget-usd")
    config = replace(cell.config, remote=replace(remote, budget_usd=left))
    return replace(cell, config=config, machine=replace(cell.machine, wire={**cell.machine.wire, "budget_usd": left}))


def spent_in(out: Path, remote: Served, but: Path | None = None) -> float:
    """US dollars that the runs in a comparison's folder have spent so far, by these prices; but: a run left out.

    Errors: InputError for a file of requests that was edited.
    """
    if remote.price_in is None or remote.price_out is None:
        return 0.0
    prices, files = Prices(remote.price_in, remote.price_out), (out / "runs").glob(f"*/*/*/{REQUESTS}")
    try:
        return sum(RequestLog.spent(file, prices) for file in files if file.parent != but)
    except ValueError as error:
        raise InputError(f"{error}: it was edited") from None


def start_worker(log: str) -> None:
    """What a worker process does first: its messages go to a log, Ctrl-C is its parent's business, and it ends with
    its parent. Ending at any moment is safe: a run loses nothing that was paid for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(output, stream.fileno())
    os.close(output)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent) -> None:  # type: ignore[no-untyped-def]
    parent.join()
    os._exit(1)
