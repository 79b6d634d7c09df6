"""SIGKILL and SIGTERM in the middle of every method: resumed, the run ends as if nothing had happened.

200 kills: python benchmarks/kills.py --kills 200.
"""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.app.conftest import Run, same_run
from tests.faults.killing import OPTIONS, PATIENCE, Starter, Tiny, go, kill_often
from zopog_ref.methods import METHODS


def test_every_method_of_the_registry_is_killed() -> None:
    assert OPTIONS.keys() == METHODS.keys()


@pytest.mark.parametrize("method", OPTIONS)
def test_a_killed_run_ends_as_if_nothing_had_happened(starts: Starter, tiny: Tiny, tmp_path: Path, method: str) -> None:
    killed = kill_often(starts, tiny, method, 2, tmp_path)
    assert killed.kills.total() == 2
    assert killed.same == killed.runs >= 1


def test_killed_before_every_single_change_to_a_file(starts: Starter, tiny: Tiny, tmp_path: Path) -> None:
    """All moments there are, one after another: between two changes to files a kill has nothing else to leave behind."""
    options = tiny.options("random-search")
    options[options.index("--budget") + 1] = "8"  # two steps
    whole, said = tmp_path / "whole", tmp_path / "said"
    assert go(starts, ["tune", *options, "--out", str(whole)], said) == 0, said.read_text()
    for operation in range(1, 100):
        out = tmp_path / str(operation)
        code = go(starts, ["tune", *options, "--out", str(out)], said, (operation, signal.SIGKILL, str(out), ()))
        if code == 0:  # it has no further file to change
            break
        assert code == -signal.SIGKILL, said.read_text()
        begun = (out / "config.json").exists()
        again = ["tune", "--resume", str(out)] if begun else ["tune", *options, "--out", str(out)]
        assert go(starts, again, said) == 0, said.read_text()
        assert same_run(whole, out), operation
        assert not list(out.glob("**/.*.part")), operation
    assert 20 < operation < 99


def test_a_run_that_loses_a_step_is_noticed(starts: Starter, tiny: Tiny, tmp_path: Path) -> None:
    """The twin: of a run whose last line of the curve was changed, the comparison says no."""
    for name in "ab":
        assert (
            go(starts, ["tune", *tiny.options("random-search"), "--out", str(tmp_path / name)], tmp_path / "said") == 0
        )
    assert same_run(tmp_path / "a", tmp_path / "b")
    lines = (tmp_path / "b" / "curve.jsonl").read_text().splitlines()
    last = json.loads(lines[-1]) | {"calls": 0}
    (tmp_path / "b" / "curve.jsonl").write_text("\n".join([*lines[:-1], json.dumps(last)]) + "\n")
    assert not same_run(tmp_path / "a", tmp_path / "b")


def test_a_second_run_on_the_same_folder_is_refused_and_the_first_goes_on(
    starts: Starter, tiny: Tiny, tmp_path: Path, zopog: Run
) -> None:
    """Both ways of starting a second one, while a real process holds the folder; then a polite end of the first."""
    out, options = tmp_path / "run", tiny.options("zo-pog")
    options[options.index("--budget") + 1] = "1000000"
    process = starts.start(["tune", *options, "--out", str(out)], tmp_path / "said")
    while not (out / "config.json").exists():
        assert starts.ended(0.002) is None
    for arguments, message in (
        (["--resume", out], "another process is running"),
        ([*options, "--out", out], "already holds a run"),
    ):
        code, _, error = zopog("tune", *arguments)
        assert (code, message in error) == (2, True), error
    os.kill(process, signal.SIGTERM)
    assert starts.ended(PATIENCE) == 130
    assert "stopped and saved after" in (tmp_path / "said").read_text()
