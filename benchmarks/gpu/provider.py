"""The CUDA provider: the largest difference of a logit from the CPU's, where every node ran, and no silent fallback."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.place import Place
from tests.models import tiny_decoders, tiny_models
from zopog_models import FrozenModel, load_model, read_tensors, write_tensors
from zopog_models.runners.onnx_runtime import onnx_runtime

ROWS, PROMPTS, POSITIONS = 64, 4, 10
# RoBERTa-base; SmolLM2-135M with 12 of its 30 layers; all-MiniLM-L6-v2. Random weights, small vocabularies.
SIZES: dict[str, dict[str, Any]] = {
    "encoder": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "decoder": {
        "hidden_size": 576, "num_hidden_layers": 12, "num_attention_heads": 9, "num_key_value_heads": 3,
        "intermediate_size": 1536,
    },
    "sentence": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
}  # fmt: skip
CUDA_LIBRARY = "libonnxruntime_providers_cuda.so"
ASK_FOR_CUDA = """
from zopog_models import ProviderError, load_model
try:
    print("computed by", *load_model("embedded", device="cuda").providers)
except ProviderError as error:
    print("ProviderError:", error)
"""


def compare(place: Place) -> None:
    """Encoder, decoder and sentence model on this device against the CPU: fp32 with TF32 as it is set, and fp16."""
    place.put("TF32", "off" if os.environ.get("NVIDIA_TF32_OVERRIDE") == "0" else "ONNX Runtime's default: on")
    for kind in SIZES:
        with tempfile.TemporaryDirectory(prefix="zopog-") as name:
            folder = _write(kind, Path(name), place.rehearse)
            pooling = "mean" if kind == "sentence" else None
            inputs = _inputs(load_model(folder, pooling=pooling))
            expected = load_model(folder, pooling=pooling).logits(**inputs)
            for precision in ("fp32", place.reduced):
                opened = partial(_open, folder, pooling, place.device, precision)
                seconds, logits = _timed(opened(), inputs)
                found = {
                    "largest_difference": float(np.abs(logits - expected).max()),
                    "logits_std": float(expected.std()),
                    "same_label": float((logits.argmax(1) == expected.argmax(1)).mean()),
                    "seconds": seconds,
                }
                place.put(f"{kind} {precision}", found)
                place.put(f"{kind} {precision} nodes", nodes(opened, inputs, place.provider))


def _open(folder: Path, pooling: str | None, device: str, precision: str) -> FrozenModel:
    model = load_model(folder, pooling=pooling, device=device)
    return model if precision == "fp32" else model.reduced(precision)


def _write(kind: str, folder: Path, rehearse: bool) -> Path:
    sizes = {"max_position_embeddings": 130} | ({} if rehearse else SIZES[kind])
    if kind == "decoder":
        tiny_decoders.write_decoder(folder, "llama", **sizes)
    else:
        tiny_models.write_model(folder, "roberta" if kind == "encoder" else "bert", **sizes)
    tensors = read_tensors(folder / "model.safetensors")
    # Tiny models have large weights, so that every part shows; at these widths they would drown all in one.
    scale = 1 if rehearse else 0.1
    changed = {name: np.float32(array * (scale if array.ndim == 2 else 1)) for name, array in tensors.items()}
    write_tensors(folder / "model.safetensors", changed)
    return folder


def _inputs(model: FrozenModel) -> dict[str, Any]:
    """Rows of 12 to 60 tokens with different prompts."""
    rng = np.random.default_rng(0)
    texts = [rng.integers(5, model.vocab_size, size) for size in rng.integers(12, 60, ROWS)]
    for ids in texts:
        for at, token in ((0, model.cls_id), (-1, model.sep_id), (-3, model.mask_id)):
            if token is not None:
                ids[at] = token
    last = -3 if model.mask_id is not None else -1
    labels = rng.normal(0, 1, (3, model.hidden_size)).astype(np.float32)
    return {
        "text_ids": texts,
        "answer_position": np.array([len(ids) + last for ids in texts]),
        "prompt_ids": rng.integers(5, model.vocab_size, (PROMPTS, POSITIONS)),
        "prompt_offset": rng.normal(0, 0.05, (PROMPTS, POSITIONS, model.embedding_size)).astype(np.float32),
        "prompt_index": np.arange(ROWS) % PROMPTS,
        "label_ids": labels / np.linalg.norm(labels, axis=1)[:, None] if model.pooling else np.array([7, 8, 9]),
    }


def _timed(model: FrozenModel, inputs: dict[str, Any]) -> tuple[float, np.ndarray]:
    """Seconds of the second evaluation; the logits."""
    model.logits(**inputs)
    start = time.perf_counter()
    logits = model.logits(**inputs)
    return time.perf_counter() - start, logits


def nodes(opened: Callable[[], FrozenModel], inputs: dict[str, Any], provider: str) -> dict[str, Any]:
    """How many nodes each provider ran, by ONNX Runtime's own profile; and which ran elsewhere than on `provider`."""
    ort = onnx_runtime()
    options, session, kept = ort.SessionOptions, ort.InferenceSession, []
    with tempfile.TemporaryDirectory(prefix="zopog-profile-") as folder:

        class Profiled(options):  # type: ignore[misc, valid-type]
            def __init__(self) -> None:
                super().__init__()
                self.enable_profiling, self.profile_file_prefix = True, f"{folder}/{len(kept)}"

        class Kept(session):  # type: ignore[misc, valid-type]
            def __init__(self, *given: Any, **named: Any) -> None:
                super().__init__(*given, **named)
                kept.append(self)

        ort.SessionOptions, ort.InferenceSession = Profiled, Kept
        try:
            opened().logits(**inputs)
        finally:
            ort.SessionOptions, ort.InferenceSession = options, session
        ran: dict[str, str] = {}
        for number, one in enumerate(kept):
            for event in json.loads(Path(one.end_profiling()).read_text("utf-8")):
                arguments = event.get("args", {})
                if event.get("cat") == "Node" and arguments.get("provider"):
                    operator = arguments.get("op_name", "?")
                    ran[f"{number} {event['name']} {operator}"] = f"{arguments['provider']} {operator}"
    elsewhere = Counter(what.split()[1] for what in ran.values() if not what.startswith(provider))
    return {"by_provider": Counter(what.split()[0] for what in ran.values()), "elsewhere": elsewhere}


def refuse(place: Place) -> None:
    """With the provider's library hidden, then with CUDA's own: an error that says so, and never the CPU in silence."""
    with tempfile.TemporaryDirectory(prefix="zopog-", dir=place.results.path.parent) as name:
        found = find_spec("onnxruntime")
        assert found is not None
        assert found.origin is not None
        package, copy = Path(found.origin).parent, Path(name) / "onnxruntime"
        for path in package.rglob("*"):
            if path.is_file() and path.name != CUDA_LIBRARY and "__pycache__" not in path.parts:
                (copy / path.relative_to(package)).parent.mkdir(parents=True, exist_ok=True)
                _same_file(path, copy / path.relative_to(package))
        cases = {
            f"{CUDA_LIBRARY} hidden": {"PYTHONPATH": os.pathsep.join([name, os.environ.get("PYTHONPATH", "")])},
            "CUDA's libraries hidden": {"LD_LIBRARY_PATH": ""},
        }
        silent = []
        for case, changed in cases.items():
            command = [sys.executable, "-c", ASK_FOR_CUDA]
            done = subprocess.run(command, capture_output=True, text=True, env=os.environ | changed)
            said = done.stdout.strip() or done.stderr[-500:]
            place.put(case, said)
            if not said.startswith("ProviderError") and "CUDAExecutionProvider" not in said:
                silent.append(case)
    if silent:
        raise AssertionError(f"no error and no CUDA with {' and '.join(silent)}")


def _same_file(path: Path, copy: Path) -> None:
    try:
        os.link(path, copy)  # half a gigabyte otherwise
    except OSError:
        copy.write_bytes(path.read_bytes())
