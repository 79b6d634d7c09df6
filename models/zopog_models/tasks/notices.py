"""What is odd about labelled rows, in one line each: said, counted, and left to whoever knows the data.

Texts are compared as they are read, without the white space around them.
"""

from collections import defaultdict
from collections.abc import Mapping
from itertools import combinations

from zopog_models.files.quoting import quoted
from zopog_models.tasks.task_files import Rows
from zopog_models.tasks.template import Task

__all__ = ["data_notices"]

_Row = tuple[tuple[str, ...], int]


def data_notices(splits: Mapping[str, Rows], task: Task) -> list[str]:
    """Lines about the rows of "train", "dev", "test" (any of them), in the order of the splits; [] where all is well.

    Splits that hold the same rows; rows of one that are in another too; empty texts; rows that are there several times;
    labels that no test row has; a text with several labels; columns whose every field stands between quote marks.
    """
    rows = {name: _stripped(found) for name, found in splits.items()}
    notices = _shared(rows)
    for name, found in rows.items():
        notices += _of_one(name, found, task)
    return notices


def _stripped(rows: Rows) -> list[_Row]:
    return [
        (tuple(text.strip() for text in texts), int(label))
        for texts, label in zip(rows.texts, rows.labels, strict=True)
    ]


def _shared(rows: Mapping[str, list[_Row]]) -> list[str]:
    """Rows that are in several splits."""
    groups: dict[tuple[_Row, ...], list[str]] = defaultdict(list)
    for name, found in rows.items():
        groups[tuple(sorted(found))].append(name)
    notices = [
        f"{_listed(names)} hold the same {len(found)} rows: scores on them say nothing about other texts"
        for found, names in groups.items()
        if len(names) > 1 and found
    ]
    same = {frozenset(pair) for names in groups.values() for pair in combinations(names, 2)}
    for one, other in combinations(rows, 2):
        if frozenset((one, other)) in same:
            continue
        seen = {texts for texts, _ in rows[one]}
        if count := sum(texts in seen for texts, _ in rows[other]):
            notices.append(f"{count} of {len(rows[other])} rows of {other} are in {one} too")
    return notices


def _of_one(name: str, rows: list[_Row], task: Task) -> list[str]:
    notices = []
    if empty := sum(not all(texts) for texts, _ in rows):
        notices.append(f"{empty} of {len(rows)} rows of {name} have an empty text")
    said = [row for row in rows if any(row[0])]
    if repeated := len(said) - len(set(said)):
        notices.append(f"{repeated} of {len(rows)} rows of {name} repeat an earlier row, so fewer tell something")
    there = {label for _, label in rows}
    absent = [quoted(value) for i, value in enumerate(task.labels) if i not in there]
    if rows and name == "test" and absent:
        notices.append(f"no row of test has the label {' or '.join(absent)}")
    labels: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for texts, label in rows:
        labels[texts].append(label)
    opposed = [(texts, found) for texts, found in labels.items() if len(set(found)) > 1]
    if opposed:
        texts, found = opposed[0]
        values = list(task.labels)
        count = sum(len(found) for _, found in opposed)
        shown = " and ".join(quoted(values[label]) for label in dict.fromkeys(found))
        notices.append(
            f"{len(opposed)} texts of {name}, in {count} rows, stand with different labels: "
            f"{quoted(texts[0])} with {shown}"
        )
    for place, column in enumerate(task.text_columns):
        fields = [texts[place] for texts, _ in rows]
        if fields and all(len(field) > 1 and field[0] == field[-1] == '"' for field in fields):
            notices.append(
                f"all {len(fields)} fields of column {quoted(column)} of {name} stand between quote marks, which are "
                'read as text: quoting = "double" in the task\'s TOML takes them off'
            )
    return notices


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]])
