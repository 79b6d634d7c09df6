"""What a command writes and how it is asked: UTF-8 for programs, nothing that steers a terminal, options in any order."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.app.conftest import SMALL, Run
from zopog_models.files.suggestions import did_you_mean
from zopog_ref.app.output import printable

# an accented letter, Cyrillic, a letter of four bytes, a control character of eight bits, a change of direction
VALUES = ["caf\u00e9", "\u0434\u0430", "\U0001f600", "x\u009b2J", "a\u202eb"]
WORDS = ["animal", "food", "person", "plant", "object"]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from zopog_ref.app.command_line import main

    folder = tmp_path_factory.mktemp("labels")
    rows = [f"a thing number {i}\t{value}" for i in range(12) for value in VALUES]
    (folder / "mine.tsv").write_text("text\tlabel\n" + "\n".join(rows) + "\n", "utf-8")
    labels = ",".join(f"{value}={word}" for value, word in zip(VALUES, WORDS))
    data = ["--train", folder / "mine.tsv", "--template", "{text} . {mask} .", "--labels", labels]
    assert main([str(word) for word in ("tune", *data, *SMALL, "--out", folder / "run")]) == 0
    return folder / "run"


def process(*command: object, encoding: str = "utf-8") -> "subprocess.CompletedProcess[bytes]":
    full = [sys.executable, "-m", "zopog_ref", *(w if isinstance(w, bytes) else str(w) for w in command)]
    return subprocess.run(full, capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding}, check=False)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-16"])
def test_machine_output_is_utf_8_whatever_the_terminal(labelled: Path, tmp_path: Path, encoding: str) -> None:
    command = ["predict", labelled, "--text", "a cat", "a tree"]
    found, right = process(*command, encoding=encoding), process(*command)
    assert found.returncode == 0, found.stderr
    assert found.stdout == right.stdout
    answers = [json.loads(line) for line in found.stdout.decode().splitlines()]
    assert [list(answer["probabilities"]) for answer in answers] == [VALUES] * 2
    (tmp_path / "out.jsonl").write_bytes(
        b"".join(b'{"text": ' + json.dumps(a["label"]).encode() + b"}\n" for a in answers)
    )
    assert process("predict", labelled, tmp_path / "out.jsonl").returncode == 0  # its own reader takes it


def test_what_steers_a_terminal_is_escaped_everywhere(labelled: Path, tmp_path: Path) -> None:
    baked = process("bake", labelled, "--out", tmp_path / "x.onnx")
    assert baked.returncode == 0, baked.stderr
    machine = process("predict", labelled, "--text", "a cat")
    refused = process("tune", "--resume", tmp_path / "no\u202esuch\u009b")
    for written in (baked.stdout, machine.stdout, refused.stderr):
        text = written.decode()
        assert not set(text) & {"\u009b", "\u202e"}
    assert r"x\x9b2J" in baked.stdout.decode()
    assert r"a\u202eb" in baked.stdout.decode()
    assert printable("a\x1b[31m\u2066b\n\tc") == r"a\x1b[31m\u2066b" + "\n\tc"


def test_a_text_that_is_not_utf_8_is_to_blame_itself(labelled: Path) -> None:
    for text in (b"caf\xe9", b"\xff\xfe", b"half \xe2\x82"):
        found = process("predict", labelled, "--text", text)
        assert found.returncode == 2
        assert b"--text" in found.stderr
        assert b"not UTF-8" in found.stderr
        assert b"tokenizer.json" not in found.stderr


ORDERS: list[list[str]] = [
    ["RUN", "--threads", "1", "ROWS"],
    ["--threads", "1", "RUN", "ROWS"],
    ["RUN", "ROWS", "--threads", "1"],
    ["--threads", "1", "RUN", "--device", "cpu", "ROWS", "--json"],
]


@pytest.mark.parametrize("order", ORDERS)
def test_options_and_files_in_any_order(zopog: Run, labelled: Path, tmp_path: Path, order: list[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a cat"}\n')
    names: dict[str, Any] = {"RUN": labelled, "ROWS": rows}
    code, out, error = zopog("predict", *(names.get(word, word) for word in order))
    assert code == 0, error
    assert len(out.splitlines()) == 1


@pytest.mark.parametrize("order", [["--out", "FILE", "RUN"], ["RUN", "--threads", "1", "--out", "FILE"]])
def test_bake_in_any_order(zopog: Run, labelled: Path, tmp_path: Path, order: list[str]) -> None:
    names: dict[str, Any] = {"RUN": labelled, "FILE": tmp_path / "x.onnx"}
    assert zopog("bake", *(names.get(word, word) for word in order))[0] == 0


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        (["tun"], "'tune'"), (["Predct", "x"], "'predict'"), (["tune", "--taks", "sst2"], "'--task'"),
        (["tune", "--n-postions", "3"], "'--n-positions'"), (["tune", "--method", "bpdl"], "'bdpl'"),
        (["tune", "--method", "ZO-PoGG"], "'zo-pog'"), (["tune", "--task", "SuperSence"], "'supersense'"),
        (["tune", "--model", "roberta-large"], "'FacebookAI/roberta-large'"), (["tune", "--model", "Embeded"], "'embedded'"),
        (["bake", "x", "--ouy", "y", "--out", "z"], "'--out'"),
    ],
)  # fmt: skip
def test_what_was_meant_is_suggested(zopog: Run, command: list[str], meant: str) -> None:
    code, _, error = zopog(*command)
    assert code == 2
    assert f"did you mean {meant}?" in error


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    assert did_you_mean("xyzzy", ["tune", "predict"]) == ""
    assert did_you_mean("", []) == ""
    assert did_you_mean("PREDICT", ["tune", "predict"]) == "; did you mean 'predict'?"


@pytest.mark.parametrize("option", [["--seed", "99"], ["--shots", "16"], ["--task", "x"], ["--budget", "9"]])
def test_what_resume_would_pass_over_is_refused(zopog: Run, labelled: Path, option: list[str]) -> None:
    code, _, error = zopog("tune", "--resume", labelled, *option)
    assert code == 2
    assert f"{option[0]}: fixed when the run was started" in error


def test_other_versions_and_an_edited_configuration_are_said(zopog: Run, labelled: Path, tmp_path: Path) -> None:
    import shutil

    for number, (part, change) in enumerate(
        {"numpy": ("versions", "1.0.0"), "zopog-ref": ("versions", "0.0.1"), "budget": ("preset", 121)}.values()
    ):
        folder = Path(shutil.copytree(labelled, tmp_path / str(number)))
        (folder / "result.json").unlink()
        config = json.loads((folder / "config.json").read_text("utf-8"))
        config[part][("numpy", "zopog-ref", "budget")[number]] = change
        (folder / "config.json").write_text(json.dumps(config), "utf-8")
        code, _, error = zopog("tune", "--resume", folder)
        assert code == 0, error
        assert "config.json was edited since the last step" in error
        assert ("this run was started with" in error) == (part == "versions")
    folder = Path(shutil.copytree(labelled, tmp_path / "untouched"))
    (folder / "result.json").unlink()
    code, _, error = zopog("tune", "--resume", folder)
    assert code == 0
    assert "edited" not in error
    assert "was started with" not in error
