"""The other commands: predict, tasks, methods, models, and how the command line fails."""

import csv
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from tests.app.conftest import SMALL, Run, asked
from zopog_models import load_prompt, save_prompt
from zopog_ref import __version__
from zopog_ref.app.run.presets import PRESET_FIELDS
from zopog_ref.app.scores.metrics import classification_metrics
from zopog_ref.app.tune.options import option
from zopog_ref.methods import METHODS, settings_class


@pytest.fixture(scope="module")
def tuned(small_task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from zopog_ref.app.command_line import main

    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["tune", "--task", str(small_task), *SMALL, "--out", str(folder), "--json"]) == 0
    return folder


def test_predict_from_the_command_line_and_stdin_agree(
    zopog: Run, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["a large wild cat", 'a "quoted" text, with\ttab', ""]
    code, out, _ = zopog("predict", tuned, "--text", *texts)
    assert code == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(json.dumps({"text": text}) for text in texts)))
    assert zopog("predict", tuned / "prompt", "-") == (0, out, "")
    answers = [json.loads(line) for line in out.splitlines()]
    assert [set(answer) for answer in answers] == [{"label", "probabilities"}] * 3


def test_predict_reads_what_tune_reads_and_passes_ids_through(zopog: Run, tuned: Path, tmp_path: Path) -> None:
    texts = ["a large wild cat", 'a "quoted" text, with a comma']
    plain = [json.loads(line) for line in zopog("predict", tuned, "--text", *texts)[1].splitlines()]
    wanted = [{"id": f"x{i}"} | answer for i, answer in enumerate(plain)]
    with open(tmp_path / "a.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("id", "text"), *((f"x{i}", text) for i, text in enumerate(texts))])
    lines = "\n".join(json.dumps({"id": f"x{i}", "text": text}) for i, text in enumerate(texts))
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "a.tsv").write_text("key\treview\n" + "\n".join(f"x{i}\t{text}" for i, text in enumerate(texts)))
    for name, options in (
        ("a.csv", []), ("a.jsonl", []), ("a.jsonl.gz", []), ("a.tsv", ["--text-column", "review", "--id-column", "key"]),
    ):  # fmt: skip
        code, out, error = zopog("predict", tuned, tmp_path / name, *options)
        assert code == 0, error
        assert [json.loads(line) for line in out.splitlines()] == wanted, name
    code, _, error = zopog("predict", tuned, tmp_path / "a.tsv")
    assert (code, "missing column text;" in error) == (2, True)
    own = tmp_path / "run"  # tuned on a file whose texts stand under `review`
    shutil.copytree(tuned, own)
    config = json.loads((own / "config.json").read_text())
    config["task"]["text_columns"] = ["review"]
    (own / "config.json").write_text(json.dumps(config))
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps({"review": text}) for text in texts))
    for name, ids in (("a.csv", True), ("a.jsonl", True), ("a.tsv", False), ("b.jsonl", False)):
        code, out, error = zopog("predict", own, tmp_path / name)
        assert (code, [json.loads(line) for line in out.splitlines()]) == (0, wanted if ids else plain), error
    code, _, error = zopog("predict", own, tmp_path / "b.jsonl", "--text-column", "text")
    assert (code, 'expected a JSON object with "text" (' in error) == (2, True)
    for name, lines, said in (
        ("c.csv", "foo\nx\n", "missing column review; the header has: foo"),
        ("c.jsonl", '{"foo": "x"}\n', 'expected a JSON object with "text" or "review" ('),
    ):
        (tmp_path / name).write_text(lines)
        code, _, error = zopog("predict", own, tmp_path / name)
        assert (code, said in error) == (2, True), error


def test_predict_reads_quote_marks_as_the_run_s_files_have_them(zopog: Run, tuned: Path, tmp_path: Path) -> None:
    text, run = 'a "large" wild cat', tmp_path / "run"
    shutil.copytree(tuned, run)
    config = json.loads((run / "config.json").read_text())
    (tmp_path / "x.tsv").write_text('id\ttext\n7\t"a ""large"" wild cat"\n')
    wanted = {"double": text, "none": '"a ""large"" wild cat"', "": '"a ""large"" wild cat"'}
    answers = {}
    for quoting, read in wanted.items():
        config["task"]["quoting"] = quoting
        (run / "config.json").write_text(json.dumps(config))
        code, out, error = zopog("predict", run, tmp_path / "x.tsv")
        assert code == 0, error
        answers[quoting] = json.loads(out)
        assert answers[quoting] == {"id": "7"} | json.loads(zopog("predict", run, "--text", read)[1])
    assert answers["double"] != answers["none"]


def test_a_long_text_is_cut_and_counted(zopog: Run, tuned: Path) -> None:
    code, out, error = zopog("predict", tuned, "--text", "cat " * 1000, "a cat")
    assert (code, len(out.splitlines())) == (0, 2)
    assert "1 texts did not fit" in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to label"),
        (["/no/such.jsonl"], "cannot be read"),
        (["{bad}"], "line 2: expected a JSON object"),
        (["{number}"], "line 1: the texts must be strings"),
        (["{latin}"], "not UTF-8"),
        (["{twice}"], "line 1: expected a JSON object with \"text\" (RepeatedKey: the key 'text' is there twice"),
        (["{nan}"], "line 1: expected a JSON object with"),  # its id would be written as what is no JSON
        (["{ids}.tsv"], "the column 'id' is there twice"),
    ],
)
def test_predict_refuses(zopog: Run, tuned: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "bad").write_text('{"text": "fine"}\n{"words": "no"}\n')
    (tmp_path / "number").write_text('{"text": 5}\n')
    (tmp_path / "latin").write_bytes(b'{"text": "\xff"}\n')
    (tmp_path / "twice").write_text('{"text": "a cat", "text": "a city"}\n')
    (tmp_path / "nan").write_text('{"text": "a cat", "id": [NaN]}\n')
    (tmp_path / "ids.tsv").write_text("id\tid\ttext\n1\t2\ta cat\n")
    names = ("bad", "number", "latin", "twice", "nan", "ids")
    filled = [argument.format(**{name: tmp_path / name for name in names}) for argument in arguments]
    code, _, error = zopog("predict", tuned, *filled)
    assert code == 2
    assert words in error


def test_predict_without_a_run(zopog: Run, tmp_path: Path) -> None:
    code, _, error = zopog("predict", tmp_path / "nothing", "--text", "x")
    assert (code, "neither a run folder" in error) == (2, True)


def test_a_prompt_of_another_model_is_refused(zopog: Run, tuned: Path) -> None:
    original = load_prompt(tuned / "prompt")
    save_prompt(tuned / "prompt", replace(original, model_sha256="0" * 64))
    try:
        code, _, error = zopog("predict", tuned, "--text", "x")
    finally:
        save_prompt(tuned / "prompt", original)
    assert code == 2
    assert "0000" in error


@pytest.mark.parametrize(("command", "name"), [("tasks", "supersense"), ("methods", "zo-pog"), ("models", "embedded")])
def test_lists(zopog: Run, command: str, name: str) -> None:
    code, out, _ = zopog(command)
    assert code == 0
    assert any(line.startswith(name) for line in out.splitlines())
    rows = json.loads(zopog(command, "--json")[1])
    assert name in [row["name"] for row in rows]


@pytest.mark.parametrize(("name", "page"), [("auto", "docs/auto.md"), ("none", "docs/readout.md")])
def test_methods_without_a_search_are_listed_with_their_page(zopog: Run, name: str, page: str) -> None:
    assert any(line.startswith(f"{name} ") and page in line for line in zopog("methods")[1].splitlines())
    code, out, _ = zopog("methods", name)
    assert (code, out.startswith(f"{name}: "), page in out) == (0, True, True)
    assert json.loads(zopog("methods", name, "--json")[1]) == []


@pytest.mark.parametrize("arguments", [["nonsense"], ["tune", "--no-such-option"]])
def test_unknown_words_are_refused(zopog: Run, arguments: list[str]) -> None:
    code, out, error = zopog(*arguments)
    assert (code, out) == (2, "")
    assert "usage" in error


def test_help_answers(zopog: Run) -> None:
    assert zopog("--help") == zopog()
    assert "--eta-alpha" in zopog("tune", "--help-all")[1]


def test_the_help_of_tune_fits_a_screen_and_leaves_settings_to_methods(
    zopog: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = zopog("tune", "--help")[1]
    assert len(text.splitlines()) < 80
    assert "--eta-alpha" not in text
    assert "--label-column NAME" in text  # beside --text-column: own data seldom calls it label
    for section in ("task and data", "method", "budget", "readout", "model here", "model served", "machine"):
        assert f"\n{section}" in text


def test_every_setting_has_a_meaning_a_type_and_defaults(zopog: Run) -> None:
    for name in METHODS:
        rows = json.loads(zopog("methods", name, "--json")[1])
        assert [row["option"] for row in rows if not row["about"]] == []
        assert [row["option"] for row in rows[len(PRESET_FIELDS) :]] == [
            option(field.name) for field in fields(settings_class(name))
        ]
    [gumbel] = [row for row in json.loads(zopog("methods", "zo-pog", "--json")[1]) if row["option"] == "--gumbel"]
    assert gumbel["choices"] == ["per_sample", "per_step", "none"]
    assert (gumbel["embedded"], gumbel["paper"], gumbel["symbol"]) == ("none", "per_step", "g")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["comapre"], "'compare'"),
        (["tune", "--butget", "3"], "'--budget'"),
        (["tune", "--method", "zopog"], "'zo-pog'"),
        (["tune", "--task", "supersens"], "'supersense'"),
        (["methods", "bppl"], "'bdpl'"),
    ],
)
def test_typing_mistakes_get_a_suggestion(zopog: Run, arguments: list[str], meant: str) -> None:
    code, _, error = zopog(*arguments)
    assert (code, f"did you mean {meant}?" in error) == (2, True)


@pytest.mark.parametrize(
    ("line", "offered"), [("zopog tu", {"tune"}), ("zopog tune --eta", {"--eta-alpha", "--eta-z", "--eta-p"})]
)
def test_a_shell_is_told_commands_and_options(line: str, offered: set[str], tmp_path: Path) -> None:
    pytest.importorskip("argcomplete", reason="completion needs argcomplete (extra completion)")
    asked_by = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": " "}
    asked_by["_ARGCOMPLETE_STDOUT_FILENAME"] = str(tmp_path / "out")
    subprocess.run([sys.executable, "-m", "zopog_ref"], env=os.environ | asked_by, check=True)
    assert set((tmp_path / "out").read_text().split()) == offered


def test_quiet_leaves_errors_and_answers(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    code, out, error = zopog("tune", "--task", small_task, *SMALL, "--out", tmp_path / "run", "-q")
    assert (code, error) == (0, "")
    assert "test accuracy" in out
    assert "already holds a run" in zopog("tune", "--task", small_task, *SMALL, "--out", tmp_path / "run", "-q")[2]


def test_names_may_be_spelled_as_the_papers_do() -> None:
    config, _ = asked(["--method", "ZO-PoG", "--task", "SuperSense"])
    assert (config.method, config.task.name) == ("zo-pog", "supersense")


def test_columns_of_own_data_are_named(tmp_path: Path) -> None:
    own = ["--train", str(tmp_path / "my.csv"), "--template", "{text} . {mask} .", "--labels", "0=bad,1=good"]
    config, _ = asked([*own, "--text-column", "review", "--label-column", "stars"])
    assert (config.task.text_columns, config.task.label_column) == (("review",), "stars")


def test_python_m_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "zopog_ref", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"zopog-ref {__version__}\n"), done.stderr
    wrong = subprocess.run([sys.executable, "-m", "zopog_ref", "no-such-command"], capture_output=True, text=True)
    assert (wrong.returncode, "usage: zopog" in wrong.stderr) == (2, True)


def test_missing_packages_name_the_extra(zopog: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    def missing(name: str):
        raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")

    monkeypatch.setattr(importlib, "import_module", missing)
    code, _, error = zopog("tasks")
    assert code == 2
    assert "pip install onnxruntime;" in error
    assert 'pip install ".[cpu]" in a clone, "zopog-ref[cpu]" elsewhere' in error


def test_metrics_by_hand() -> None:
    metrics = classification_metrics([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 0], ["a", "b", "c"])
    assert metrics["accuracy"] == pytest.approx(4 / 6)
    assert metrics["majority"] == pytest.approx(3 / 6)
    assert metrics["macro_f1"] == pytest.approx((2 * 2 / 6 + 2 * 2 / 5 + 0) / 3)
    # Matthews, multi-class: (4*6 - (3*3 + 2*3 + 1*0)) / sqrt(36 - 14) / sqrt(36 - 18)
    assert metrics["matthews"] == pytest.approx(9 / (22**0.5 * 18**0.5))
    # As scikit-learn: a class that is predicted and never true counts, one that is neither does not.
    never_true = classification_metrics([2, 2, 1, 1, 1], [2, 0, 2, 2, 0], ["a", "b", "c", "d"])
    assert never_true["macro_f1"] == pytest.approx((0 + 0 + 2 * 1 / 5) / 3)
    assert classification_metrics([0, 0], [0, 0], ["a", "b"])["macro_f1"] == 1.0
    assert metrics["confusion"] == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert classification_metrics([0, 0], [1, 1], ["a", "b"])["matthews"] == 0.0
