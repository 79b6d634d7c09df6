"""notices: what is odd about the rows is said once, with counts; and of rows that are well nothing is."""

import numpy as np

from zopog_models import make_task
from zopog_models.tasks.notices import data_notices
from zopog_models.tasks.task_files import Rows

ONE = make_task("{text} {mask}", {"0": "bad", "1": "good"})
TWO = make_task("{text_a} {text_b} {mask}", {"0": "bad", "1": "good"})


def rows(*found: tuple[str, int]) -> Rows:
    return Rows([tuple(text.split("|")) for text, _ in found], np.array([label for _, label in found]))


def test_rows_that_are_well() -> None:
    splits = {"train": rows(("a", 0), ("b", 1)), "dev": rows(("c", 0)), "test": rows(("d", 1), ("e", 0))}
    assert data_notices(splits, ONE) == []
    assert data_notices({"train": rows(("a|b", 0), ("b|a", 1))}, TWO) == []


def test_splits_that_are_one() -> None:
    one, turned = rows(("a", 0), ("b", 1)), rows((" b ", 1), ("a", 0))
    notices = data_notices({"train": one, "dev": turned, "test": one}, ONE)
    assert notices == ["train, dev and test hold the same 2 rows: scores on them say nothing about other texts"]
    notices = data_notices({"train": one, "dev": rows(("c", 1)), "test": turned}, ONE)
    assert notices == ["train and test hold the same 2 rows: scores on them say nothing about other texts"]


def test_rows_in_two_splits() -> None:
    splits = {"train": rows(("a", 0), ("b", 1)), "dev": rows(("c", 0)), "test": rows(("b", 1), ("b", 0), ("c", 0))}
    assert data_notices(splits, ONE) == [
        "2 of 3 rows of test are in train too",
        "1 of 3 rows of test are in dev too",
        "1 texts of test, in 2 rows, stand with different labels: 'b' with '1' and '0'",
    ]


def test_empty_texts_and_opposite_labels() -> None:
    splits = {"train": rows(("", 0), ("  ", 0), ("a", 0), ("a ", 1), ("a", 1), ("b", 0))}
    assert data_notices(splits, ONE) == [
        "2 of 6 rows of train have an empty text",
        "1 of 6 rows of train repeat an earlier row, so fewer tell something",
        "1 texts of train, in 3 rows, stand with different labels: 'a' with '0' and '1'",
    ]
    assert data_notices({"dev": rows(("a|", 0))}, TWO) == ["1 of 1 rows of dev have an empty text"]


def test_rows_that_are_there_several_times() -> None:
    splits = {"train": rows(("a", 0), ("b", 1)), "test": rows(("c", 0), ("c ", 0), ("d", 1), ("c", 0), ("d", 0))}
    assert data_notices(splits, ONE) == [
        "2 of 5 rows of test repeat an earlier row, so fewer tell something",
        "1 texts of test, in 2 rows, stand with different labels: 'd' with '1' and '0'",
    ]


def test_a_label_that_no_test_row_has() -> None:
    assert data_notices({"test": rows(("a", 0), ("b", 0))}, ONE) == ["no row of test has the label '1'"]


def test_quoted_columns() -> None:
    found = data_notices({"train": rows(('"a"|b', 0), ('"c d"|"e"', 1))}, TWO)
    assert len(found) == 1
    assert found[0].startswith("all 2 fields of column 'text_a' of train stand between quote marks")
    assert data_notices({"train": rows(('"a"', 0), ('"', 1))}, ONE) == []
