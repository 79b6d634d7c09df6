"""What is asked of the model: a template with one mask, and a word for every label.

For a sentence-embedding model the template has no mask, and a label's word may be a phrase.

    >>> from zopog_models import make_task
    >>> task = make_task("{text} . it was {mask} .", {"0": "bad", "1": "good"})
    >>> task.slots
    ('text',)
"""

from __future__ import annotations  # signatures show names, not what these stand for

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zopog_models.errors import RepeatedKey, TaskError
from zopog_models.files.quoting import quoted
from zopog_models.files.repeated_keys import once

__all__ = [
    "METRICS",
    "POSITIONS",
    "QUOTINGS",
    "Task",
    "TaskError",
    "is_text",
    "make_task",
    "replace_template",
    "require_mask",
]

METRICS = ("accuracy", "macro_f1", "matthews")
QUOTINGS = ("", "none", "double")
POSITIONS = ("before", "after")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_SLOTS = (("text",), ("text_a", "text_b"))


@dataclass(frozen=True)
class Task:
    """What is asked of the model.

    template holds {text}, or {text_a} and {text_b}, and {mask} once; {sep} stands for the model's separator token. A
    sentence-embedding model has no {mask}: `require_mask` and `encode` see to it that template and model go together.
    labels: label value -> label word, in the order of the class indices. text_columns: the columns of the data files
    that fill the template's texts, in order; label_column: of the label; rows whose label is in skip_labels are left
    out. metric: how predictions are scored. quoting: of the fields of .tsv, .txt and .csv files: "double" (a field may
    stand between quote marks, which then are no text), "none" (a quote mark is text), "" (double in .csv alone).
    first_pieces: a label word of several tokens is scored by the first of them; summed_pieces: by the sum over all.
    position: where the prompt stands, "before" the template or "after" its last text.
    templates: several that ask the same, of which `template` is the first; default: none but that one.
    """

    name: str
    template: str
    labels: Mapping[str, str]
    train: Path | None = None
    dev: Path | None = None
    test: Path | None = None
    description: str = ""
    metric: str = "accuracy"
    text_columns: tuple[str, ...] = ("text",)
    label_column: str = "label"
    skip_labels: tuple[str, ...] = ()
    quoting: str = ""
    templates: tuple[str, ...] = ()
    first_pieces: bool = False
    summed_pieces: bool = False
    position: str = "before"

    @property
    def slots(self) -> tuple[str, ...]:
        """("text",) or ("text_a", "text_b")."""
        return _checked_template(self.template)


def make_task(
    template: str,
    labels: Mapping[str, str],
    train: str | Path | None = None,
    dev: str | Path | None = None,
    test: str | Path | None = None,
    *,
    name: str = "custom",
    description: str = "",
    metric: str = "accuracy",
    text_columns: Sequence[str] | None = None,
    label_column: str = "label",
    skip_labels: Sequence[str] = (),
    quoting: str = "",
    templates: Sequence[str] = (),
    first_pieces: bool = False,
    summed_pieces: bool = False,
    position: str = "before",
) -> Task:
    """A checked task. Raises TaskError: two masks, unknown placeholders, fewer than two labels, an unknown metric."""
    slots = _checked_template(template)
    for other in templates:
        if not isinstance(other, str) or _checked_template(other) != slots or templates[0] != template:
            raise TaskError(
                f"task {quoted(name)}: templates must be templates with the same texts, the first of them the task's "
                f"template {quoted(template)}; got {quoted(other)}"
            )
    columns = tuple(text_columns) if text_columns is not None else slots
    if len(columns) != len(slots) or not all(isinstance(column, str) for column in columns):
        raise TaskError(f"task {quoted(name)}: text_columns {quoted(columns)} do not match the template's {slots}")
    if twice := [column for column in columns if [*columns, label_column].count(column) > 1]:
        what = "as the label too" if twice[0] == label_column else "for two texts"
        raise TaskError(f"task {quoted(name)}: the column {quoted(twice[0])} is given {what}; name each column once")
    for text in (name, template, description, *map(str, labels), *labels.values(), *columns):
        if isinstance(text, str) and not is_text(text):
            raise TaskError(f"task {quoted(name)}: {quoted(text)} is no text (half a surrogate pair)")
    if len(labels) < 2:
        raise TaskError(f"task {quoted(name)}: at least two labels are needed, got {quoted(dict(labels))}")
    for value, word in labels.items():
        if not isinstance(word, str) or not word.strip():
            raise TaskError(f"task {quoted(name)}: label {quoted(value)} needs a label word, got {quoted(word)}")
    if metric not in METRICS:
        raise TaskError(f"task {quoted(name)}: unknown metric {quoted(metric)}; known: {', '.join(METRICS)}")
    if quoting not in QUOTINGS:
        raise TaskError(f'task {quoted(name)}: unknown quoting {quoted(quoting)}; known: "none", "double"')
    train, dev, test = (None if file is None else Path(file) for file in (train, dev, test))
    if position not in POSITIONS:
        raise TaskError(f"task {quoted(name)}: unknown position {quoted(position)}; known: {', '.join(POSITIONS)}")
    if first_pieces and summed_pieces:
        raise TaskError(f"task {quoted(name)}: label words are scored by their first token, or by the sum over all")
    try:
        words = once((str(value), word) for value, word in labels.items())
    except RepeatedKey as error:  # 1 and "1", say
        raise TaskError(f"task {quoted(name)}: of the labels {error}") from None
    skipped = tuple(skip_labels)
    return Task(
        name, template, words, train, dev, test, description, metric, columns, label_column, skipped, quoting,
        tuple(templates), first_pieces, summed_pieces, position,
    )  # fmt: skip


def is_text(text: str) -> bool:
    """False for a string that UTF-8 cannot write: JSON may spell half a character, and no tokenizer reads it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def replace_template(task: Task, template: str) -> Task:
    """The same rows and labels with another template. Raises TaskError as `make_task`."""
    files = (task.train, task.dev, task.test)
    about = {"name": task.name, "description": task.description, "metric": task.metric}
    return make_task(
        template, task.labels, *files, **about, text_columns=task.text_columns, label_column=task.label_column,
        skip_labels=task.skip_labels, quoting=task.quoting,
        first_pieces=task.first_pieces, summed_pieces=task.summed_pieces, position=task.position,
    )  # fmt: skip


def require_mask(template: str) -> None:
    """Raises TaskError for a template without {mask}, which a masked or causal language model cannot answer."""
    if "{mask}" not in template:
        raise TaskError(
            f"the template must contain {{mask}} exactly once, got {quoted(template)} (of a sentence-embedding "
            "model, none)"
        )


def _checked_template(template: str) -> tuple[str, ...]:
    names = _PLACEHOLDER.findall(template)
    if names.count("mask") > 1:
        raise TaskError(f"the template must contain {{mask}} exactly once, got {quoted(template)}")
    slots = tuple(sorted(set(names) - {"mask", "sep"}))
    if slots not in _SLOTS or any(names.count(slot) != 1 for slot in slots):
        raise TaskError(
            f"the template must contain {{text}} once, or {{text_a}} and {{text_b}} once each, besides "
            f"{{mask}} and {{sep}}; got {quoted(template)}"
        )
    return slots
