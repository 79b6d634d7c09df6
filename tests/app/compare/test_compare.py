"""`zopog compare` as a user meets it: equal budgets, restarts, kills, failing runs, what is checked before anything runs."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.app.conftest import Run, asked
from zopog_ref.app.compare import cells as compare_cells
from zopog_ref.app.compare import options as compare_options
from zopog_ref.app.compare import schedule as compare_schedule
from zopog_ref.app.compare.cells import Cell, run_cell
from zopog_ref.app.compare.live import LiveTable
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.predictions import load_predictions
from zopog_ref.app.tune import learning as tune
from zopog_ref.methods import METHODS as SEARCHES

SETTINGS = ["--n-positions", "3", "--n-candidates", "12", "--dim", "8", "--batch-size", "4", "--shots", "3",
            "--set", "zo-pog.policy_samples=4", "--set", "zo-pog.direction-pairs=2", "--set", "random-search.samples=2"]  # fmt: skip
NO_RUN: Any = None  # of a cell that is not run
METHODS = ["--methods", "zo-pog,random-search", "--seeds", "1,2"]


def options(task: Path, out: Path, *more: object, budget: int = 80) -> list[object]:
    return ["compare", "--tasks", task, *METHODS, *SETTINGS, "--budget", budget, "--out", out, *more]


def without_times(value: Any) -> Any:
    """compare.json without what is called seconds."""
    if isinstance(value, dict):
        return {name: without_times(inner) for name, inner in value.items() if name != "seconds"}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def numbers(out: Path) -> Any:
    return without_times(json.loads((out / "compare.json").read_text("utf-8")))


@pytest.fixture(scope="module")
def compared(small_task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from zopog_ref.app.command_line import main

    out = tmp_path_factory.mktemp("compared") / "out"
    assert main(list(map(str, options(small_task, out, "--executor", "serial")))) == 0
    return out


def test_every_cell_is_a_run_of_the_same_budget(compared: Path, zopog: Run, small_task: Path) -> None:
    for method in ("zo-pog", "random-search"):
        for seed in (1, 2):
            folder = compared / "runs" / "small" / method / str(seed)
            result = json.loads((folder / "result.json").read_text())
            assert (result["method"], result["seed"], result["budget"]) == (method, seed, 80)
            assert (result["tuned_calls"], result["calls"]) == ((64, 74) if method == "zo-pog" else (70, 80))
    alone = ["--method", "zo-pog", "--seed", 2, "--policy-samples", 4, "--direction-pairs", 2, *SETTINGS[:10]]
    code, _, error = zopog("tune", "--task", small_task, *alone, "--budget", 80, "--out", compared / "alone")
    assert code == 0, error
    curve = (compared / "runs" / "small" / "zo-pog" / "2" / "curve.jsonl").read_bytes()
    assert (compared / "alone" / "curve.jsonl").read_bytes() == curve
    said = {row["name"]: row for row in json.loads((compared / "alone" / "result.json").read_text())["answers"]}
    rows = {(m["of"], m["reading"]): m["cells"] for m in numbers(compared)["tasks"][0]["methods"]}
    for reading, row in said.items():  # every reading is the one that tune reports, to the bit
        cell = next(c for c in rows["manual" if "manual" in reading else "zo-pog", reading] if c["seed"] == 2)
        assert (cell["calls"], cell["test"]["accuracy"]) == (row["calls"], row["accuracy"])
        assert [cell["uncertainty"]["mean"][name] for name in ("nll", "ece")] == [row["nll"], row["ece"]]
    assert len({row["nll"] for row in said.values()}) == 5  # so that none can stand in for another


def test_auto_has_rows_and_no_checkpoint(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    """It has no steps; on a curve, a larger budget is a run of its own that begins anew."""
    given = ["compare", "--tasks", small_task, "--methods", "auto", "--seeds", "1", "--shots", 3, "--batch-size", 4]
    given += ["--executor", "serial"]
    code, said, error = zopog(*given, "--budget", 5, "--out", tmp_path / "one")
    assert code == 0, error
    assert "auto + readout" in said
    code, _, error = zopog(*given, "--curve", "--budgets", "5,30", "--out", tmp_path / "curve")
    assert code == 0, error
    spent = [
        json.loads(found.read_text())["calls"] for found in sorted(tmp_path.glob("curve/*/runs/*/auto/1/result.json"))
    ]
    assert len(spent) == 2
    assert max(spent) > 5 >= min(spent)


def test_without_a_readout_it_is_the_comparison_of_version_0_2_0(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    given = ("--executor", "serial", "--seeds", "1", "--readout", "none")
    assert zopog(*options(small_task, tmp_path / "out", *given))[0] == 0
    assert [m["name"] for m in numbers(tmp_path / "out")["tasks"][0]["methods"]] == [
        "zo-pog",
        "random-search",
        "manual",
    ]
    folder = tmp_path / "out" / "runs" / "small" / "zo-pog" / "1"
    assert json.loads((folder / "result.json").read_text())["calls"] == 80  # nothing is kept back
    assert "readout" not in json.loads((folder / "config.json").read_text())
    code, _, error = zopog(*options(small_task, tmp_path / "out", *given[:4]))
    assert code == 2
    assert "was started with readout 'none' (now 'auto')" in error


@pytest.mark.parametrize("more", [(), ("--curve", "--budgets", 120)])
def test_a_comparison_whose_texts_hold_fewer_candidates_goes_on(
    zopog: Run, small_task: Path, tmp_path: Path, more: tuple[object, ...]
) -> None:
    given = ["compare", "--tasks", small_task, "--methods", "random-search", "--seeds", 1, "--batch-size", 4,
             "--shots", 3, "--executor", "serial", "--out", tmp_path / "out", *(more or ("--budget", 120))]  # fmt: skip
    asked_for = 8000  # of the vocabulary's 8192
    code, _, error = zopog(*given, "--n-candidates", asked_for)
    assert code == 0, error
    [config] = (tmp_path / "out").rglob("random-search/1/config.json")
    held = json.loads(config.read_text("utf-8"))["preset"]["n_candidates"]
    assert held < asked_for
    code, _, error = zopog(*given, "--n-candidates", asked_for)
    assert code == 0, error
    assert "1 finished already" in error or more
    values = json.loads(config.read_text("utf-8"))
    values["preset"]["n_candidates"] = held - 1  # as of a run that was asked for so many
    values["candidates"].pop()
    config.write_text(json.dumps(values), "utf-8")
    code, _, error = zopog(*given, "--n-candidates", asked_for)
    assert code == 2
    assert f"was started with n_candidates {held - 1} (now {asked_for})" in error


def test_the_template_alone_in_several_templates(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    given = ["compare", "--tasks", small_task, "--methods", "none", "--seeds", "1", "--batch-size", 4, "--shots", 3,
             "--executor", "serial", "--out", tmp_path / "out"]  # fmt: skip
    templates = ["{text} . {mask} .", "a {mask} is {text} ."]
    code, _, error = zopog(*given, "--template", templates[0], "--template", templates[1])
    assert code == 0, error
    [task] = numbers(tmp_path / "out")["tasks"]
    assert (task["template"], task["templates"]) == (templates[0], templates)
    rows = [(m["name"], m["of"], m["calls"]) for m in task["methods"]]
    assert rows == [("manual", "manual", 0), ("manual + centred", "manual", 10), ("manual + readout", "manual", 10)]
    assert "The manual prompt, with and without a readout" in (tmp_path / "out" / "report.html").read_text("utf-8")
    code, _, error = zopog(*given, "--template", templates[0])
    assert code == 2
    assert "templates" in error


def test_the_calls_of_a_readout_are_part_of_what_is_checked(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    code, _, error = zopog(*options(small_task, tmp_path / "out", budget=12))
    assert code == 2
    assert "one step of zo-pog costs 8 and the readout 10" in error
    assert not (tmp_path / "out").exists()


def test_fewer_bits_in_every_run(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    out, int8 = tmp_path / "out", ("--executor", "serial", "--seeds", "1", "--precision", "int8", "--precision-anyway")
    code, _, error = zopog(*options(small_task, out, *int8))
    assert code == 0, error
    assert [numbers(out)[name] for name in ("precision", "precision_scope")] == ["int8", "policy"]
    assert "(in int8 for policy steps and dev scores)" in (out / "report.html").read_text("utf-8")
    for method in ("zo-pog", "random-search"):
        config = json.loads((out / "runs" / "small" / method / "1" / "config.json").read_text())
        assert config["precision"]["precision"] == "int8"
    assert zopog(*options(small_task, out, *int8))[0] == 0  # nothing is run again
    for other in ((), ("--precision", "int8", "--precision-scope", "all")):
        code, _, error = zopog(*options(small_task, out, "--seeds", "1", *other))
        assert code == 2
        assert "precision" in error
    code, _, error = zopog(*options(small_task, tmp_path / "no", "--precision", "fp16"))
    assert code == 2
    assert "--precision fp16 is for --device cuda" in error


def test_compare_json_says_what_the_runs_say(compared: Path) -> None:
    found = numbers(compared)
    [task] = found["tasks"]
    baselines = ["manual", "manual + centred", "manual + readout"]
    searched = ["zo-pog", "zo-pog + readout", "random-search", "random-search + readout"]
    assert [m["name"] for m in task["methods"]] == searched + baselines
    assert (found["failed"], task["rows"], task["statistics"]["same_test_rows"]) == ([], 60, True)
    means: dict[str, list[np.ndarray]] = {}
    for method in task["methods"]:
        for cell in method["cells"]:
            p = load_predictions(compared / cell.get("folder", f"runs/small/zo-pog/{cell['seed']}"))
            answers = p.manual if method["reading"] == "manual" else p.readings[method["reading"]].mean
            right = answers.argmax(axis=1) == p.labels
            means.setdefault(method["name"], []).append(right)
            assert cell["test"]["accuracy"] == right.mean()
            assert ("folder" in cell) == (method["of"] != "manual")
            if method["reading"] == "tuned":
                assert cell["curve"][-1][0] <= cell["calls"] == {"zo-pog": 64, "random-search": 70}[method["of"]]
                assert len(cell["prompt"]["texts"][0]["tokens"]) == 3
        assert method["accuracy"]["mean"] == pytest.approx(np.mean(means[method["name"]]))
        assert np.sum(method["confusion"]) == 120
    standings = task["statistics"]["metrics"]["accuracy"]["methods"]
    for name in searched:
        for against, base in (("against_manual", "manual"), ("against_readout", "manual + readout")):
            gap = np.mean(means[name]) - np.mean(means[base])
            assert standings[name][against]["mean"] == pytest.approx(gap)
    assert "against_readout" not in standings["manual + readout"]
    pair = task["statistics"]["metrics"]["accuracy"]["differences"][0][2]
    assert pair["mean"] == pytest.approx(np.mean(means["zo-pog"]) - np.mean(means["random-search"]))
    zo_pog = task["methods"][0]["cells"][0]["prompt"]
    assert all(0 < p <= 1 for p in zo_pog["texts"][0]["probabilities"])
    assert [len(row) for row in zo_pog["positions"]] == [5, 5, 5]
    assert task["methods"][2]["cells"][0]["prompt"]["positions"] is None


def test_finished_cells_are_not_run_again(
    compared: Path, zopog: Run, small_task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = numbers(compared)
    monkeypatch.setattr(tune, "learn", None)
    code, out, error = zopog(*options(small_task, compared, "--executor", "serial", "--json"))
    assert (code, without_times(json.loads(out))) == (0, before)
    assert "4 finished already" in error


def test_all_stands_for_the_searches_beside_others() -> None:
    for given, expected in (("auto,ALL", ["auto", *SEARCHES]), ("all", [*SEARCHES]), ("bbt,none", ["bbt", "none"])):
        assert compare_options._methods(Namespace(methods=given)) == expected


def test_more_seeds_and_methods_go_on_in_the_same_folder(compared: Path, zopog: Run, small_task: Path) -> None:
    more = options(small_task, compared, "--executor", "serial")
    more[more.index("1,2")] = "1,3"
    assert zopog(*more)[0] == 0
    assert [cell["seed"] for cell in numbers(compared)["tasks"][0]["methods"][0]["cells"]] == [1, 3]
    assert zopog(*options(small_task, compared, "--executor", "serial"))[0] == 0


def test_the_terminal_shows_a_table(compared: Path, zopog: Run, small_task: Path) -> None:
    code, out, error = zopog(*options(small_task, compared, "--executor", "serial"))
    assert code == 0
    assert {"zo-pog", "random-search", "manual"} <= set(out.split())
    assert "report.html" in error


# -- interruption, kills, failures ---------------------------------------------------------------------------------


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "zopog_ref.app.command_line", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(2400):
        if path.exists() or process.poll() is not None:
            return
        time.sleep(0.05)


def test_interrupted_and_killed_it_ends_the_same(zopog: Run, small_task: Path, tmp_path: Path) -> None:
    """Processes: Ctrl-C once, SIGKILL once, then to the end; against one uninterrupted run in this process."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert zopog(*options(small_task, whole, "--executor", "serial", budget=240))[0] == 0
    command = options(small_task, cut, "--workers", 2, budget=240)
    process = start(*command)
    wait_for(cut / "runs" / "small" / "zo-pog" / "1" / "curve.jsonl", process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert "the same command goes on" in error
    assert not (cut / "compare.json").exists()
    assert not list(cut.rglob(compare_cells.STARTED))

    process = start(*command)
    wait_for(cut / "runs" / "small" / "zo-pog" / "2" / compare_cells.STARTED, process)
    process.kill()
    process.communicate()
    for _ in range(200):  # the workers end with their parent and give their folders back
        if is_free(cut):
            break
        time.sleep(0.05)
    assert zopog(*options(small_task, cut, "--executor", "serial", budget=240))[0] == 0
    assert numbers(cut) == numbers(whole)


def is_free(out: Path) -> bool:
    from zopog_ref.app.run.folder import RunFolder

    for path in [out, *(lock.parent for lock in (out / "runs").rglob(".lock"))]:
        folder = RunFolder(path)
        try:
            folder.take_lock()
        except InputError:
            return False
        folder.close()
    return True


def test_a_failing_cell_costs_no_other(
    zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tune.learn

    def learn(config: Any, *rest: Any, **more: Any) -> Any:
        if (config.method, config.seed) == ("zo-pog", 2):
            raise FloatingPointError("the model said <b>nothing</b>")
        return real(config, *rest, **more)

    out = tmp_path / "out"
    monkeypatch.setattr(tune, "learn", learn)
    code, text, _ = zopog(*options(small_task, out, "--executor", "serial"))
    assert code == 1
    assert "failed: small, zo-pog, seed 2: FloatingPointError: the model said <b>nothing</b>" in text
    found = numbers(out)
    assert [f["error"] for f in found["failed"]] == ["FloatingPointError: the model said <b>nothing</b>"]
    assert [len(m["cells"]) for m in found["tasks"][0]["methods"]] == [1, 1, 2, 2, 2, 2, 2]
    assert "&lt;b&gt;nothing&lt;/b&gt;" in (out / "report.html").read_text("utf-8")
    error = out / "runs" / "small" / "zo-pog" / "2" / "error.txt"
    assert "Traceback" in error.read_text()
    monkeypatch.setattr(tune, "learn", real)
    assert zopog(*options(small_task, out, "--executor", "serial"))[0] == 0
    assert not error.exists()
    assert numbers(out)["failed"] == []


class Deadly(Executor):
    """An executor whose worker dies of one cell, and takes every later future with it."""

    def __init__(self, victim: int) -> None:
        self.victim, self.broken = victim, False

    def submit(self, function: Any, cell: Cell, *rest: Any) -> Future[Any]:  # type: ignore[override]
        future: Future[Any] = Future()
        if cell.seed == self.victim:
            cell.folder.mkdir(parents=True, exist_ok=True)
            (cell.folder / compare_cells.STARTED).touch()
            self.broken = True
        if self.broken:
            future.set_exception(BrokenProcessPool("a process died"))
        else:
            (cell.folder).mkdir(parents=True, exist_ok=True)
            (cell.folder / "result.json").write_text("{}")
            future.set_result("")
        return future


def test_a_dying_worker_is_blamed_on_its_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pools = []

    @contextmanager
    def deadly(workers: int, log: Path) -> Iterator[Executor]:
        pools.append(workers)
        yield Deadly(victim=2)

    monkeypatch.setitem(compare_schedule.EXECUTORS, "deadly", deadly)
    cells = [Cell("t", "m", seed, tmp_path / str(seed), NO_RUN) for seed in (1, 2, 3)]
    errors = compare_schedule.run_cells(cells, "deadly", 2, tmp_path, lambda errors: None)
    assert [cell.seed for cell in errors] == [2]
    assert "died 2 times" in errors[cells[1]]
    assert all(cell.finished for cell in (cells[0], cells[2]))
    assert pools == [2, 2, 1]


def test_workers_that_cannot_start_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def stillborn(workers: int, log: Path) -> Iterator[Executor]:
        pool = Deadly(victim=0)
        pool.broken = True
        yield pool

    monkeypatch.setitem(compare_schedule.EXECUTORS, "stillborn", stillborn)
    with pytest.raises(OSError, match="die before they begin"):
        compare_schedule.run_cells(
            [Cell("t", "m", 1, tmp_path / "1", NO_RUN)], "stillborn", 1, tmp_path, lambda errors: None
        )


def test_a_stop_file_ends_a_cell_after_its_step(small_task: Path, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    stop.touch()
    given = [
        "--task",
        str(small_task),
        "--method",
        "random-search",
        "--samples",
        "2",
        "--budget",
        "40",
        "--readout",
        "none",
        *SETTINGS[:10],
    ]
    cell = Cell("small", "random-search", 1, tmp_path / "cell", asked(given)[0])
    assert run_cell(cell, stop, threads=1) == "interrupted"
    assert not cell.finished
    stop.unlink()
    assert run_cell(cell, stop, threads=1) == ""
    assert cell.finished


def test_cores_are_not_oversubscribed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    @contextmanager
    def pool(workers: int, log: Path) -> Iterator[Executor]:
        class Noting(Deadly):
            def submit(self, function: Any, cell: Cell, stop: Path, threads: int) -> Future[Any]:  # type: ignore[override]
                seen.append((workers, threads))
                return super().submit(function, cell)

        yield Noting(victim=-1)

    monkeypatch.setitem(compare_schedule.EXECUTORS, "noting", pool)
    monkeypatch.setattr(compare_schedule, "usable_cores", lambda: 16)
    cells = [Cell("t", "m", seed, tmp_path / str(seed), NO_RUN) for seed in range(9)]
    compare_schedule.run_cells(cells, "noting", 5, tmp_path, lambda errors: None)
    assert set(seen) == {(5, 3)}
    cells = [Cell("t", "m", seed, tmp_path / str(seed), NO_RUN) for seed in range(9, 12)]
    compare_schedule.run_cells(cells, "noting", 5, tmp_path, lambda errors: None, threads=2)
    assert set(seen[9:]) == {(3, 2)}  # --threads


def test_the_process_pool_restores_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with compare_schedule.process_pool(1, tmp_path / "log"):
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


# -- what is checked before anything runs --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--methods", "zo-pog,no-such"], "unknown method 'no-such'"),
        (["--methods", "manual"], "row of every table"),
        (["--methods", "zo-pog:best"], "no settings 'best'"),
        (["--methods", ","], "--methods is empty"),
        (["--seeds", "1,x"], "'x' is not a whole number"),
        (["--seeds", "1,1"], "names 1 twice"),
        (["--seeds", "-1"], "must be in"),
        (["--budget", "3"], "one step costs"),
        (["--shots", "30", "--budget", "4000"], "lower the number of shots"),
        (["--workers", "0"], "--workers is 0"),
        (["--threads", "0"], "--threads is 0"),
        (["--set", "zo-pog.popsize"], "METHOD.NAME=VALUE"),
        (["--set", "zo-pog.nothing=1"], "no method has a setting"),
        (["--set", "zo-pog.eta_zz=1"], "no method has a setting 'eta_zz'; did you mean 'eta_z'?"),
        (["--set", "zo-pog.tau=hot"], "--set"),
        (["--set", "bdpl.tau=1"], "not among --methods"),
        (["--set", "random-search.tau=1"], "no setting of random-search"),
        (["--tasks", "no-such"], "unknown task"),
        (["--tasks", "{two}"], "two tasks are called"),
        (["--tasks", "{pieces}"], "label word"),
        (["--tasks", "{outside}"], "cannot be the name of a folder"),
    ],
)
def test_refused_before_anything_runs(
    zopog: Run, small_task: Path, tmp_path: Path, given: list[str], words: str
) -> None:
    text = small_task.read_text("utf-8")
    pieces = small_task.with_name("pieces.toml")
    pieces.write_text(text.replace('"animal"', '"antidisestablishmentarianism"', 1), "utf-8")
    outside = small_task.with_name("outside.toml")
    outside.write_text(text.replace('name = "small"', 'name = "../small"'), "utf-8")
    names = {
        "two": f"{small_task},{small_task.parent / '.' / '..' / small_task.parent.name / 'small.toml'}",
        "pieces": pieces,
        "outside": outside,
    }
    code, out, error = zopog(*options(small_task, tmp_path / "out"), *(g.format(**names) for g in given))
    assert (code, out) == (2, ""), error
    assert words in error
    assert not (tmp_path / "out").exists()


def test_another_budget_in_the_same_folder_is_refused(compared: Path, zopog: Run, small_task: Path) -> None:
    code, _, error = zopog(*options(small_task, compared, budget=120))
    assert code == 2
    assert "budget 80 (now 120)" in error
    code, _, error = zopog(*options(small_task, compared), "--shots", 4)
    assert code == 2
    assert "shots 3 (now 4)" in error


def test_two_comparisons_do_not_share_a_folder(compared: Path, zopog: Run, small_task: Path) -> None:
    from zopog_ref.app.run.folder import RunFolder

    folder = RunFolder(compared)
    folder.take_lock()
    code, _, error = zopog(*options(small_task, compared))
    folder.close()
    assert code == 2
    assert "another process is running" in error


def test_damaged_predictions_are_named(compared: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="resume the run"):
        load_predictions(tmp_path)
    folder = compared / "runs" / "small" / "zo-pog" / "1"
    content = (folder / "predictions.safetensors").read_bytes()
    (tmp_path / "predictions.safetensors").write_bytes(content[:-9])
    with pytest.raises(InputError, match="truncated"):
        load_predictions(tmp_path)


# -- the live table ------------------------------------------------------------------------------------------------


def test_the_live_table_reads_the_run_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [Cell("t", m, seed, tmp_path / m / str(seed), NO_RUN) for m in ("bbt", "bdpl") for seed in (1, 2)]
    for cell in cells[:3]:
        cell.folder.mkdir(parents=True)
    (cells[0].folder / "result.json").write_text('{"test_accuracy": 0.4375, "dev_accuracy": 0.5}')
    (cells[1].folder / "curve.jsonl").write_text('{"calls": 40}\n{"calls": 80}\n{"calls": 1')  # a torn last line
    (cells[2].folder / "config.json").write_text("{}")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "20")
    monkeypatch.setenv("TERM", "xterm")
    show = LiveTable(cells, budgets=[160] * len(cells), rewrite=True)
    show({cells[3]: "out of luck"})
    first = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert [line.rstrip() for line in first.split("\r")[-1].splitlines()] == [
        "          seed 1      seed 2",
        "bbt        43.8%    80 calls",
        "bdpl         ...      failed",
        "1 of 4 cells, 1 failed; calls spent 62%, a minute to go",
    ]
    show({})
    assert capsys.readouterr().err.startswith("\r\x1b[2K" + 3 * "\x1b[1A\x1b[2K")  # the four lines are wiped
    show.close()
    monkeypatch.setenv("LINES", "4")  # more rows than the terminal has: a line a finished cell instead
    plain = LiveTable(cells, budgets=[160] * len(cells), rewrite=True)
    plain({cells[3]: "out of luck"})
    plain({cells[3]: "out of luck"})
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert last.endswith("\n[2/4] t, bdpl, seed 2: out of luck\n")
