"""zopog bake: the command, its messages, and the two examples really run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.app.conftest import Run
from zopog_models import load_model, load_task, predict, save_prompt
from zopog_models.frozen.model import EMBEDDED_MODEL
from zopog_models.prompts.bundle import Prompt
from zopog_models.tasks.encoding import label_targets

EXAMPLES = Path(__file__).parents[2] / "examples"
TEXTS = ["a large wild cat with stripes", "a person who writes novels , in Zürich"]
TOKENIZER = EMBEDDED_MODEL / "tokenizer.json"


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda file: None)


@pytest.fixture(scope="module")
def prompt() -> Prompt:
    model, task, rng = load_model(threads=1), load_task("supersense"), np.random.default_rng(0)
    return Prompt(
        ids=rng.integers(100, 1000, (2, 5)),
        offsets=rng.normal(0, 0.1, (2, 5, model.embedding_size)).astype(np.float32),
        weights=np.array([0.25, 0.75]),
        label_ids=label_targets(task, model),
        template=task.template,
        labels=task.labels,
        injection=model.injection,
        model=model.name,
        model_sha256=model.sha256,
        tokenizer_sha256=model.tokenizer_sha256,
    )


@pytest.fixture
def tuned(tmp_path: Path, prompt: Prompt) -> Path:
    save_prompt(tmp_path / "run" / "prompt", prompt)
    return tmp_path / "run"


def expected(prompt: Prompt) -> np.ndarray:
    return predict(load_model(threads=1), prompt, [(text,) for text in TEXTS]).probabilities


def printed(output: str, labels: list[str]) -> np.ndarray:
    return np.array([[json.loads(line)[label] for label in labels] for line in output.splitlines()])


def test_the_command_says_what_a_caller_must_know(zopog: Run, tuned: Path, tmp_path: Path) -> None:
    code, out, _ = zopog(
        "bake", tuned, "--out", tmp_path / "kind.onnx", "--triton", tmp_path / "served", "--threads", 1
    )
    assert code == 0
    for part in (
        "entropy (rows)",
        "per_prompt (rows, 2, 6)",
        "tokenizer.json of embedded",
        "187 tokens",
        "animal, person",
    ):
        assert part in out
    assert (tmp_path / "served" / "kind" / "1" / "model.onnx").stat().st_size > 6_000_000
    code, out, _ = zopog("bake", tuned / "prompt", "--out", tmp_path / "again.onnx", "--threads", 1, "--json")
    report = json.loads(out)
    assert code == 0
    assert report["difference"] < 1e-6
    assert report["checked"] >= 10
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "kind.onnx").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--out", "x.bin"], "must end in .onnx"), (["--out", "x.onnx", "--tolerance", "-1"], "differ from predict's"),
     (["--out", "x.onnx", "--model", "kserve+http://example.org/kind"], "is an address")],
)  # fmt: skip
def test_unusable_input(
    zopog: Run, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = zopog("bake", tuned, "--threads", 1, *options)
    assert (code, out) == (2, "")
    assert message in err
    assert not list(tmp_path.glob("*.onnx"))
    assert zopog("bake", tmp_path, "--out", "x.onnx")[0] == 2


def test_the_python_example(zopog: Run, tuned: Path, tmp_path: Path, prompt: Prompt) -> None:
    file = tmp_path / "kind.onnx"
    assert zopog("bake", tuned, "--out", file, "--threads", 1)[0] == 0
    command = [sys.executable, EXAMPLES / "baked.py", file, TOKENIZER, *TEXTS]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    assert np.abs(printed(done.stdout, list(prompt.labels)) - expected(prompt)).max() < 1e-6


def node_packages(tmp_path: Path) -> Path:
    """A folder whose node_modules has the example's packages, or a skip that says why not."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node is not installed")
    if given := os.environ.get("ZOPOG_NODE"):
        return Path(given)
    if not os.environ.get("CI"):
        pytest.skip("300 MB of npm packages: set ZOPOG_NODE to a folder with them in its node_modules, or CI=1")
    packages = ["onnxruntime-node", "@huggingface/tokenizers"]
    install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(tmp_path), *packages]
    done = subprocess.run(install, capture_output=True, text=True, timeout=600)
    if done.returncode:
        pytest.skip(f"npm could not install {', '.join(packages)}: {done.stderr[-200:]}")
    return tmp_path


def test_the_node_example(zopog: Run, tuned: Path, tmp_path: Path, prompt: Prompt) -> None:
    packages = node_packages(tmp_path)
    script = shutil.copy(EXAMPLES / "baked.mjs", packages / "baked.mjs")  # Node looks for packages beside the script
    file, about = tmp_path / "kind.onnx", tmp_path / "kind.json"
    code, out, _ = zopog("bake", tuned, "--out", file, "--threads", 1, "--json")
    assert code == 0
    about.write_text(out)
    command = ["node", script, file, about, TOKENIZER, *TEXTS]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    assert np.abs(printed(done.stdout, list(prompt.labels)) - expected(prompt)).max() < 1e-6
