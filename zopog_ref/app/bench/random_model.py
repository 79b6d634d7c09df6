"""A model folder of a given shape with random weights, and inputs of one loss evaluation: what benchmarks run on."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zopog_models.files.tensor_file import write_tensors


class Shape(NamedTuple):
    """Numbers of a RoBERTa."""

    layers: int
    hidden: int
    heads: int
    vocabulary: int


SHAPES = {"mini": Shape(4, 256, 4, 8192), "base": Shape(12, 768, 12, 50265), "large": Shape(24, 1024, 16, 50265)}
LABEL_WORDS = 3
CANDIDATES = 100
POSITIONS = 514
TOKENS = POSITIONS - 2  # of a row with its prompt: a RoBERTa's positions begin at 2
LEAST_LENGTH = 4  # of a text: <s> <mask> . </s>


def write_random_model(folder: Path, shape: Shape, seed: int = 0) -> None:
    """config.json, model.safetensors and a tokenizer.json of single words, as a RoBERTa on the hub has them."""
    rng = np.random.default_rng(seed)
    width, inner = shape.hidden, 4 * shape.hidden
    tensors: dict[str, np.ndarray] = {}

    def linear(name: str, rows: int, columns: int) -> None:
        tensors[f"{name}.weight"] = rng.normal(0, 0.02, (rows, columns)).astype(np.float32)
        tensors[f"{name}.bias"] = rng.normal(0, 0.02, rows).astype(np.float32)

    def layer_norm(name: str) -> None:
        tensors[f"{name}.weight"] = rng.normal(1, 0.02, width).astype(np.float32)
        tensors[f"{name}.bias"] = rng.normal(0, 0.02, width).astype(np.float32)

    for name, rows in (("word", shape.vocabulary), ("position", POSITIONS), ("token_type", 1)):
        table = rng.normal(0, 0.02, (rows, width)).astype(np.float32)
        tensors[f"roberta.embeddings.{name}_embeddings.weight"] = table
    layer_norm("roberta.embeddings.LayerNorm")
    for i in range(shape.layers):
        layer = f"roberta.encoder.layer.{i}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{layer}.attention.{part}", width, width)
        layer_norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", inner, width)
        linear(f"{layer}.output.dense", width, inner)
        layer_norm(f"{layer}.output.LayerNorm")
    linear("lm_head.dense", width, width)
    layer_norm("lm_head.layer_norm")
    tensors["lm_head.bias"] = rng.normal(0, 0.02, shape.vocabulary).astype(np.float32)
    write_tensors(folder / "model.safetensors", tensors, {"format": "pt"})  # older readers ask for it
    (folder / "config.json").write_text(json.dumps(_config(shape), indent=1))
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer(shape.vocabulary)))


def _config(shape: Shape) -> dict[str, object]:
    return {
        "architectures": ["RobertaForMaskedLM"],
        "model_type": "roberta",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": 4 * shape.hidden,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 1,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }


def _tokenizer(vocabulary: int) -> dict[str, object]:
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    words = [*special, *(f"w{i}" for i in range(len(special), vocabulary - 1)), "<mask>"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": words.index(word), "content": word, **flags} for word in (*special, "<mask>")]
    return {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(words)}, "unk_token": "<unk>"},
    }


def write_random_inputs(
    path: Path, shape: Shape, n_positions: int, batch: int, text_length: int, seed: int = 0
) -> None:
    """One API call as an .npz: text_ids (B, L), answer_position (B,), prompt_ids (1, n), prompt_offset (1, n, D),
    label_ids (C,); for a step of a method also labels (B,), classes, and candidates (N,), token ids.
    """
    rng = np.random.default_rng(seed)
    words = rng.integers(4, shape.vocabulary - 1, (batch, text_length))
    words[:, 0], words[:, -1], words[:, -3] = 0, 2, shape.vocabulary - 1  # <s> ... <mask> . </s>
    np.savez(
        path,
        text_ids=words,
        answer_position=np.full(batch, text_length - 3),
        prompt_ids=rng.integers(4, shape.vocabulary - 1, (1, n_positions)),
        prompt_offset=rng.normal(0, 0.1, (1, n_positions, shape.hidden)).astype(np.float32),
        label_ids=np.arange(10, 10 + LABEL_WORDS),
        labels=np.arange(batch) % LABEL_WORDS,
        candidates=np.arange(20, 20 + CANDIDATES),
    )
