"""Every file of examples/ runs, on small budgets, in a process of its own as a reader would start it."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
needs_model = pytest.mark.skipif(
    any(importlib.util.find_spec(package) is None for package in ("onnxruntime", "tokenizers")),
    reason="the example runs a model (extra cpu)",
)


def started(*command: object, folder: Path, budget: int = 80) -> subprocess.CompletedProcess[str]:
    settings = os.environ | {
        "ZOPOG_EXAMPLE_BUDGET": str(budget),
        "PYTHONWARNINGS": "error::DeprecationWarning:__main__",
    }
    settings["PYTHONPATH"] = os.pathsep.join([*(str(ROOT / room) for room in (".", "models", "kernels"))])
    words = [sys.executable, *map(str, command)]
    return subprocess.run(words, cwd=folder, env=settings, capture_output=True, text=True, timeout=300)


def run_example(name: str, *arguments: object, folder: Path) -> str:
    """What it prints."""
    done = started(EXAMPLES / name, *arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_own_function(tmp_path: Path) -> None:
    lines = run_example("own_function.py", folder=tmp_path).splitlines()
    assert [float(line.split(": ")[1]) < limit for line, limit in zip(lines, (0.02, 0.1))] == [True, True]


def test_custom_method(tmp_path: Path) -> None:
    assert run_example("custom_method.py", folder=tmp_path).startswith("[3 1 4 1 5] after")


@needs_model
def test_own_data(tmp_path: Path) -> None:
    out = run_example("own_data.py", tmp_path / "mine", folder=tmp_path)
    answers = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert [set(answer["probabilities"]) for answer in answers] == [{"0", "1"}] * 2
    assert json.loads((tmp_path / "mine" / "run" / "result.json").read_text("utf-8"))["calls"] <= 80


@needs_model
def test_sklearn_pipeline(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    out = run_example("sklearn_pipeline.py", folder=tmp_path).splitlines()
    assert re.fullmatch(r"accuracy of each fold: \[[\d. ]+\]", out[0])
    assert len(out) == 3


@needs_model
def test_served_model(tmp_path: Path) -> None:
    pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")
    from tests.models.service import serve
    from zopog_models import load_model
    from zopog_models.frozen.model import EMBEDDED_MODEL

    with serve(load_model("embedded", threads=1)) as service:
        out = run_example("served_model.py", f"kserve+{service.kserve}", EMBEDDED_MODEL, "run", folder=tmp_path)
    calls, requests = re.search(r"(\d+) calls in (\d+) requests", out).groups()
    assert 0 < int(calls) <= 80
    assert 0 < int(requests) <= service.asked


@pytest.mark.parametrize(
    ("estimator", "code", "said"),
    [("leave_one_out", 0, "violates none of these lines"), ("own_mean", 1, "[V4]")],
)
def test_my_estimators(estimator: str, code: int, said: str) -> None:
    words = ["-m", "zopog_ref", "verify", "--quick", "--estimator", f"my_estimators:{estimator}"]
    done = started(*words, folder=EXAMPLES)
    assert done.returncode == code, done.stderr
    assert said in done.stdout
    if code:  # of two samples, exactly a half
        assert "exactly 0.5 times the gradient" in done.stdout


def test_every_example_is_in_the_table_and_is_tested() -> None:
    files = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".mjs")}
    assert files == set(re.findall(r"\]\(([\w.]+\.m?(?:py|js))\)", (EXAMPLES / "README.md").read_text("utf-8")))
    tests = "".join((ROOT / "tests" / name).read_text("utf-8") for name in ("test_examples.py", "app/test_bake.py"))
    assert [name for name in sorted(files) if name.partition(".")[0] not in tests] == []


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 90
