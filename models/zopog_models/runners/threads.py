"""One pool of threads for all that a model computes."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from zopog_models.runners.cores import usable_cores

__all__ = ["Threads"]


class Threads:
    """A pool that is opened when several jobs are first given to it.

    Parameters
        count: jobs at once; None: the cores that this process may use
        one_by_one: every job in the caller's thread, as a GPU wants it
    """

    def __init__(self, count: int | None = 1, *, one_by_one: bool = False) -> None:
        self.count = _thread_count(count)
        self._one_by_one = one_by_one or self.count == 1
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0  # that the pool's threads live in: a fork takes none of them along

    def run_all(self, job: Callable[[Any], None], items: Sequence[Any]) -> None:
        """Call job(item) for all items, `count` at a time. The first exception is raised here."""
        if self._one_by_one or len(items) <= 1:
            for item in items:
                job(item)
            return
        if self._pool is None or self._process != os.getpid():
            self._process = os.getpid()
            self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="frozen-model")
        for _ in self._pool.map(job, items):
            pass

    def close(self) -> None:
        """End the threads. Jobs that come later open a new pool."""
        pool, self._pool = self._pool, None
        if pool is not None and self._process == os.getpid():
            pool.shutdown()


def _thread_count(threads: int | None) -> int:
    if threads is None:
        return usable_cores()
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    return threads
