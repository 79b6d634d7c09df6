"""Running the cells of a comparison: on any Executor, restartable, one failing cell costing no other."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager
from pathlib import Path

from zopog_models.runners.cores import usable_cores
from zopog_ref.app.compare.cells import STARTED, Cell, run_cell, start_worker
from zopog_ref.app.compare.cluster import ray_tasks
from zopog_ref.app.errors import Interrupted
from zopog_ref.app.tune.learning import stop_requests

_LOOK_EVERY = 0.5  # seconds between two looks at the cells
_DEATHS = 2  # a worker that dies may have been killed for another's sake: once more, then it is the cell's fault

Errors = dict[Cell, str]
Show = Callable[[Errors], None]  # called again and again


@contextmanager
def process_pool(workers: int, log: Path) -> Iterator[Executor]:
    """Spawned processes, each with one thread of linear algebra: the models' own threads are what fills the cores."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))  # read by the workers when they import NumPy
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), start_worker, (str(log),))
    try:
        yield pool
    except KeyboardInterrupt:
        for child in multiprocessing.active_children():
            child.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def one_after_another(workers: int, log: Path) -> Iterator[Executor]:
    """In this process, cell after cell."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


# name -> (workers, log) -> a context with the Executor; its workers must see the files of the output folder
EXECUTORS = {"process": process_pool, "serial": one_after_another, "ray": ray_tasks}


def run_cells(
    cells: Sequence[Cell], executor: str, workers: int, out: Path, show: Show, threads: int | None = None
) -> Errors:
    """Run every cell that is not finished; returns what went wrong, cell by cell.

    threads: of the model in each; default: the cores shared out.

    Errors: Interrupted after Ctrl-C, when every running cell has saved itself.
    """
    stop, log = out / ".stop", out / "workers.log"
    stop.unlink(missing_ok=True)
    errors: Errors = {}
    deaths = dict.fromkeys(cells, 0)
    threads = threads or max(1, usable_cores() // workers)
    with stop_requests() as should_stop:
        try:
            while waiting := [cell for cell in cells if not cell.finished and cell not in errors]:
                for cell in waiting:
                    (cell.folder / STARTED).unlink(missing_ok=True)
                with EXECUTORS[executor](min(workers, len(waiting)), log) as pool:
                    futures = {pool.submit(run_cell, cell, stop, threads): cell for cell in waiting}
                    whole = _watch(futures, errors, stop, should_stop, show)
                if should_stop():
                    done = sum(cell.finished for cell in cells)
                    raise Interrupted(
                        f"stopped and saved, {done} of {len(cells)} cells finished: the same command goes on"
                    )
                if not whole:
                    _blame(waiting, deaths, errors, log)
        finally:
            stop.unlink(missing_ok=True)
    show(errors)
    return errors


def _watch(futures: dict[Future[str], Cell], errors: Errors, stop: Path, asked: Callable[[], bool], show: Show) -> bool:
    """Until every future is done. False when a worker died, which ends all futures of a pool."""
    whole, left = True, set(futures)
    while left:
        done, left = wait(left, timeout=_LOOK_EVERY, return_when=FIRST_COMPLETED)
        for future in done:
            try:
                error = future.result()
            except BrokenExecutor:
                whole = False
            else:
                if error and error != "interrupted":
                    errors[futures[future]] = error
        if asked() and not stop.exists():
            stop.touch()
            for future in left:
                future.cancel()
            left = {future for future in left if not future.cancelled()}
        show(errors)
    return whole


def _blame(waiting: Sequence[Cell], deaths: dict[Cell, int], errors: Errors, log: Path) -> None:
    """Count the death of a worker for the cells that ran; a cell that two workers died of is not tried again."""
    suspects = [cell for cell in waiting if (cell.folder / STARTED).exists()]
    if not suspects:
        raise OSError(f"the worker processes die before they begin; {log} holds what they said")
    for cell in suspects:
        deaths[cell] += 1
        if deaths[cell] >= _DEATHS:
            errors[cell] = f"its worker process died {deaths[cell]} times (killed, or out of memory); see {log}"


def eta(started: float, done_before: float, done: float) -> float | None:
    """Seconds left, from the share of the work done since `started`; None while nothing can be said."""
    since = done - done_before
    return (time.monotonic() - started) / since * (1 - done) if since > 0 else None
