"""The task that `zopog tune` was asked for, by name, by file or by options; and a run's, from its config.json."""

import argparse
from pathlib import Path
from typing import Any

from zopog_models.tasks.published_tasks import load_published, published_tasks
from zopog_models.tasks.task_files import embedded_tasks, load_task
from zopog_models.tasks.template import Task, make_task, replace_template
from zopog_ref.app.errors import InputError

_TASK_FIELDS = ("name", "metric", "description", "text_columns", "label_column", "skip_labels")


def chosen_task(arguments: argparse.Namespace) -> tuple[Task, str | None]:
    """The task asked for, and its embedded name or TOML when it has one."""
    if arguments.train is None:
        given = [name for name in ("labels", "dev", "test") if getattr(arguments, name) is not None]
        if given:
            raise InputError(f"--{given[0]} describes your own data, but --train is missing")
        name = arguments.task or "supersense"
        task = task_named(name, arguments.data)
        if arguments.template is None:
            return task, name
        # The task's rows and labels with another template: a decoder's has to end with {mask}.
        return replace_template(task, arguments.template), None
    if arguments.data is not None:
        raise InputError("--data holds the files of a published --task; --train names a file of your own")
    if arguments.task:
        raise InputError("--task and --train were both given: a task TOML names its own train file")
    if not arguments.template or not arguments.labels:
        raise InputError('--train needs --template (such as "{text} . {mask} .") and --labels (such as "0=bad,1=good")')
    labels: dict[str, str] = {}
    for part in arguments.labels.split(","):
        value, equals, word = part.partition("=")
        if not equals or not value.strip() or not word.strip():
            raise InputError(f'--labels: {part!r} is not VALUE=WORD; expected something like "0=bad,1=good"')
        labels[value.strip()] = word.strip()
    name = arguments.train.parent.name or arguments.train.stem
    train, dev, test = (path and path.resolve() for path in (arguments.train, arguments.dev, arguments.test))
    return make_task(arguments.template, labels, train, dev, test, name=name), None


def task_named(name: str, data: Path | None) -> Task:
    """An embedded task, a TOML's, or a published one with the user's files. Errors: InputError, TaskError."""
    if name not in published_tasks():
        if data is not None:
            known = ", ".join(published_tasks())
            raise InputError(f"--data holds the files of a published task, which {name!r} is not: {known}")
        return load_task(name)
    if data is None:
        raise InputError(f"task {name!r} comes without its data: give the folder of its files with --data DIR")
    return load_published(name, data.resolve())


def task_of(config: dict[str, Any]) -> Task:
    """The task a run was started with, from its config.json (`saved_run`). Errors: TaskError."""
    saved = config["task"]
    if saved.get("source") in {task.name for task in embedded_tasks()}:
        return load_task(saved["source"])
    files = (saved.get(split) for split in ("train", "dev", "test"))
    about = {name: saved[name] for name in _TASK_FIELDS if saved.get(name) is not None}
    return make_task(saved["template"], saved["labels"], *files, **about)
