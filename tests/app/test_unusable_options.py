"""Options that cannot be meant, named before anything is loaded; and what a command leaves that a signal ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.conftest import Run


@pytest.mark.parametrize(
    "arguments",
    [
        ["tune", "--out", ""], ["tune", "--task", ""], ["tune", "--resume", ""], ["tune", "--model", ""],
        ["tune", "--train", ""], ["predict", "", "--text", "a"], ["predict", "run", ""], ["show", ""],
        ["export", "--checkpoint", "", "--out", "x"], ["compare", "--tasks", ""], ["compare", "--methods="],
    ],
)  # fmt: skip
def test_a_variable_that_is_not_set_is_no_place(
    zopog: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str]
) -> None:
    """An empty name was the folder where one stands, or the default."""
    monkeypatch.chdir(tmp_path)
    code, _, error = zopog(*arguments)
    assert (code, "it is empty: if a variable stands there, it is not set" in error) == (2, True), error
    assert not list(tmp_path.iterdir())


LABELS = ["--labels", "0=bad,1=good", "--template", "{text} {mask}"]
PAIR = ["--labels", "0=bad,1=good", "--template", "{text_a} {mask} {text_b}", "--method", "none"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tune", "--threads", 0], "--threads is 0; it must be at least 1"),
        (["predict", "run", "--threads", -1], "--threads is -1; it must be at least 1"),
        (["bake", "run", "--out", "x", "--threads", 0], "--threads is 0; it must be at least 1"),
        (["compare", "--threads", 0], "--threads is 0; it must be at least 1"),
        (["tune", "--budget", 2**53], f"--budget is {2**53}; it must be less than 2^53"),
        (["tune", "--readout-tokens", 2**70], f"--readout-tokens is {2**70}; it must be less than 2^53"),
        (["tune", "--method", "none", "--budget", 2], "budget is 2 calls and the template's scores cost 3: raise it"),
        (
            ["tune", "--method", "none", "--readout", "none", "--budget", 1],
            "is 1 calls and the template's scores cost 3",
        ),
        (["tune", "--method", "random-search", "--samples", 1, "--budget", 8], "one step costs 3 and the readouts 6"),
        (["tune", "--train", "same.tsv", *LABELS, "--method", "none"], "all training rows are one text"),
        (["tune", "--train", "same.tsv", *LABELS, "--method", "bdpl"], "all training rows are one text"),
        (["tune", "--train", "pair.tsv", *PAIR, "--text-column", "a", "--text-column", "a"], "the column 'a' is given"),
        (["tune", "--train", "pair.tsv", *PAIR, "--text-column", "a", "--text-column", "label"], "the column 'label'"),
        (["tune", "--dim", 9 * 10**9], "lower --dim 9000000000"),
    ],
)
def test_numbers_that_cannot_be_are_named(
    zopog: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[object], words: str
) -> None:
    """They ended in a traceback, were blamed on the run's own config.json, or were named after a search."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "same.tsv").write_text("text\tlabel\n" + "one or two\t0\none or two\t1\n" * 20)
    (tmp_path / "pair.tsv").write_text("a\tb\tlabel\n" + "one\ttwo\t0\ntwo\tone\t1\n" * 20)
    code, _, error = zopog(*arguments)
    assert (code, words in error) == (1 if "lower" in words else 2, True), error
    assert not (tmp_path / "runs").exists()


ENDED = """
import signal, time, tempfile
from zopog_models.files.scratch import Scratch
from zopog_ref.app import listings
from zopog_ref.app.command_line import main

def run(arguments):
    kept = Scratch(), tempfile.TemporaryDirectory(prefix="zopog-")
    print("ready", flush=True)
    time.sleep(900)

listings.run = run
{hangup}
main(["models"])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_ended_leaves_no_temporary_files(tmp_path: Path, number: int) -> None:
    """A container that was stopped left half a gigabyte, each time, of every GGUF model."""
    for ignored in ("", "signal.signal(signal.SIGHUP, signal.SIG_IGN)"):  # as nohup does
        code = ENDED.format(hangup=ignored)
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        with subprocess.Popen([sys.executable, "-c", code], stdout=-1, text=True, env=environment) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            assert len(list(tmp_path.iterdir())) == 2
            process.send_signal(number)
            if ignored and number == signal.SIGHUP:
                process.send_signal(signal.SIGTERM)
            assert process.wait(60) == -(signal.SIGTERM if ignored else number)
        assert not list(tmp_path.iterdir())
