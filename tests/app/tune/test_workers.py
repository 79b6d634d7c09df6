"""`--workers` and `--executor ray` as a user meets them: the same files as in one process, clear refusals."""

import itertools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.app.compare.test_compare import METHODS, NO_RUN, SETTINGS, numbers
from tests.app.conftest import SMALL, Run, same_run
from zopog_ref.app.compare import cells as compare_cells
from zopog_ref.app.compare import schedule as compare_schedule
from zopog_ref.app.compare.cells import Cell

needs_ray = pytest.mark.filterwarnings("ignore")  # Ray's own warnings


@needs_ray
def test_tune_on_workers_is_the_same_run(connection: Any, zopog: Run, small_task: Path, tmp_path: Path) -> None:
    for name, more in (("one", ()), ("spread", ("--workers", 2))):
        code, _, error = zopog("tune", "--task", small_task, *SMALL, "--out", tmp_path / name, *more)
        assert code == 0, error
    assert same_run(tmp_path / "one", tmp_path / "spread")


@needs_ray
def test_a_worker_killed_in_the_middle_of_a_run(
    connection: Any, zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same result, calls included: nothing is lost or charged twice."""
    from zopog_models.cluster.replicas import Replicas

    sound, sent = Replicas.run, itertools.count()

    def run(self: Any, *arguments: Any) -> Any:
        if next(sent) == 20:
            os.kill(self.pids[0], signal.SIGKILL)
        return sound(self, *arguments)

    monkeypatch.setattr(Replicas, "run", run)
    for name, more in (("one", ()), ("killed", ("--workers", 2))):
        code, _, error = zopog("tune", "--task", small_task, *SMALL, "--out", tmp_path / name, *more)
        assert code == 0, error
    assert "died and is replaced" in error
    assert same_run(tmp_path / "one", tmp_path / "killed")


@needs_ray
def test_compare_on_ray_is_the_same_comparison(connection: Any, zopog: Run, small_task: Path, tmp_path: Path) -> None:
    given = ["compare", "--tasks", small_task, *METHODS, *SETTINGS, "--budget", 80]
    for executor in ("serial", "ray"):
        code, _, error = zopog(*given, "--out", tmp_path / executor, "--executor", executor, "--workers", 2)
        assert code == 0, error
    assert numbers(tmp_path / "ray") == numbers(tmp_path / "serial")


@needs_ray
def test_a_ray_worker_that_dies_is_blamed_on_its_cell(
    connection: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_schedule, "run_cell", deadly)
    cells = [Cell("t", "m", seed, tmp_path / str(seed), NO_RUN) for seed in (1, 2)]
    errors = compare_schedule.run_cells(cells, "ray", 2, tmp_path, lambda errors: None)
    assert [cell.seed for cell in errors] == [2]
    assert "died 2 times" in errors[cells[1]]
    assert cells[0].finished


def deadly(cell: Cell, stop: Path, threads: int) -> str:
    """Seed 2 kills its process; the others finish."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    (cell.folder / compare_cells.STARTED).touch()
    if cell.seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    (cell.folder / "result.json").write_text(json.dumps({}))
    (cell.folder / compare_cells.STARTED).unlink()
    return ""


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("tune", "--workers", "0"), "--workers is 0; it must be at least 1"),
        (("tune", "--workers", "2", "--threads", "0"), "--threads is 0"),
        (
            ("tune", "--workers", "2", "--model", "kserve+http://127.0.0.1:9/v2/models/m", "--tokenizer", "folder"),
            "runs where it is served",
        ),
    ],
)
def test_refused_before_anything_runs(zopog: Run, tmp_path: Path, given: tuple[str, ...], words: str) -> None:
    code, out, error = zopog(*given, "--out", tmp_path / "run")
    assert (code, out) == (2, ""), error
    assert words in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", [("tune", "--workers", "2"), ("compare", "--executor", "ray")])
def test_without_ray_the_extra_is_named(
    zopog: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, error = zopog(*given, "--out", tmp_path / "run")
    assert code == 2
    assert 'pip install "ray>=2.40"' in error
    assert not (tmp_path / "run").exists()
