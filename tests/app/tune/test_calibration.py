"""benchmarks/calibration.py: its differences are those of the runs' predictions, paired by seed and row."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from tests.app.conftest import Run
from zopog_ref.app.run.predictions import load_predictions
from zopog_ref.app.scores.uncertainty import brier, reliability

pytest.importorskip("cma", reason="Ensembles needs the package cma (extra methods)")

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "calibration.py"
SMALL = ["--popsize", "4", "--n-positions", "3", "--dim", "8", "--n-candidates", "12", "--shots", "3", "--threads", "1"]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("calibration", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_differences_are_paired_over_seeds_and_rows(
    script, zopog: Run, small_task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "--task",
        str(small_task),
        "--methods",
        "ensembles",
        "--seeds",
        "1,2",
        "--budget",
        "40",
        "--out",
        str(tmp_path),
    ]
    zopog(
        "tune",
        "--task",
        small_task,
        "--method",
        "bbt",
        "--seed",
        1,
        "--budget",
        40,
        *SMALL,
        "--out",
        tmp_path / "runs/small/bbt/1",
    )
    before = (tmp_path / "runs/small/bbt/1/result.json").stat().st_mtime_ns
    assert script.main([*options, "--", *SMALL]) == 0
    assert (tmp_path / "runs/small/bbt/1/result.json").stat().st_mtime_ns == before  # a finished run is only read
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| ensembles, ") for line in lines) == 3 + 4
    report = json.loads((tmp_path / "calibration.json").read_text())
    several, one = ([load_predictions(tmp_path / "runs" / "small" / m / s) for s in "12"] for m in ("ensembles", "bbt"))
    found = report["differences"]["ensembles, mean − bbt"]
    by_row = np.array([brier(a.mean, a.labels) - brier(b.mean, b.labels) for a, b in zip(several, one)])
    assert found["brier"]["mean"] == pytest.approx(by_row.mean())
    assert found["brier"]["low"] < by_row.mean() < found["brier"]["high"]
    gaps = [reliability(a.mean, a.labels).ece - reliability(b.mean, b.labels).ece for a, b in zip(several, one)]
    assert found["ece"]["seeds"] == pytest.approx(gaps)
    assert found["ece"]["mean"] == pytest.approx(np.mean(gaps))
    assert np.isfinite(report["predictives"]["ensembles, votes"]["detection"])
    for figure in ("reliability", "accuracy of the surest rows"):
        assert f"ensembles: {figure}" in (tmp_path / "calibration.html").read_text()
