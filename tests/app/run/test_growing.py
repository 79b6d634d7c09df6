"""A run on a larger budget that began with the steps of a smaller one: the same files as from the start."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.app.conftest import asked, same_run
from zopog_models.files.tensor_file import read_metadata, read_tensors, write_tensors
from zopog_models.frozen.oracle import FrozenModelOracle
from zopog_ref.app.errors import Interrupted
from zopog_ref.app.run.config import Machine
from zopog_ref.app.run.growing import grow
from zopog_ref.app.tune.learning import learn

SMALL = ["--n-positions", "3", "--n-candidates", "12", "--dim", "8", "--batch-size", "4", "--shots", "3",
         "--threads", "1", "--readout", "labels"]  # fmt: skip
# method -> its options, and budgets of which the first ends where no dev score is due, or after one step
METHODS = {
    "zo-pog": (["--policy-samples", "4", "--direction-pairs", "2"], (18, 50, 90)),
    "bdpl": ([], (40, 130, 171)),
    "random-search": (["--samples", "2"], (20, 41, 70)),
    "bbt": ([], (110, 210, 310)),
    "catcma": ([], (110, 210, 310)),
}


def run(
    task: Path, method: str, budget: int, out: Path, shorter: Path | None = None, stop: Any = lambda: False
) -> Path:
    options = ["--task", str(task), "--method", method, "--budget", str(budget), *SMALL, *METHODS[method][0]]
    config, machine = asked(options)
    return learn(config, replace(machine, shorter=shorter), out, stop, quiet=True)[0]


def asked_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many prompts the model is asked on training rows, call by call."""
    counts: list[int] = []
    plain = FrozenModelOracle.logits

    def logits(self: FrozenModelOracle, tokens: Any, z: Any, examples: Any) -> Any:
        counts.append(len(tokens))
        return plain(self, tokens, z, examples)

    monkeypatch.setattr(FrozenModelOracle, "logits", logits)
    return counts


@pytest.mark.parametrize("method", METHODS)
def test_a_grown_run_is_the_run_from_the_start(
    method: str, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets = METHODS[method][1]
    before, steps = None, []
    for budget in budgets:
        whole = run(small_task, method, budget, tmp_path / f"whole-{budget}")
        with monkeypatch.context() as patch:
            counts = asked_of(patch)
            grown = run(small_task, method, budget, tmp_path / f"grown-{budget}", shorter=before)
        assert same_run(whole, grown)
        assert {p.name for p in whole.rglob("*")} == {p.name for p in grown.rglob("*")}
        steps.append((len((whole / "curve.jsonl").read_text().splitlines()), sum(counts)))
        before = grown
    assert [n for n, _ in steps] == sorted({n for n, _ in steps})  # each budget took further steps
    # What was asked of the model is what the further steps asked: less than all of a run from the start.
    with monkeypatch.context() as patch:
        counts = asked_of(patch)
        run(small_task, method, budgets[-1], tmp_path / "again")
    assert steps[-1][1] < sum(counts)


def test_the_shorter_run_s_last_dev_score_is_no_part_of_the_longer_one(small_task: Path, tmp_path: Path) -> None:
    short = run(small_task, "zo-pog", 18, tmp_path / "short")
    grown = run(small_task, "zo-pog", 90, tmp_path / "grown", shorter=short)
    last = json.loads((short / "curve.jsonl").read_text().splitlines()[-1])
    same = json.loads((grown / "curve.jsonl").read_text().splitlines()[last["step"] - 1])
    assert last["dev_metric"] is not None  # its last step
    assert same == last | {"dev_metric": None, "dev_loss": None}  # where none is due


@pytest.mark.parametrize("what", ["seed", "unfinished", "journal", "checkpoint", "another step", "nothing"])
def test_what_does_not_serve_is_left_alone(what: str, small_task: Path, tmp_path: Path) -> None:
    short, longer = run(small_task, "zo-pog", 50, tmp_path / "short"), tmp_path / "longer"
    longer.mkdir()
    config = json.loads((short / "config.json").read_text())
    config["preset"]["budget"] = 90
    if what == "seed":
        config["seed"] += 1
    elif what == "unfinished":
        (short / "result.json").unlink()
    elif what == "journal":
        for path in (short / "journal").iterdir():
            path.unlink()
    elif what == "checkpoint":
        (short / "checkpoint.previous.safetensors").write_bytes(b"damaged")
    elif what == "another step":
        (short / "checkpoint.previous.safetensors").write_bytes((short / "checkpoint.safetensors").read_bytes())
    (longer / "config.json").write_text(json.dumps(config))
    assert grow(short, longer) == (what == "nothing")
    assert ([path.name for path in longer.iterdir()] == ["config.json"]) == (what != "nothing")
    assert not grow(tmp_path / "not there", longer)


def test_a_grown_run_that_is_stopped_goes_on(small_task: Path, tmp_path: Path) -> None:
    short, whole = (run(small_task, "zo-pog", b, tmp_path / str(b)) for b in (50, 90))
    with pytest.raises(Interrupted):
        run(small_task, "zo-pog", 90, tmp_path / "cut", shorter=short, stop=lambda: True)
    folder, _ = learn(None, Machine(), tmp_path / "cut", lambda: False, quiet=True)
    assert same_run(whole, folder)


def test_the_seconds_of_a_grown_run_are_those_of_all_its_steps(small_task: Path, tmp_path: Path) -> None:
    short = run(small_task, "zo-pog", 50, tmp_path / "short")
    before = short / "checkpoint.previous.safetensors"
    write_tensors(before, read_tensors(before), read_metadata(before) | {"seconds": "1000.0"})
    grown = run(small_task, "zo-pog", 90, tmp_path / "grown", shorter=short)
    assert json.loads((grown / "result.json").read_text())["seconds"] > 1000
