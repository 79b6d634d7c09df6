"""The tasks that the papers report on: their templates and label words; the files are the user's own.

A folder is read as the data set is published, or in this package's own form (columns text, or text_a and text_b, and
label). As in ZO-PoG's and BDPL's code the few-shot rows of train and dev both come from the train file, and the rows to
test on are the published validation file, whose labels are public; BBT's code tests on published test files where they
have labels.
"""

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

from zopog_models.errors import TaskError
from zopog_models.tasks.data_files import columns_of
from zopog_models.tasks.template import Task, make_task

__all__ = ["PublishedTask", "load_published", "published_tasks"]

FOLDER = Path(__file__).parent / "published"


@dataclass(frozen=True)
class Form:
    """How a file holds rows: the columns of the texts and of the label; "#2" is the second of a file with no header."""

    text: tuple[str, ...]
    label: str


@dataclass(frozen=True)
class PublishedTask:
    """A task without its files. train and test: names that its files may have; forms: how they may hold rows."""

    task: Task
    train: tuple[str, ...]
    test: tuple[str, ...]
    forms: tuple[Form, ...]


def published_tasks() -> dict[str, PublishedTask]:
    """All of them, by name."""
    return {path.stem: _read(path) for path in sorted(FOLDER.glob("*.toml"))}


def load_published(name: str, folder: str | Path) -> Task:
    """The task with the files of a folder. Raises TaskError: no such folder or file, columns of no known form."""
    published = _read(FOLDER / f"{name}.toml")
    folder = Path(folder)
    if not folder.is_dir():
        raise TaskError(f"{folder} is no folder; task {name!r} needs one with {' or '.join(published.train)}")
    train, test = (_first(folder, names, name) for names in (published.train, published.test))
    form = _form(train, published)
    for columns in (form.text, (form.label,)):
        columns_of(test, columns)
    return replace(published.task, train=train, test=test, text_columns=form.text, label_column=form.label)


def _first(folder: Path, names: tuple[str, ...], task: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise TaskError(f"{folder} has no {' or '.join(names)}, which task {task!r} needs")


def _form(path: Path, published: PublishedTask) -> Form:
    for form in published.forms:
        try:
            columns_of(path, (*form.text, form.label))
        except TaskError:
            continue
        return form
    known = "; ".join(", ".join((*form.text, form.label)) for form in published.forms)
    raise TaskError(f"{path}: its columns are of no form that task {published.task.name!r} knows: {known}")


def _read(path: Path) -> PublishedTask:
    content = tomllib.loads(path.read_text("utf-8"))
    train, test = tuple(content.pop("train")), tuple(content.pop("test"))
    forms = tuple(Form(tuple(form["text"]), form["label"]) for form in content.pop("forms"))
    return PublishedTask(make_task(**content), train, test, forms)
