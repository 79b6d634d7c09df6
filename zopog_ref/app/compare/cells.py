"""One cell of a comparison: an ordinary run of `zopog tune`, started, continued or found finished in its folder.

What a cell is given and gives back is plain data and a folder, so that any concurrent.futures.Executor whose workers
see the same files can run it.
"""

import argparse
import os
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path

from zopog_ref.app.errors import Interrupted
from zopog_ref.app.tune import command as tune

STARTED, ERROR = "started", "error.txt"


@dataclass(frozen=True)
class Cell:
    """A method on a task with a seed. options: what `zopog tune` would be given to start it, --out left out."""

    task: str
    method: str  # as the report names it
    seed: int
    folder: Path
    options: tuple[str, ...]

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
    cell.folder.mkdir(parents=True, exist_ok=True)
    started, error = cell.folder / STARTED, cell.folder / ERROR
    started.touch()
    try:
        tune.learn(_arguments(cell, threads), stop.exists, quiet=True)
        error.unlink(missing_ok=True)
        return ""
    except Interrupted:
        return "interrupted"
    except Exception as failure:
        error.write_text(traceback.format_exc(), encoding="utf-8")
        return f"{type(failure).__name__}: {failure}"
    finally:
        started.unlink(missing_ok=True)


def _arguments(cell: Cell, threads: int) -> argparse.Namespace:
    if (cell.folder / "config.json").exists():
        options = ["--resume", str(cell.folder)]
        if "--device" in cell.options:
            options += ["--device", cell.options[cell.options.index("--device") + 1]]
    else:
        options = [*cell.options, "--out", str(cell.folder)]
    return tune_arguments([*options, "--threads", str(threads)])


def tune_arguments(options: list[str]) -> argparse.Namespace:
    """Options of `zopog tune`, parsed as that command parses them. Errors: SystemExit, as argparse has it."""
    parser = argparse.ArgumentParser(prog="zopog tune", exit_on_error=False)
    tune.add_arguments(parser)
    return parser.parse_args(options)


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
