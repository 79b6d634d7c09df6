"""The few rows that a run learns from, those it selects on, and those it is tested on: drawn from a task's files."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zopog_models.errors import TaskError
from zopog_models.tasks.task_files import Rows, few_shot, read_rows
from zopog_models.tasks.template import Task
from zopog_ref.app.errors import InputError
from zopog_ref.randomness import Purpose, permutation

INT64 = NDArray[np.int64]
HELD_OUT_ROWS = 2000  # at most, when a task has no test file and unused training rows stand in for it


@dataclass(frozen=True)
class Split:
    """Which rows of which file: enough to find the same texts again."""

    file: str
    sha256: str
    rows: list[int]


@dataclass
class Drawn:
    """The rows of a run. texts: of the whole train file, among whose tokens the candidates are."""

    train: Rows
    dev: Rows
    test: Rows | None
    splits: dict[str, Split]
    texts: list[str]


def draw(task: Task, seed: int, shots: int) -> Drawn:
    """Read the task's files and draw from them.

    train: `shots` rows a class of the train file; dev: `shots` a class of the dev file, or of the rest of the train
    file when there is none (where it is enough for one of the two alone, each gets half); test: the test file, or up
    to 2,000 unused rows of the train file.
    """
    if task.train is None:
        raise InputError(f"task {task.name!r} has no train file: give one with --train")
    pool, names = read_rows(task.train, task), list(task.labels)
    if task.dev is None:  # the rows of both are here: where they are enough for one alone, each gets half
        counts = np.bincount(pool.labels, minlength=len(names))
        rarest = int(counts.min())
        shots = rarest // 2 if max(2, shots) <= rarest < 2 * shots else shots
        if rarest == shots == 1:
            raise TaskError(
                f"{task.train}: class {names[counts.argmin()]!r} has one row, and one more is needed for dev: give "
                "--dev FILE or more data"
            )
    order = permutation(seed, 0, Purpose.SPLIT, len(pool.labels))
    train = _few(task.train, pool, shots, order, names)
    rest = order[~np.isin(order, train)]
    splits = {"train": _split(task.train, train)}
    if task.dev is not None:
        dev_pool, dev_path = read_rows(task.dev, task), task.dev
        dev_order = permutation(seed, 1, Purpose.SPLIT, len(dev_pool.labels))
        dev = _few(dev_path, dev_pool, shots, dev_order, names)
    else:
        dev_pool, dev_path, dev = pool, task.train, _few(task.train, pool, shots, rest, names)
        rest = rest[~np.isin(rest, dev)]
    splits["dev"] = _split(dev_path, dev)
    test = None
    if task.test is not None:
        test = read_rows(task.test, task)
        splits["test"] = _split(task.test, np.arange(len(test.labels)))
    elif len(rest):
        held_out = np.sort(rest[:HELD_OUT_ROWS])
        test = taken(pool, held_out)
        splits["test"] = _split(task.train, held_out)
    return Drawn(taken(pool, train), taken(dev_pool, dev), test, splits, [" ".join(row) for row in pool.texts])


def _few(path: Path, rows: Rows, shots: int, order: INT64, names: list[str]) -> INT64:
    """`few_shot`, whose error names the file too."""
    try:
        return few_shot(rows.labels, shots, order, names=names)
    except TaskError as error:
        raise TaskError(f"{path}: {error}") from None


def taken(rows: Rows, which: INT64) -> Rows:
    """These of the rows, in this order."""
    return Rows([rows.texts[i] for i in which], rows.labels[which])


def _split(path: Path, rows: INT64) -> Split:
    return Split(str(path), hashlib.sha256(path.read_bytes()).hexdigest(), rows.tolist())
