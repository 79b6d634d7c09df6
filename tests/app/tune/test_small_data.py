"""What a few-shot user has: few rows, few words, one folder for all, a model that was moved."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.app.conftest import SMALL, Run
from zopog_models.errors import TaskError
from zopog_models.frozen.model import EMBEDDED_MODEL
from zopog_models.tasks.template import make_task
from zopog_ref.app.run.splits import draw

KINDS = {"animal": "a small furry animal that sleeps", "food": "sweet food made of fruit"}
OWN = ["--template", "{text} . {mask} .", "--labels", "0=animal,1=food"]


def rows(path: Path, counts: list[int]) -> Path:
    lines = [f"{text} {i}\t{c}" for c, (text, n) in enumerate(zip(KINDS.values(), counts)) for i in range(n)]
    path.write_text("text\tlabel\n" + "\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(("counts", "each"), [([16, 16], 8), ([31, 40], 15), ([16, 100], 8), ([32, 32], 16)])
def test_too_few_rows_for_train_and_dev_are_halved(tmp_path: Path, counts: list[int], each: int) -> None:
    drawn = draw(make_task("{text} {mask}", {"0": "animal", "1": "food"}, rows(tmp_path / "x.tsv", counts)), 1, 16)
    for split in (drawn.train, drawn.dev):
        assert [int((split.labels == c).sum()) for c in (0, 1)] == [each, each]
    assert not set(drawn.splits["train"].rows) & set(drawn.splits["dev"].rows)
    if sum(counts) > 4 * each:
        assert drawn.test is not None
        assert len(drawn.test.labels) == sum(counts) - 4 * each


def test_fewer_rows_than_shots_are_still_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="class '0' has 15 rows, but 16 shots were asked for"):
        draw(make_task("{text} {mask}", {"0": "animal", "1": "food"}, rows(tmp_path / "x.tsv", [15, 40])), 1, 16)


def test_one_row_of_a_class_is_not_said_to_be_none(tmp_path: Path) -> None:
    """It was taken to train on, so "class '1' has 0 rows" was said; and a dev file's lack was not said to be there."""
    task = make_task("{text} {mask}", {"0": "animal", "1": "food"}, rows(tmp_path / "x.tsv", [2, 1]))
    with pytest.raises(TaskError, match=r"x\.tsv: class '1' has one row, and one more is needed for dev: give --dev"):
        draw(task, 1, 1)
    dev = replace(task, train=rows(tmp_path / "y.tsv", [20, 20]), dev=task.train)
    with pytest.raises(TaskError, match=r"x\.tsv: class '0' has 2 rows, but 16 shots"):
        draw(dev, 1, 16)


def test_exactly_sixteen_rows_a_class_is_a_run_that_says_so(zopog: Run, tmp_path: Path) -> None:
    data = ["--train", rows(tmp_path / "mine.tsv", [16, 16]), *OWN, *SMALL, "--shots", 16, "--out", tmp_path / "run"]
    code, _, error = zopog("tune", *data)
    assert code == 0, error
    assert "16 shots were asked for; the rarest class has rows for 8 to train on and as many for dev" in error


def test_fewer_tokens_than_candidates_lower_n_with_a_notice(zopog: Run, tmp_path: Path) -> None:
    data = ["--train", rows(tmp_path / "mine.tsv", [8, 8]), *OWN, *SMALL, "--n-candidates", 500]
    code, _, error = zopog("tune", *data, "--out", tmp_path / "run")
    assert code == 0, error
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    count = len(config["candidates"])
    assert config["preset"]["n_candidates"] == count < 100
    assert f"500 candidate tokens were asked for, the texts hold {count}: N is {count}" in error
    (tmp_path / "run" / "result.json").rename(tmp_path / "first.json")
    code, _, error = zopog("tune", "--resume", tmp_path / "run")  # the lowered one is what the run has
    assert code == 0, error
    first, again = (json.loads(path.read_text()) for path in (tmp_path / "first.json", tmp_path / "run/result.json"))
    assert {**first, "seconds": 0} == {**again, "seconds": 0}


def test_what_is_odd_about_the_data_is_said(zopog: Run, tmp_path: Path) -> None:
    same = rows(tmp_path / "mine.tsv", [6, 6])
    data = ["--train", same, "--dev", same, "--test", same, *OWN, *SMALL, "--out", tmp_path / "run"]
    code, _, error = zopog("tune", *data)
    assert code == 0, error
    assert "rows of test are in train too" in error or "the same rows" in error


@pytest.mark.parametrize(("file", "name"), [("a.tsv", "a"), ("b.tsv", "b"), ("c.csv.gz", "c"), ("train.tsv", "FOLDER")])
def test_a_run_is_named_after_its_file(tmp_path: Path, file: str, name: str) -> None:
    from tests.app.conftest import asked

    path = tmp_path / file
    path.touch()
    config, _ = asked(["--train", str(path), *OWN])
    assert config.task.name == name.replace("FOLDER", tmp_path.name)


def test_out_that_is_a_file(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    code, _, error = zopog("tune", "--task", small_task, *SMALL, "--out", tmp_path / "file")
    assert code == 2
    assert "is a file; give the name of a folder" in error
    assert (tmp_path / "file").read_text() == "mine"


def test_a_model_that_was_moved_is_found_with_model(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    shutil.copytree(EMBEDDED_MODEL, tmp_path / "before")
    model = ["--model", tmp_path / "before", "--settings", "embedded"]
    assert zopog("tune", "--task", small_task, *SMALL, *model, "--out", tmp_path / "run")[0] == 0
    (tmp_path / "before").rename(tmp_path / "after")
    (tmp_path / "run" / "result.json").unlink()
    for command in (["tune", "--resume", tmp_path / "run"], ["predict", tmp_path / "run", "--text", "a cat"]):
        code, _, error = zopog(*command)
        assert code == 2
        assert "no longer at" in error
        assert "--model FOLDER" in error
        code, _, error = zopog(*command, "--model", tmp_path / "after")
        assert code == 0, error
