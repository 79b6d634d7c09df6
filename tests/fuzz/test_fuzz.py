"""A short run of every fuzz target with a fixed seed, and parsers broken on purpose, each of which must be found.

The long run: python -m tests.fuzz --inputs 1000000.
"""

import os
import pickle
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("tokenizers", reason="the tokenizer's target needs tokenizers (extra cpu)")
pytest.importorskip("onnxruntime", reason="the models' targets need onnxruntime (extra cpu)")
pytest.importorskip("urllib3", reason="the servers' targets need urllib3 (extra remote)")

from tests.fuzz import engine, worker
from tests.fuzz.mutation import mutated
from tests.fuzz.target import Target
from tests.fuzz.targets import targets
from tests.fuzz.worker import Worker

ROOT = Path(__file__).parents[2]


def test_every_parser_returns_or_raises_its_named_errors(tmp_path: Path) -> None:
    """The same inputs whenever it is run, about a minute of them."""
    command = [sys.executable, "-m", "tests.fuzz", "--each", "2000", "--keep", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(["", *sys.path]), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    inputs, findings = map(int, re.findall(r"(\d+) inputs, (\d+) findings", done.stdout)[-1])
    assert (inputs > 40_000, findings) == (True, 0)


def test_valid_files_are_read(tmp_path: Path) -> None:
    """Input 0 of every target is valid: what is mutated is what a parser accepts."""
    for target in targets(tmp_path):
        folder, outcome = engine.Folder(tmp_path / "root"), engine.Outcome()
        for _ in range(2):  # once for what is imported late
            outcome = engine.Outcome()
            engine.try_one(target, 0, target.input(0, 0), folder, outcome)
        assert (outcome.values, outcome.found) == (1, []), target.name


class Named(Exception):
    """The broken parsers' own error."""


def _crash(folder: Path) -> None:
    raise KeyError("no such thing")


def _leave(folder: Path) -> None:
    (folder.parent / "outside").write_text("x")


def _leave_inside(folder: Path) -> None:
    (folder / "surplus").write_text("x")


def _change(folder: Path) -> None:
    (folder / "x").write_text("more than there was, and other bytes")


def _peek(folder: Path) -> None:
    open("/dev/null").close()


def _hang(folder: Path) -> None:
    while True:
        pass


def _evaluate(folder: Path) -> None:
    eval("1 + 1")


def _unpickle(folder: Path) -> None:
    pickle.loads(b"cbuiltins\nlen\n.")


def _talk(folder: Path) -> None:
    raise Named("x" * 100_000)


def _hoard(folder: Path) -> None:
    bytearray(2 * engine.MEMORY)


def _abort(folder: Path) -> None:
    os.abort()


def _never_return(folder: Path) -> None:
    """As inside compiled code, where Python's signals arrive when it is back."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGVTALRM})
    while True:
        pass


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "crash": (_crash, "KeyError"), "leave": (_leave, "outside"), "leave inside": (_leave_inside, "left behind"),
    "change": (_change, "files changed"), "peek": (_peek, "open '/dev/null'"), "hang": (_hang, "TooSlow"),
    "evaluate": (_evaluate, "exec"), "unpickle": (_unpickle, "pickle.find_class"), "talk": (_talk, "a message of"),
    "hoard": (_hoard, "MemoryError"), "abort": (_abort, "died (exit code -6)"), "never return": (_never_return, "inside a library"),
}  # fmt: skip


def broken_targets(scratch: Path) -> list[Target]:
    """Each does what it must not do where its file has a NUL, which the valid one has not."""

    def reads(broken: Callable[[Path], None]) -> Callable[[Path], None]:
        return lambda folder: broken(folder) if b"\0" in (folder / "x").read_bytes() else None

    change = {"x": lambda rng, data: data + (b"\0" if rng.random() < 0.02 else b"")}
    return [Target(name, {"x": b"some bytes"}, change, reads(broken), (Named,)) for name, (broken, _) in BROKEN.items()]


@pytest.mark.parametrize("name", BROKEN)
def test_what_a_parser_must_not_do_is_found(name: str, tmp_path: Path) -> None:
    """In a worker process, among inputs that are fine; what comes before and behind it is counted."""
    (target,) = (target for target in broken_targets(tmp_path) if target.name == name)
    bad = [number for number in range(1, 1000) if target.input(7, number)["x"].endswith(b"\0")]
    process = Worker(broken_targets, seconds_each=0.2, warm=1)
    total = engine.Outcome()
    try:
        for outcome in process.run(name, 7, 0, bad[0] + 20):
            total.add(outcome)
    finally:
        process.close()
    expected = [number for number in bad if number < bad[0] + 20]
    assert ([number for number, _, _ in total.found], total.inputs) == (expected, bad[0] + 20)
    assert all(BROKEN[name][1] in what for _, what, _ in total.found), total.found


def test_a_parser_that_waits_for_ever_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "IDLE", 1.0)
    process = Worker(waiting_targets, warm=0)
    try:
        (outcome,) = process.run("waiting", 7, 0, 1)
    finally:
        process.close()
    assert "stood still" in outcome.found[0][1]


def waiting_targets(scratch: Path) -> list[Target]:
    import threading

    return [Target("waiting", {"x": b""}, {"x": mutated}, lambda folder: threading.Event().wait(), ())]


def test_a_seed_gives_the_same_inputs_again(tmp_path: Path) -> None:
    (target,) = (target for target in targets(tmp_path) if target.name == "tsv")
    assert target.input(1, 5) == target.input(1, 5)
    assert target.input(1, 5) != target.input(1, 6)
    assert target.input(1, 5) != target.input(2, 5)
    assert target.input(1, 0) == target.files
    assert mutated(random.Random(3), b"text") == mutated(random.Random(3), b"text")
