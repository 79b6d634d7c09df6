"""Tasks from TOML files, and their files of labelled texts."""

from __future__ import annotations  # signatures show names, not what these stand for

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zopog_models.errors import TaskError
from zopog_models.files.quoting import quoted, quoted_names
from zopog_models.files.suggestions import did_you_mean
from zopog_models.tasks.data_files import read_task_text, records
from zopog_models.tasks.encoding import Encoded, encode, label_ids
from zopog_models.tasks.template import Task, make_task

__all__ = [
    "Encoded",
    "Rows",
    "Task",
    "TaskError",
    "embedded_tasks",
    "encode",
    "few_shot",
    "label_ids",
    "load_task",
    "make_task",
    "read_rows",
]

_MAX_TASK_BYTES = 1_000_000
EMBEDDED_TASKS = Path(__file__).parents[1] / "embedded" / "tasks"


class Rows(NamedTuple):
    """Labelled texts: a tuple of one or two strings a row, and class indices (rows,)."""

    texts: list[tuple[str, ...]]
    labels: np.ndarray


def load_task(source: str | Path) -> Task:
    """A task by the name of an embedded one, or from a TOML file, whose data files are relative to its folder."""
    path = Path(source)
    if path.suffix != ".toml":
        names = [task.stem for task in sorted(EMBEDDED_TASKS.glob("*.toml"))]
        if str(source) not in names:
            raise TaskError(
                f"unknown task {str(source)!r}; embedded tasks: {', '.join(names)}; or give a .toml file"
                + did_you_mean(str(source), names)
            )
        path = EMBEDDED_TASKS / f"{source}.toml"
    try:
        content = tomllib.loads(read_task_text(path, _MAX_TASK_BYTES))
    except TaskError:
        raise
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{path} is not TOML: {error}") from None
    known = {"name", "description", "template", "labels", "train", "dev", "test", "metric", "text_columns"}
    known |= {"label_column", "skip_labels", "quoting", "templates"}
    if unknown := sorted(content.keys() - known):
        raise TaskError(f"{path}: unknown keys {quoted_names(unknown)}; known: {', '.join(sorted(known))}")
    if isinstance(content.get("templates"), list) and content["templates"]:
        content.setdefault("template", content["templates"][0])
    for key in ("template", "labels"):
        if key not in content:
            raise TaskError(f"{path}: {key!r} is missing")
    for key, value in content.items():
        wanted: type = {"labels": dict, "text_columns": list, "skip_labels": list, "templates": list}.get(key, str)
        if not isinstance(value, wanted):
            raise TaskError(f"{path}: {key!r} must be a {wanted.__name__}, got {quoted(value)}")
    for key in content.keys() & {"train", "dev", "test"}:
        content[key] = _beside(path, key, content[key])
    name = content.setdefault("name", path.stem)
    if not name.isprintable() or set(name) & set("/\\:") or name.startswith(".") or not 0 < len(name) <= 100:
        raise TaskError(f"{path}: name {quoted(name)} cannot be the name of a folder, which a run gives it")
    return make_task(**content)


def _beside(path: Path, key: str, name: str) -> Path:
    """A data file of a task: in the folder of its TOML, or below it. Raises TaskError for any other."""
    file = path.parent / name
    try:
        inside = file.resolve().is_relative_to(path.parent.resolve())
    except (OSError, ValueError, RuntimeError):  # a NUL, links in a circle
        inside = False
    if not inside or Path(name).is_absolute() or ".." in Path(name).parts:
        raise TaskError(
            f"{path}: {key} {quoted(name)} is not in the task's folder; put the file there, or give it with --{key}, "
            "--template and --labels instead of the TOML"
        )
    return file


def embedded_tasks() -> list[Task]:
    """The tasks that come with the package, by name."""
    return [load_task(path) for path in sorted(EMBEDDED_TASKS.glob("*.toml"))]


def read_rows(path: str | Path, task: Task) -> Rows:
    """Read a .tsv or .txt (no quoting), .csv (quoted), .jsonl or .parquet file with the task's columns.

    task.quoting decides otherwise. A name that ends in .gz is unpacked. Columns named #1, #2, ... are those of a file
    without a header. Raises TaskError naming the file and the line: unreadable, empty, bad UTF-8, a missing column, an
    unknown label.
    """
    path = Path(path)
    index = {value: i for i, value in enumerate(task.labels)}
    texts: list[tuple[str, ...]] = []
    labels: list[int] = []
    for line, record in records(path, (*task.text_columns, task.label_column), task.quoting):
        *row, label = record
        if label in task.skip_labels:
            continue
        if label not in index:
            known = quoted_names(index)
            hint = ""
            if label.strip('"') in index:
                hint = '; its quote marks are read as text: quoting = "double" in the task\'s TOML takes them off'
            raise TaskError(f"{path}, line {line}: unknown label {quoted(label)}; the task's labels: {known}{hint}")
        texts.append(tuple(row))
        labels.append(index[label])
    if not texts:
        raise TaskError(f"{path} holds no rows")
    return Rows(texts, np.array(labels, np.int64))


def few_shot(labels: np.ndarray, shots: int, order: np.ndarray, *, names: Sequence[str] | None = None) -> np.ndarray:
    """The first `shots` rows of every class along the permutation `order`: row indices, in that order.

    names: the classes, so that one without any row is noticed too. Raises TaskError naming a class with fewer rows.
    """
    if shots < 1:
        raise TaskError(f"shots must be at least 1, got {shots}")
    classes = len(names) if names is not None else int(labels.max(initial=-1)) + 1
    ordered = labels[order]
    chosen = []
    for c in range(classes):
        places = np.flatnonzero(ordered == c)[:shots]
        if len(places) < shots:
            shown = repr(names[c]) if names is not None else str(c)
            raise TaskError(
                f"class {shown} has {len(places)} rows, but {shots} shots were asked for; lower the number "
                "of shots or give more data"
            )
        chosen.append(places)
    return order[np.sort(np.concatenate(chosen))]
