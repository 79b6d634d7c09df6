"""`zopog tune --task rte --data DIR`: the papers' tasks on the user's files, and what is said when they are missing."""

import argparse
import json
import re
import shlex
from pathlib import Path

import pytest

from tests.app.conftest import SMALL, Run, asked, same_run
from zopog_models.tasks.published_tasks import published_tasks

NOUNS = ("cat", "dog", "tree", "house", "river", "stone", "bird", "road")


@pytest.fixture
def sst2(tmp_path: Path) -> Path:
    """SST-2's columns; 16 rows a class to train on, 4 to test."""
    folder = tmp_path / "SST-2"
    folder.mkdir()
    for name, count in (("train.tsv", 32), ("dev.tsv", 8)):
        rows = [f"{('a bad', 'a good')[i % 2]} {NOUNS[i // 2 % 8]} {i}\t{i % 2}" for i in range(count)]
        (folder / name).write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    return folder


def test_a_run_and_its_continuation(zopog: Run, sst2: Path, tmp_path: Path) -> None:
    from zopog_ref.app.errors import Interrupted
    from zopog_ref.app.tune.learning import learn

    options = ["--task", "bbt-sst2", "--data", str(sst2), *SMALL]
    code, out, error = zopog("tune", *options, "--out", tmp_path / "whole", "--json")
    assert code == 0, error
    result = json.loads(out)
    assert result["task"] == "bbt-sst2"
    assert result["test_metrics"]["rows"] == 8
    stops = iter([False, True])
    with pytest.raises(Interrupted):
        learn(*asked(options), tmp_path / "parts", lambda: next(stops, True), quiet=True)
    assert zopog("tune", "--resume", tmp_path / "parts", "--threads", 1, "--json")[0] == 0
    assert same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--task", "rte"], "task 'rte' comes without its data: give the folder of its files with --data DIR"),
        (["--data", "."], "which 'supersense' is not: agnews, "),
        (["--task", "nonsense", "--data", "."], "which 'nonsense' is not"),
        (["--train", "x.tsv", "--data", "."], "--train names a file of your own"),
        (["--task", "rte", "--data", "/no/such/folder"], "is no folder"),
    ],
)
def test_what_is_missing_is_said(zopog: Run, options: list[str], words: str) -> None:
    code, _, error = zopog("tune", *options)
    assert code == 2
    assert words in error


def test_they_are_listed(zopog: Run) -> None:
    rows = {row["name"]: row for row in json.loads(zopog("tasks", "--json")[1])}
    assert rows["bbt-snli"]["template"] == " . {text_a} ? {mask} , {text_b}"
    assert "with --data DIR" in rows["wnli"]["about"]
    assert "--data" not in rows["supersense"]["about"]


def documented_commands() -> list[str]:
    """Every zopog command of docs/reproduce.md, and each with the options of every table row below it."""
    text = (Path(__file__).parents[3] / "docs" / "reproduce.md").read_text("utf-8").replace("\\\n", " ")
    commands, latest = [], ""
    for line in text.splitlines():
        if line.strip().startswith("zopog "):
            latest = re.sub(r"\$\{\w+\W+\}", "rte", line.strip().replace("$seed", "42"))
            commands.append(latest)
        elif line.startswith("|") and (found := re.search(r"`(--[^`]+)`", line)):
            commands.append(f"{latest} {found.group(1)}")
    return commands


@pytest.mark.parametrize("command", documented_commands())
def test_the_documented_commands_parse(command: str) -> None:
    from zopog_ref.app.bench import command as bench
    from zopog_ref.app.run.config import RunConfig
    from zopog_ref.app.tune import command as tune
    from zopog_ref.app.tune.checks import check_numbers
    from zopog_ref.app.tune.choices import chosen_preset

    _, name, *options = shlex.split(command)
    parser = argparse.ArgumentParser(exit_on_error=False)
    {"tune": tune, "bench": bench}[name].add_arguments(parser)
    arguments = parser.parse_args(options)
    if name == "tune":
        published = published_tasks()[arguments.task]
        preset = chosen_preset(arguments.method, arguments.settings, vars(arguments))
        given = (arguments.settings, arguments.seed, arguments.shots)
        check_numbers(RunConfig(published.task, None, arguments.model, preset, *given))


def test_there_are_documented_commands() -> None:
    assert len(documented_commands()) > 12
    assert any("bbt-dbpedia" in command for command in documented_commands())
