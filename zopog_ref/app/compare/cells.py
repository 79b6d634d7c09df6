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

from zopog_ref.app.errors import Interrupted
from zopog_ref.app.run.config import Machine, RunConfig
from zopog_ref.app.tune import learning

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
