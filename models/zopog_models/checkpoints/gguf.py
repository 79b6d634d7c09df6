"""A GGUF file (llama.cpp's format) as what a model folder would say: config.json's numbers, named tensors, a tokenizer.

Everything that follows is the families' own: they read the numbers, and their graphs the tensors. What a file may say
and no family computes is refused by name. Weights are dequantised some rows at a time, to float32, into a temporary
file that is mapped; those that are float32 already stay in the file they came in.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zopog_models.checkpoints.gguf_tokenizer import tokenizer_of
from zopog_models.errors import CheckpointError
from zopog_models.families import Architecture, Config, Family, family_of
from zopog_models.families.decoder import DecoderArchitecture
from zopog_models.files.gguf_file import Gguf, StoredTensor, dequantised, is_gguf, read_gguf
from zopog_models.files.quoting import quoted, quoted_names
from zopog_models.files.scratch import Scratch

__all__ = ["ARCHITECTURES", "GgufModel", "gguf_place", "open_gguf"]

# general.architecture -> model_type of config.json. Mistral's files call themselves llama.
ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
_PERMUTED = ("llama",)  # whose queries and keys are stored in rotary pairs
# entry of metadata, without the architecture before it -> entry of config.json
_NUMBERS = {
    "embedding_length": "hidden_size", "block_count": "num_hidden_layers", "context_length": "max_position_embeddings",
    "feed_forward_length": "intermediate_size", "attention.head_count": "num_attention_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}  # fmt: skip
_OPTIONAL = {
    "attention.head_count_kv": "num_key_value_heads", "rope.freq_base": "rope_theta",
    "attention.key_length": "head_dim",
}  # fmt: skip
# Checked below, or without a part in what is computed.
_SEEN = {
    "vocab_size", "rope.dimension_count", "attention.value_length", "rope.scaling.type", "rope.scaling.factor",
    "rope.scale_linear", "rope.scaling.original_context_length", "rope.scaling.finetuned", "attention.sliding_window",
    "expert_count", "expert_used_count", "tensor_data_layout", "attention.causal",
}  # fmt: skip
_WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_PARTS = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_FREQUENCIES = "rope_freqs.weight"
_AT_ONCE = 4_000_000  # numbers that are dequantised at once, where a tensor's rows can be taken apart


class GgufModel(NamedTuple):
    """What a model folder says: its family and numbers, tensors by canonical name, tokenizer.json and its settings.

    scratch: the temporary file in which tensors were dequantised.
    """

    family: Family
    config: dict[str, Any]
    architecture: Architecture
    tensors: dict[str, np.ndarray]
    tokenizer: dict[str, Any]
    settings: dict[str, Any]
    scratch: Scratch | None = None


def gguf_place(source: str | Path) -> tuple[Path, Path | None] | None:
    """The file, and the tokenizer's folder of FILE.gguf#FOLDER; None where a source is no GGUF file."""
    file, _, folder = str(source).partition("#")
    return (Path(file), Path(folder) if folder else None) if is_gguf(file) else None


def open_gguf(path: Path, folder: Path | None = None, *, weights: bool = True) -> GgufModel:
    """Read a GGUF file, everything checked before the first tensor is dequantised.

    Raises CheckpointError, UnusableFile (a tokenizer.json that cannot be read) and ProviderError (no package gguf).

    Parameters
        path: the file
        folder: with the tokenizer.json to use; default: the file's own tokenizer
        weights: False reads what it says without dequantising anything
    """
    file = read_gguf(path)
    name = _architecture(file)
    values = _config(file, name)
    config = Config(path, values)
    family = family_of(config)
    architecture = family.read(config)
    architecture = _with_stored_frequencies(file, architecture)
    stored = _canonical(file, family, architecture)
    tokenizer, settings = tokenizer_of(file, folder, architecture.vocab_size)
    about = GgufModel(family, values, architecture, {}, tokenizer, settings)
    return about._replace(**_weights(path, stored, architecture, name in _PERMUTED)) if weights else about


def _weights(
    path: Path, stored: Mapping[str, tuple[str, StoredTensor]], architecture: Architecture, permuted: bool
) -> dict[str, Any]:
    """tensors and scratch of a `GgufModel`. Errors: CheckpointError."""
    kinds = {tensor.kind: (spelled, tensor) for spelled, tensor in stored.values()}
    for spelled, tensor in kinds.values():  # of each type one row first: one that is unknown ends it here
        dequantised(path, spelled, _rows_of(tensor, 0, 1))
    tensors: dict[str, np.ndarray] = {}
    try:
        scratch = Scratch()
        for canonical, (spelled, tensor) in stored.items():
            part = re.search(r"\.([qk])_proj\.", canonical) if permuted else None
            if part is not None:
                array = _in_halves(dequantised(path, spelled, tensor), part[1], architecture)
                scratch.add(canonical, tensor.shape, [array])
            elif tensor.kind_name == "F32":
                tensors[canonical] = dequantised(path, spelled, tensor)
            else:
                scratch.add(canonical, tensor.shape, _in_parts(path, spelled, tensor))
        return {"tensors": tensors | scratch.arrays(), "scratch": scratch}
    except OSError as error:
        needed = 4 * sum(int(np.prod(tensor.shape)) for _, tensor in stored.values())
        raise CheckpointError(
            f"{path}: dequantised it takes {needed:,} bytes in a temporary file, which could not be written "
            f"({error.strerror or error}): set TMPDIR to a folder with room"
        ) from None


def _in_parts(path: Path, spelled: str, tensor: StoredTensor) -> Iterator[np.ndarray]:
    """A tensor's rows dequantised, some at a time."""
    count = int(np.prod(tensor.shape[:-1]))
    step = max(1, _AT_ONCE // tensor.shape[-1])
    for begin in range(0, count, step):
        yield dequantised(path, spelled, _rows_of(tensor, begin, min(begin + step, count)))


def _architecture(file: Gguf) -> str:
    """general.architecture, of a whole model in one file."""
    meta, path = file.metadata, file.path
    name, kind, parts = (meta.get(key) for key in ("general.architecture", "general.type", "split.count"))
    if isinstance(parts, int) and parts > 1:
        raise CheckpointError(
            f"{path} is one of {parts} parts: make one file of them with llama-gguf-split --merge FIRST_PART OUT, of "
            "llama.cpp"
        )
    if kind not in (None, "model"):
        raise CheckpointError(f"{path} holds {quoted(kind)}, not a model: give the model's own GGUF file")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise CheckpointError(
            f"{path}: architecture {quoted(name)} is not supported in a GGUF file; supported: "
            f"{', '.join(ARCHITECTURES)}. Give the folder that it was made from, or serve it with llama-server and "
            "give completions+http://..."
        )
    return name


def _config(file: Gguf, name: str) -> dict[str, Any]:
    """What config.json would say. Errors: CheckpointError for what no family here computes."""
    path, meta = file.path, file.metadata
    own = {key.removeprefix(f"{name}."): value for key, value in meta.items() if key.startswith(f"{name}.")}
    own = {key: _one(value) for key, value in own.items()}
    if unknown := sorted(own.keys() - _NUMBERS.keys() - _OPTIONAL.keys() - _SEEN):
        raise CheckpointError(f"{path}: {name}.{{{quoted_names(unknown)}}} is not supported in a GGUF file")
    if missing := [key for key in _NUMBERS if key not in own]:
        raise CheckpointError(f"{path} does not say {name}.{missing[0]}")
    values: dict[str, Any] = {"model_type": ARCHITECTURES[name]}
    values |= {theirs: own[ours] for ours, theirs in (_NUMBERS | _OPTIONAL).items() if ours in own}
    table = file.tensors.get("token_embd.weight")
    if table is None or len(table.shape) != 2:
        raise CheckpointError(f"{path} has no table token_embd.weight")
    values |= {"vocab_size": table.shape[0], "tie_word_embeddings": "output.weight" not in file.tensors}
    values["attention_bias"] = "blk.0.attn_output.bias" in file.tensors
    values["mlp_bias"] = "blk.0.ffn_gate.bias" in file.tensors
    values |= {f"{role}_token_id": meta.get(f"tokenizer.ggml.{role}_token_id") for role in ("bos", "eos")}
    for key in ("expert_count", "expert_used_count"):
        if own.get(key, 0) != 0:
            raise CheckpointError(f"{path}: {name}.{key} is {quoted(own[key])}: mixtures of experts are not supported")
    window, context = own.get("attention.sliding_window", 0), own["context_length"]
    if window != 0 and not (isinstance(window, int) and isinstance(context, int) and window >= context):
        raise CheckpointError(f"{path}: {name}.attention.sliding_window {quoted(window)} is not supported")
    if own.get("attention.causal", True) is not True:
        raise CheckpointError(f"{path}: {name}.attention.causal must be true")
    heads, width = own["attention.head_count"], own["embedding_length"]
    if not all(type(count) is int and count > 0 for count in (heads, width)):
        raise CheckpointError(f"{path}: attention.head_count and embedding_length must be positive whole numbers")
    head = own.get("attention.key_length", width // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if own.get(key, head) != head:
            raise CheckpointError(f"{path}: {name}.{key} {quoted(own[key])} is not the width of a head, {quoted(head)}")
    return values | _scaling(path, name, own)


def _one(value: Any) -> Any:
    """A number that is listed once for each layer, where all are equal."""
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.size and (value == value[0]).all():
        return value[0].item()
    return value


def _scaling(path: Path, name: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """rope_scaling of config.json; Llama 3's is a tensor of the file."""
    kind, factor = own.get("rope.scaling.type", "none"), own.get("rope.scaling.factor", own.get("rope.scale_linear", 1))
    if kind not in ("none", "linear"):
        raise CheckpointError(
            f"{path}: {name}.rope.scaling.type {quoted(kind)} is not supported in a GGUF file; supported: none, linear"
        )
    # As llama.cpp reads it: a factor without a type is linear, 0 is none.
    if factor in (0, 1) or ("rope.scaling.type" in own and kind == "none"):
        return {}
    return {"rope_scaling": {"rope_type": "linear", "factor": factor}}


def _with_stored_frequencies(file: Gguf, architecture: Architecture) -> Architecture:
    """With Llama 3's rescaling as the file has it: by how much each frequency is divided."""
    tensor = file.tensors.get(_FREQUENCIES)
    if tensor is None or not isinstance(architecture, DecoderArchitecture):
        return architecture
    assert architecture.rotary is not None
    if tensor.shape != (architecture.head_width // 2,):
        raise CheckpointError(f"{file.path}: {_FREQUENCIES} has the shape {tensor.shape}, expected half a head's width")
    if architecture.rotary.kind != "default":
        raise CheckpointError(f"{file.path}: rotary positions are rescaled twice, by {_FREQUENCIES} and rope.scaling")
    divisors = tuple(float(value) for value in dequantised(file.path, _FREQUENCIES, tensor))
    if not all(0 < value < np.inf for value in divisors):
        raise CheckpointError(f"{file.path}: {_FREQUENCIES} must hold positive numbers")
    return replace(architecture, rotary=replace(architecture.rotary, kind="longrope", divisors=divisors))


def _canonical(file: Gguf, family: Family, architecture: Architecture) -> dict[str, tuple[str, StoredTensor]]:
    """Canonical name -> the file's name and its tensor, exactly those of the architecture, of the right shapes."""
    shapes, found, surplus = family.shapes(architecture), {}, []
    for spelled, tensor in file.tensors.items():
        if spelled == _FREQUENCIES:
            continue
        name = _family_name(spelled)
        if name not in shapes:
            surplus.append(spelled)
        elif tensor.shape != shapes[name]:
            raise CheckpointError(f"{file.path}: {spelled} has the shape {tensor.shape}, expected {shapes[name]}")
        else:
            found[name] = spelled, tensor
    if missing := [name for name in shapes if name not in found]:
        raise CheckpointError(
            f"{file.path}: missing tensors: {quoted_names(missing[:5])} (names of config.json's kind)"
        )
    if surplus:
        raise CheckpointError(f"{file.path}: tensors that a {family.name} does not have: {quoted_names(surplus[:5])}")
    return found


def _family_name(spelled: str) -> str:
    """blk.3.attn_q.weight as the families have it; a name of no kind stays."""
    place, _, kind = spelled.rpartition(".")
    layer = re.fullmatch(r"blk\.(\d{1,4})\.(\w+)", place)
    if layer and layer[2] in _PARTS:
        return f"model.layers.{int(layer[1])}.{_PARTS[layer[2]]}.{kind}"
    return f"{_WHOLE[place]}.{kind}" if place in _WHOLE else spelled


def _rows_of(tensor: StoredTensor, begin: int, end: int) -> StoredTensor:
    """Some of a tensor's rows, which are whole blocks."""
    row = len(tensor.data) // int(np.prod(tensor.shape[:-1]))
    return StoredTensor(tensor.kind, (end - begin, tensor.shape[-1]), tensor.data[begin * row : end * row])


def _in_halves(array: np.ndarray, part: str, architecture: Architecture) -> np.ndarray:
    """Rows of queries (q) or keys (k) in the families' order: a rotary pair is (i, i + w/2), stored as (2i, 2i + 1)."""
    assert isinstance(architecture, DecoderArchitecture)
    heads = architecture.heads if part == "q" else architecture.key_heads
    pairs = array.reshape(heads, architecture.head_width // 2, 2, -1)
    return pairs.swapaxes(1, 2).reshape(array.shape)
