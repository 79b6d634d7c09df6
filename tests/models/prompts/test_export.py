"""export: the file gives any runtime what the package computes itself, whole or not at all, without PyTorch."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.families.test_families import family_case
from tests.models.families.test_sentence import as_sentence_transformers
from tests.models.tiny_decoders import FAMILY_NAMES, write_decoder
from tests.models.tiny_models import write_model
from zopog_models import CheckpointError, load_model, read_tensors, write_tensors
from zopog_models.prompts.export import Exported, export
from zopog_models.runners.rows import ModelRows

FAMILIES = (
    "bert",
    "roberta",
    "xlm-roberta",
    "camembert",
    "distilbert",
    "electra",
    "albert",
    "mpnet",
    "modernbert",
    "sentence",
    *FAMILY_NAMES,
)


def write(folder: Path, family: str) -> Path:
    if family in FAMILY_NAMES:
        return write_decoder(folder, family)
    if family == "sentence":
        return as_sentence_transformers(write_model(folder, "bert"))
    return write_model(folder, family)


def inputs_for(folder: Path, family: str) -> dict[str, Any]:
    inputs = family_case(folder, 5, 3)
    if family == "sentence":
        inputs["label_ids"] = np.random.default_rng(0).normal(0, 1, (3, 32)).astype(np.float32)
    return inputs


def run_file(path: Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    import onnxruntime as ort

    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {name.name: feeds[name.name] for name in session.get_inputs()})[0]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("fp16", 5e-2), ("int8", 0.5)])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_file_gives_what_the_package_computes(
    tmp_path: Path, family: str, precision: str, tolerance: float
) -> None:
    folder = write(tmp_path / "model", family)
    written = export(folder, tmp_path / "out" / "model.onnx", precision=precision)
    model, inputs = load_model(folder, threads=1), inputs_for(folder, family)
    rows = ModelRows(model, **inputs)
    found = run_file(written.model, rows.feeds(np.arange(len(rows.texts))))
    expected = model.logits(**inputs)
    assert found.dtype == np.float32
    largest = np.abs(found - expected).max()
    assert largest < tolerance, f"largest difference {largest:.1e}"
    if precision != "fp32":
        assert largest > 1e-5  # it is another precision


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("family", ["bert", "albert", "llama"])
def test_the_onnx_package_accepts_the_file(tmp_path: Path, family: str, precision: str) -> None:
    onnx = pytest.importorskip("onnx", reason="the onnx package is for development only")
    written = export(write(tmp_path / "model", family), tmp_path / "model.onnx", precision=precision)
    onnx.checker.check_model(str(written.model), full_check=True)
    model = onnx.load(str(written.model))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["injection"] == written.injection
    stored = sum(np.prod(tensor.dims) for tensor in model.graph.initializer)
    assert stored < written.data_bytes  # every weight in the second file, and none in the first
    assert written.model_bytes < 60_000


def test_what_was_written(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "bert")
    full, half = (export(folder, tmp_path / f"{p}.onnx", precision=p) for p in ("fp32", "fp16"))
    assert full == Exported(
        tmp_path / "fp32.onnx", tmp_path / "fp32.onnx.data", full.model.stat().st_size, full.data.stat().st_size,
        "bert", "fp32", "post_layernorm", str(folder), load_model(folder).sha256,
    )  # fmt: skip
    assert half.data_bytes < full.data_bytes  # of a tiny model, most of it is what fills up pages
    assert {path.name for path in tmp_path.iterdir()} == {
        "model", "fp32.onnx", "fp32.onnx.data", "fp16.onnx", "fp16.onnx.data"
    }  # fmt: skip
    again = export(folder, tmp_path / "again" / "fp32.onnx")
    assert again.model.read_bytes() == full.model.read_bytes()
    assert again.data.read_bytes() == full.data.read_bytes()


def test_the_word_embeddings_are_stored_once(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "bert")
    words = read_tensors(folder / "model.safetensors")["bert.embeddings.word_embeddings.weight"].tobytes()
    assert export(folder, tmp_path / "model.onnx").data.read_bytes().count(words) == 1


WITHOUT_TORCH = """
import sys
for name in ("torch", "transformers", "onnx"):
    sys.modules[name] = None  # importing it fails
from zopog_ref.app.command_line import main
code = main(["export", "--checkpoint", {folder!r}, "--out", {out!r}])
assert code == 0, code
"""


def test_where_importing_torch_fails(tmp_path: Path) -> None:
    folder, out = write_model(tmp_path / "model", "roberta"), tmp_path / "model.onnx"
    code = WITHOUT_TORCH.format(folder=str(folder), out=str(out))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(out) in done.stdout
    assert out.is_file()


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    folder, out = write_model(tmp_path / "model", "bert"), tmp_path / "model.onnx"

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        export(folder, out)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def huge(tensors: dict[str, np.ndarray]) -> None:
    tensors["bert.encoder.layer.0.output.dense.bias"][3] = -7e4


@pytest.mark.parametrize(
    ("options", "change", "error", "message"),
    [
        ({"out": "model.bin"}, None, ValueError, r"must end in \.onnx, got '.*model\.bin'"),
        ({"precision": "int4"}, None, ValueError, "precision must be one of fp32, fp16, int8, got 'int4'"),
        ({"injection": "everywhere"}, None, ValueError, "injection must be one of .*, got 'everywhere'"),
        ({"source": "/no/such/model"}, None, CheckpointError, "'/no/such/model' is not a folder"),
        ({"precision": "fp16"}, huge, ValueError, "layer.0.output.dense.bias holds values that fp16 cannot"),
    ],
)
def test_what_cannot_be_exported(
    tmp_path: Path, options: dict[str, Any], change: Callable[..., None] | None, error: type[Exception], message: str
) -> None:
    folder = write_model(tmp_path / "model", "bert")
    if change is not None:
        tensors = {name: np.array(array) for name, array in read_tensors(folder / "model.safetensors").items()}
        change(tensors)
        write_tensors(folder / "model.safetensors", tensors)
    asked: dict[str, Any] = {"source": folder, "out": "model.onnx"} | options
    asked["out"] = tmp_path / asked["out"]
    with pytest.raises(error, match=message):
        export(**asked)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
