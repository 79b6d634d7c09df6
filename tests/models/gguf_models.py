"""Tiny GGUF files, written by the package gguf as llama.cpp's converter does it, from folders of `write_decoder`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import numpy_llama
from zopog_models.files.tensor_file import read_tensors

gguf = pytest.importorskip("gguf", reason="pip install gguf")

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def write_gguf(
    folder: Path, path: Path, kind: str = "F32", pre: str = "gpt-2", **changes: Any
) -> dict[str, np.ndarray]:
    """The folder as one GGUF file; its tensors as the file has them, dequantised, under the folder's names.

    changes: metadata on top, by whole keys; None leaves an entry out.
    """
    config = json.loads((folder / "config.json").read_text())
    name = config["model_type"]
    heads, key_heads = config["num_attention_heads"], config["num_key_value_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    entries: dict[str, Any] = {
        f"{name}.context_length": config["max_position_embeddings"],
        f"{name}.embedding_length": config["hidden_size"],
        f"{name}.block_count": config["num_hidden_layers"],
        f"{name}.feed_forward_length": config["intermediate_size"],
        f"{name}.attention.head_count": heads,
        f"{name}.attention.head_count_kv": key_heads,
        f"{name}.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        f"{name}.rope.dimension_count": width,
        f"{name}.rope.freq_base": float(config["rope_theta"]),
    }
    if config.get("head_dim"):
        entries |= {f"{name}.attention.key_length": width, f"{name}.attention.value_length": width}
    writer = gguf.GGUFWriter(path, name)
    for key, value in (entries | _tokenizer(folder, pre) | changes).items():
        _add(writer, key, value)
    scaling = config.get("rope_scaling")
    if scaling and scaling["rope_type"] == "llama3":
        plain = numpy_llama.frequencies({**config, "rope_scaling": None})
        writer.add_tensor("rope_freqs.weight", (plain / numpy_llama.frequencies(config)).astype(np.float32))
    read_back = {}
    for canonical, array in read_tensors(folder / "model.safetensors").items():
        place, _, ending = canonical.rpartition(".")
        spelled = f"{WHOLE[place]}.{ending}" if place in WHOLE else "blk.{}.{}.{}".format(
            place.split(".")[2], NAMES[place.split(".", 3)[3]], ending
        )  # fmt: skip
        stored = np.array(array)
        if name == "llama" and place.endswith(("q_proj", "k_proj")):  # pairs of a head's two halves stand together
            count = heads if place.endswith("q_proj") else key_heads
            halves = stored.reshape(count, 2, width // 2, -1)
            stored = halves.swapaxes(1, 2).reshape(stored.shape).copy()
        dtype = gguf.GGMLQuantizationType[kind if array.ndim == 2 else "F32"]
        read_back[canonical] = gguf.quants.dequantize(gguf.quants.quantize(np.array(array), dtype), dtype)
        writer.add_tensor(spelled, gguf.quants.quantize(stored, dtype), raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_back


def _tokenizer(folder: Path, pre: str) -> dict[str, Any]:
    described = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = described["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    special = {entry["content"] for entry in described["added_tokens"]}
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in described["model"]["merges"]]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in special else 1 for token in tokens],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 0,
    }


def _add(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif value is not None:
        writer.add_array(key, value)
