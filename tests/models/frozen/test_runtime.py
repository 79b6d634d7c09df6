"""runtime: bits that depend on the inputs alone, and errors before any work."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.graph.test_graph import case
from tests.models.tiny_models import write_model
from zopog_models import CheckpointError, FrozenModel, ProviderError, load_model
from zopog_models.runners import session


def many_rows(seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 40, 100)
    return {
        "text_ids": [rng.integers(5, 60, length) for length in lengths],
        "answer_position": np.array([rng.integers(1, length) for length in lengths]),
        "prompt_ids": rng.integers(5, 60, (6, 8)),
        "prompt_offset": rng.normal(0, 1, (6, 8, 32)).astype(np.float32),
        "prompt_index": rng.integers(0, 6, 100),
        "label_ids": np.array([7, 9, 30, 8]),
    }


def test_threads_and_repetition_do_not_change_a_bit(folder: Path) -> None:
    inputs = many_rows()
    once = load_model(folder, threads=1).logits(**inputs)
    model = load_model(folder, threads=5)
    for _ in range(5):
        assert np.array_equal(model.logits(**inputs), once)


def test_another_chunking_would_change_bits_but_not_numbers(
    model: FrozenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: chunks cut by the number of threads would be seen in the last bits, so bit equality means something."""
    inputs = many_rows()
    before = model.logits(**inputs)
    monkeypatch.setattr(model.runner, "chunk_rows", 1)
    after = model.logits(**inputs)
    assert not np.array_equal(before, after)
    assert np.abs(before - after).max() < 2e-6


def test_offset_none_is_zero(model: FrozenModel) -> None:
    inputs = many_rows()
    inputs["prompt_offset"] = np.zeros_like(inputs["prompt_offset"])
    zero = model.logits(**inputs)
    inputs["prompt_offset"] = None
    assert np.array_equal(model.logits(**inputs), zero)


def test_no_rows(model: FrozenModel) -> None:
    nothing = np.zeros(0, int)
    logits = model.logits([], nothing, np.zeros((1, 3), int), None, nothing, np.array([7, 8]))
    assert logits.shape == (0, 2)


def test_what_a_model_says_of_itself(model: FrozenModel, folder: Path) -> None:
    assert model.name == folder.name
    assert model.providers == ("CPUExecutionProvider",)
    assert (model.hidden_size, model.max_positions, model.injection) == (32, 64, "post_layernorm")
    assert len({model.mask_id, model.pad_id, model.cls_id, model.sep_id}) == 4
    assert {model.mask_id, model.pad_id, model.cls_id, model.sep_id} < model.special_ids
    from zopog_models import read_tensors

    words = read_tensors(folder / "model.safetensors")[f"{model.family}.embeddings.word_embeddings.weight"]
    assert model.embedding_std == pytest.approx(np.std(words.astype(np.float64)), rel=1e-12)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_projection(model: FrozenModel, count: int) -> None:
    rng = np.random.default_rng(2)
    matrix, z = rng.normal(size=(96, 11)).astype(np.float32), rng.normal(size=(count, 11))
    projected = model.projector(matrix)(z)
    assert projected.dtype == np.float32
    assert np.abs(projected - z @ matrix.astype(np.float64).T).max() < 1e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer_position": np.zeros(7, int)}, "answer_position of row 0 is 0"),
        ({"answer_position": np.array([3, 12, 1, 2, 6, 1, 20])}, "answer_position of row 1 is 12"),
        ({"answer_position": np.array([3])}, r"answer_position must have shape \(7,\)"),
        ({"prompt_index": np.full(7, 3)}, "prompt_index holds 3, but there are 3 prompts"),
        ({"prompt_index": np.full(7, -1)}, "prompt_index holds -1"),
        ({"prompt_ids": np.zeros(5, int)}, r"prompt_ids must have shape \(P, n\)"),
        ({"prompt_ids": np.full((3, 5), 10**6)}, "prompt_ids holds 1000000, but the model knows"),
        ({"prompt_offset": np.zeros((3, 5, 31))}, r"prompt_offset must have shape \(3, 5, 32\)"),
        ({"label_ids": np.array([-1])}, "label_ids holds -1"),
        ({"text_ids": [np.full(9, 10**6)] * 7}, "text_ids holds 1000000"),
        ({"text_ids": [np.full(60, 7)] * 7}, "a row of 60 tokens and a prompt of 5 do not fit into the model's 64"),
    ],
)
def test_inputs_that_do_not_fit(model: FrozenModel, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.logits(**(case(5, 3) | change))


def test_the_longest_row_that_fits(model: FrozenModel) -> None:
    row = np.full(59, 7)
    args = (np.array([58]), np.full((1, 5), 8), None, np.array([0]), np.array([7]))
    assert np.isfinite(model.logits([row], *args)).all()


def test_bad_settings(bert_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"device must be one of \('cpu', 'cuda'\), got 'tpu'"):
        load_model(bert_folder, device="tpu")
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        load_model(bert_folder, threads=0)


def test_a_tokenizer_that_does_not_belong(tmp_path: Path, roberta_folder: Path) -> None:
    folder = write_model(tmp_path / "model", "bert")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer.json is not a tokenizer"):
        load_model(folder)
    (folder / "tokenizer.json").write_bytes((roberta_folder / "tokenizer.json").read_bytes())
    with pytest.raises(CheckpointError, match=r"token ids up to \d+, config.json says vocab_size|has no mask token"):
        load_model(folder)


# Providers: whatever goes wrong, it is an error that says what to install, never another device.


def test_cuda_without_a_gpu_runtime(bert_folder: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(
        ProviderError,
        match=r"CUDAExecutionProvider.*onnxruntime \d.*offers only.*pip install \"onnxruntime-gpu\[cuda,cudnn\]",
    ):
        load_model(bert_folder, device="cuda")


class _FallsBack:
    """ONNX Runtime as it behaves when CUDA's libraries are missing: a log line, and a session on the CPU."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.asked = kwargs["providers"]

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]

    def disable_fallback(self) -> None:
        raise AssertionError("the session was accepted")


def test_a_silent_fallback_is_an_error(bert_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(onnxruntime, "InferenceSession", _FallsBack)
    with pytest.raises(ProviderError, match=r"CUDAExecutionProvider did not start .* what started instead: CPU"):
        load_model(bert_folder, device="cuda")
    with pytest.raises(AssertionError, match="the session was accepted"):  # the twin: on the CPU it is no fallback
        load_model(bert_folder, device="cpu")


def test_a_provider_that_raises(bert_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("libcudnn.so.9: cannot open shared object file")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", broken)
    with pytest.raises(
        ProviderError, match=r"did not start .*libcudnn.so.9.*pip install \"onnxruntime-gpu\[cuda,cudnn\]"
    ):
        load_model(bert_folder, device="cuda")


@pytest.mark.parametrize(("package", "name"), [("onnxruntime", "ONNX Runtime"), ("tokenizers", "tokenizers")])
def test_missing_packages(bert_folder: Path, monkeypatch: pytest.MonkeyPatch, package: str, name: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # which makes any import of it fail
    with pytest.raises(ProviderError, match=rf"{name}.* missing .*pip install \""):
        load_model(bert_folder)


def test_which_runtime_is_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"onnxruntime": "1.2.3", "onnxruntime-gpu": "4.5.6"}
    monkeypatch.setattr(session.metadata, "version", versions.__getitem__)
    assert session.installed_runtimes() == "onnxruntime 1.2.3 and onnxruntime-gpu 4.5.6"
