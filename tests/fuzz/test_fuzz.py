"""A short run of every fuzz target with a fixed seed, and parsers broken on purpose, each of which must be found.

The long run: python -m tests.fuzz --seconds 3600.
"""

import os
import pickle
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("tokenizers", reason="the tokenizer's target needs tokenizers (extra cpu)")

from tests.fuzz import engine
from tests.fuzz.mutation import mutated
from tests.fuzz.targets import Target, targets

ROOT = Path(__file__).parents[2]


def test_every_parser_returns_or_raises_its_named_errors(tmp_path: Path) -> None:
    """In a process of its own, whose memory is bounded."""
    command = [sys.executable, "-m", "tests.fuzz", "--seconds", "40", "--inputs", "120", "--keep", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(["", *sys.path]), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    inputs, findings = map(int, re.findall(r"(\d+) inputs, (\d+) findings", done.stdout)[-1])
    assert (inputs > 20, findings) == (True, 0)


def test_valid_files_are_read(tmp_path: Path) -> None:
    """The first input of every target is a valid one: what is mutated is what a parser accepts."""
    for target in targets(tmp_path):
        outcome = engine.run(target, tmp_path / "root", seed=0, seconds=60, most=1)
        assert (outcome.values, outcome.found) == (1, []), target.name


class Named(Exception):
    """The broken parsers' own error."""


def _crash(folder: Path) -> None:
    if b"\0" in (folder / "x").read_bytes():
        raise KeyError("no such thing")


def _leave(folder: Path) -> None:
    if b"\0" in (folder / "x").read_bytes():
        (folder.parent / "outside").write_text("x")


def _peek(folder: Path) -> None:
    if b"\0" in (folder / "x").read_bytes():
        Path("/etc/hostname").exists()
        open("/dev/null").close()


def _hang(folder: Path) -> None:
    while b"\0" in (folder / "x").read_bytes():
        pass


def _evaluate(folder: Path) -> None:
    if b"\0" in (folder / "x").read_bytes():
        eval("1 + 1")


def _unpickle(folder: Path) -> None:
    if b"\0" in (folder / "x").read_bytes():
        pickle.loads(b"cbuiltins\nlen\n.")


def _talk(folder: Path) -> None:
    if b"\0" in (folder / "x").read_bytes():
        raise Named("x" * 100_000)


@pytest.mark.parametrize(
    ("broken", "what"),
    [(_crash, "KeyError"), (_leave, "outside"), (_peek, "open '/dev/null'"), (_hang, "TooSlow"), (_evaluate, "exec"),
     (_unpickle, "pickle.find_class"), (_talk, "a message of")],
)  # fmt: skip
def test_what_a_parser_must_not_do_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Callable[[Path], None], what: str
) -> None:
    monkeypatch.setattr(engine, "SECONDS_EACH", 0.2)
    target = Target("broken", {"x": b"some bytes"}, {"x": lambda rng, data: data + rng.choice((b"", b"\0"))}, broken, (Named,))
    outcome = engine.Outcome()
    for files in ({"x": b"fine"}, {"x": b"not \0 fine"}):
        engine.try_one(target, files, tmp_path, outcome)
    assert [what in found for found, _ in outcome.found] == [True], outcome.found


def test_a_seed_gives_the_same_mutants_again() -> None:
    rows = [[mutated(random.Random(seed), b"text\tlabel\nx\t1\n") for _ in range(3)] for seed in (1, 1, 2)]
    assert rows[0] == rows[1] != rows[2]
