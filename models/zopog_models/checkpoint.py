"""A Hugging Face folder (config.json, model.safetensors, tokenizer.json) as plain arrays with canonical names.

Published checkpoints differ in harmless ways: a tied output matrix that is stored or not, pooler and next-sentence
heads, LayerNorm parameters called gamma and beta. All that is settled here, once; whoever reads a `Checkpoint` finds
exactly the tensors that the architecture needs, with the shapes that config.json promises.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .tensor_file import read_tensors

__all__ = ["Architecture", "Checkpoint", "CheckpointError", "load_checkpoint"]

SUPPORTED_FAMILIES = ("bert", "roberta")
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")

# Parts that masked-token prediction never reads, and buffers that hold no parameters.
_UNUSED = re.compile(
    r"(bert|roberta)\.(pooler\..*|embeddings\.(position_ids|token_type_ids))|cls\.seq_relationship\..*"
)


class CheckpointError(ValueError):
    """A folder that is not a model this package can run; the message says what is missing or wrong."""


@dataclass(frozen=True)
class Architecture:
    """The numbers of config.json that decide what the network computes (the graph depends on these alone)."""

    family: str
    vocab_size: int  # V
    hidden_size: int  # D
    layers: int
    heads: int
    intermediate_size: int  # F
    max_position_rows: int  # rows of the position table
    first_position: int  # the position id of the first token: 0, or padding_idx + 1 for RoBERTa
    token_types: int
    layer_norm_eps: float
    activation: str  # of the feed-forward layers
    head_activation: str  # of the masked-token head

    @property
    def max_positions(self) -> int:
        """The longest sequence, prompt included."""
        return self.max_position_rows - self.first_position


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by their canonical names (`expected_tensors`), float32 or float16, views into the file."""

    family: str
    config: dict[str, Any]
    tensors: dict[str, np.ndarray] = field(repr=False)
    folder: Path
    architecture: Architecture

    @property
    def tokenizer_path(self) -> Path:
        return self.folder / "tokenizer.json"

    @cached_property
    def model_sha256(self) -> str:
        """What `sha256sum model.safetensors` prints."""
        return _sha256(self.folder / "model.safetensors")

    @cached_property
    def tokenizer_sha256(self) -> str:
        """What `sha256sum tokenizer.json` prints."""
        return _sha256(self.tokenizer_path)


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Open a model folder and check it against its own config.json.

    Raises CheckpointError (no folder, a missing file, an unsupported architecture, tensors that are missing, unknown
    or of the wrong shape) and TensorFileError (damaged weights).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(
            f"model {str(folder)!r} is not a folder; give 'embedded' or a folder with config.json, "
            "model.safetensors and tokenizer.json"
        )
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder} has no {name}; a model folder needs config.json, model.safetensors and "
                "tokenizer.json (the files that Hugging Face's save_pretrained writes)"
            )
    config = _read_config(folder / "config.json")
    architecture = read_architecture(folder / "config.json", config)
    tensors = _canonical_tensors(folder / "model.safetensors", architecture, config)
    return Checkpoint(architecture.family, config, tensors, folder, architecture)


def expected_tensors(architecture: Architecture, tied: bool = True) -> dict[str, tuple[int, ...]]:
    """Canonical name -> shape. Linear weights are (out, in), as published."""
    a = architecture
    d, f, v, prefix = a.hidden_size, a.intermediate_size, a.vocab_size, a.family
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, out: int, inside: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, inside), (out,)

    def layer_norm(name: str) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (d,), (d,)

    shapes[f"{prefix}.embeddings.word_embeddings.weight"] = (v, d)
    shapes[f"{prefix}.embeddings.position_embeddings.weight"] = (a.max_position_rows, d)
    shapes[f"{prefix}.embeddings.token_type_embeddings.weight"] = (a.token_types, d)
    layer_norm(f"{prefix}.embeddings.LayerNorm")
    for i in range(a.layers):
        layer = f"{prefix}.encoder.layer.{i}"
        for part in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{part}", d, d)
        linear(f"{layer}.attention.output.dense", d, d)
        layer_norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", f, d)
        linear(f"{layer}.output.dense", d, f)
        layer_norm(f"{layer}.output.LayerNorm")
    dense, norm, decoder, bias = head_names(a.family)
    linear(dense, d, d)
    layer_norm(norm)
    shapes[bias] = (v,)
    if not tied:
        shapes[decoder] = (v, d)
    return shapes


def head_names(family: str) -> tuple[str, str, str, str]:
    """The masked-token head's dense layer, LayerNorm, output matrix and output bias."""
    if family == "bert":
        head = "cls.predictions"
        return f"{head}.transform.dense", f"{head}.transform.LayerNorm", f"{head}.decoder.weight", f"{head}.bias"
    return "lm_head.dense", "lm_head.layer_norm", "lm_head.decoder.weight", "lm_head.bias"


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return config


def read_architecture(path: Path, config: dict[str, Any]) -> Architecture:
    """The architecture that a config.json describes (path: for messages). Raises CheckpointError."""
    family = config.get("model_type")
    if family not in SUPPORTED_FAMILIES:
        raise CheckpointError(
            f"{path}: model_type {family!r} is not supported; supported: {', '.join(SUPPORTED_FAMILIES)}"
        )

    def size(name: str, default: int | None = None) -> int:
        value = config.get(name, default)
        if type(value) is not int or value < 1:
            raise CheckpointError(f"{path}: {name} must be a positive whole number, got {value!r}")
        return value

    def refuse_unless(name: str, allowed: tuple[Any, ...], default: Any) -> Any:
        value = config.get(name, default)
        if value not in allowed:
            raise CheckpointError(f"{path}: {name} {value!r} is not supported; supported: {allowed}")
        return value

    refuse_unless("position_embedding_type", ("absolute", None), "absolute")
    refuse_unless("is_decoder", (False,), False)
    refuse_unless("add_cross_attention", (False,), False)
    activation = refuse_unless("hidden_act", ACTIVATIONS, "gelu")
    hidden_size, heads = size("hidden_size"), size("num_attention_heads")
    if hidden_size % heads:
        raise CheckpointError(f"{path}: hidden_size {hidden_size} is not a multiple of num_attention_heads {heads}")
    first_position = 0
    if family == "roberta":  # position ids count from padding_idx + 1
        padding = config.get("pad_token_id", 1)
        if type(padding) is not int or padding < 0:
            raise CheckpointError(f"{path}: pad_token_id must be a token id, got {padding!r}")
        first_position = padding + 1
    max_position_rows = size("max_position_embeddings", 512)
    if max_position_rows <= first_position:
        raise CheckpointError(f"{path}: max_position_embeddings {max_position_rows} leaves no position")
    eps = config.get("layer_norm_eps", 1e-12)
    if not isinstance(eps, (int, float)) or not 0 < eps < 1:
        raise CheckpointError(f"{path}: layer_norm_eps must lie between 0 and 1, got {eps!r}")
    return Architecture(
        family=family,
        vocab_size=size("vocab_size"),
        hidden_size=hidden_size,
        layers=size("num_hidden_layers"),
        heads=heads,
        intermediate_size=size("intermediate_size"),
        max_position_rows=max_position_rows,
        first_position=first_position,
        token_types=size("type_vocab_size", 2),
        layer_norm_eps=float(eps),
        activation=activation,
        head_activation=activation if family == "bert" else "gelu",  # RoBERTa's head is gelu whatever the config says
    )


def _canonical_tensors(path: Path, architecture: Architecture, config: dict[str, Any]) -> dict[str, np.ndarray]:
    stored = read_tensors(path)
    dense, _, decoder, bias = head_names(architecture.family)
    tied = bool(config.get("tie_word_embeddings", True))
    shapes = expected_tensors(architecture, tied)
    tensors: dict[str, np.ndarray] = {}
    surplus: list[str] = []
    for name, array in stored.items():
        canonical = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
        canonical = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", canonical)
        if canonical == decoder.replace(".weight", ".bias"):  # one bias, stored under one of two names or both
            canonical = bias
        if canonical in shapes:
            if canonical in tensors and not np.array_equal(tensors[canonical], array):
                raise CheckpointError(f"{path}: {canonical} is stored twice with different values")
            tensors[canonical] = array
        elif not _UNUSED.fullmatch(canonical) and canonical != decoder:  # a tied output matrix is the embedding
            surplus.append(name)
    if missing := [name for name in shapes if name not in tensors]:
        hint = " (a model without its masked-token head cannot be prompted)" if f"{dense}.weight" in missing else ""
        raise CheckpointError(f"{path}: missing tensors: {_listed(missing)}{hint}")
    if surplus:
        raise CheckpointError(
            f"{path}: tensors that a {architecture.family} with this config.json does not have: {_listed(surplus)}"
        )
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise CheckpointError(f"{path}: {name} has shape {tensors[name].shape}, config.json says {shape}")
        if tensors[name].dtype not in (np.float32, np.float16):
            raise CheckpointError(f"{path}: {name} has dtype {tensors[name].dtype}, expected float32, float16 or BF16")
    return tensors


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
