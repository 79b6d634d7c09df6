"""Development only: decoders in `transformers` give the same label logits. Skipped without PyTorch.

The folders are written by transformers itself, in shards, so that what it calls things today is what is read.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.frozen.test_stories260k import FOLDER
from tests.models.graph.test_decoder_graph import case
from tests.models.tiny_decoders import FAMILY_NAMES, LLAMA3_SCALING, tokenizer_for
from zopog_models import load_model

torch = pytest.importorskip("torch", reason="PyTorch is for development only")
transformers = pytest.importorskip("transformers", reason="transformers is for development only")

SIZE = {"hidden_size": 256, "intermediate_size": 700, "num_hidden_layers": 4, "num_attention_heads": 8}
# As deep as real ones, and narrow.
DEEP = {"hidden_size": 192, "intermediate_size": 400, "num_hidden_layers": 24, "num_attention_heads": 12}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LONG = {"rope_type": "longrope", "short_factor": [1.0, 1.1, 1.3, 2.0, 3.5, 4.0], "long_factor": [9.0] * 6}
THETA = {"rope_type": "default", "rope_theta": 1e6}
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("gpt2", {"n_embd": 256, "n_layer": 4, "n_head": 8, "n_positions": 128}),
    ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 50, "activation_function": "relu"}),
    ("llama", {**SIZE, "num_key_value_heads": 2, "rope_scaling": LLAMA3_SCALING, "rope_theta": 500000.0}),
    ("llama", {**SIZE, "num_hidden_layers": 2, "head_dim": 16, "attention_bias": True, "mlp_bias": True}),
    ("llama", {**SIZE, "num_hidden_layers": 1, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    ("qwen2", {**SIZE, "num_key_value_heads": 4, "tie_word_embeddings": True}),
    ("llama", {**DEEP, "rope_parameters": {**YARN, "rope_theta": 1e6}, "max_position_embeddings": 128}),
    ("llama", {**DEEP, "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}),
    ("llama", {**DEEP, "num_key_value_heads": 3, "attention_bias": True, "mlp_bias": True, "rms_norm_eps": 3e-4}),
    (
        "qwen2",
        {**DEEP, "num_key_value_heads": 12, "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 12},
    ),
    ("mistral", {**DEEP, "num_key_value_heads": 6, "sliding_window": 9}),
    ("mistral", {**DEEP, "num_hidden_layers": 12, "sliding_window": None, "head_dim": 24, "num_key_value_heads": 3}),
    ("qwen3", {**DEEP, "head_dim": 24, "num_key_value_heads": 3, "rope_parameters": THETA}),
    (
        "qwen3",
        {
            **DEEP,
            "head_dim": 8,
            "num_key_value_heads": 12,
            "attention_bias": True,
            "use_sliding_window": True,
            "sliding_window": 9,
            "max_window_layers": 20,
            "tie_word_embeddings": True,
        },
    ),
    ("smollm3", {**DEEP, "num_hidden_layers": 36, "num_key_value_heads": 3}),
    ("smollm3", {**DEEP, "num_key_value_heads": 3, "use_sliding_window": True, "sliding_window": 9, "mlp_bias": True}),
    (
        "gemma3_text",
        {
            **DEEP,
            "num_hidden_layers": 26,
            "head_dim": 24,
            "num_key_value_heads": 3,
            "sliding_window": 9,
            "query_pre_attn_scalar": 20,
        },
    ),
    (
        "gemma3_text",
        {
            **DEEP,
            "num_hidden_layers": 12,
            "head_dim": 8,
            "sliding_window": 9,
            "attention_bias": True,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    ("gpt_neox", {**DEEP}),
    ("gpt_neox", {**DEEP, "num_hidden_layers": 12, "use_parallel_residual": False, "attention_bias": False}),
    (
        "opt",
        {
            **{name: size for name, size in DEEP.items() if "inter" not in name},
            "ffn_dim": 500,
            "word_embed_proj_dim": 192,
        },
    ),
    ("phi3", {**DEEP, "num_key_value_heads": 3, "sliding_window": 9}),
    (
        "phi3",
        {
            **DEEP,
            "num_key_value_heads": 4,
            "partial_rotary_factor": 0.75,
            "max_position_embeddings": 512,
            "original_max_position_embeddings": 64,
            "rope_scaling": LONG,
        },
    ),
]


def write_peer(folder: Path, family: str, settings: dict[str, Any], dtype: str = "float32") -> Any:
    """A random model as transformers makes and saves it; biases and normalisations are made to matter."""
    tokenizer = tokenizer_for(family)
    config = transformers.AutoConfig.for_model(
        family, vocab_size=tokenizer.get_vocab_size(), pad_token_id=None, **settings
    )
    torch.manual_seed(0)
    network = transformers.AutoModelForCausalLM.from_config(config).eval().to(getattr(torch, dtype))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn_like(parameter)
            elif "wte" not in name and "embed" not in name:
                parameter *= 3
    network.save_pretrained(folder, max_shard_size="1MB")
    tokenizer.save(str(folder / "tokenizer.json"))
    return network


def with_few_keys(folder: Path, family: str) -> None:
    """config.json as it is without what transformers has as the family's default."""
    defaults = json.loads(transformers.AutoConfig.for_model(family).to_json_string(use_diff=False))
    written = json.loads((folder / "config.json").read_text())
    few = {name: value for name, value in written.items() if value != defaults.get(name) or name == "model_type"}
    assert len(few) < 16, few
    (folder / "config.json").write_text(json.dumps(few))


def peer_logits(network: Any, inputs: dict[str, Any], first: int) -> np.ndarray:
    """The prompt inserted into the ids, the offset added to the word embeddings by a hook."""
    n = inputs["prompt_ids"].shape[1]
    lengths = [len(ids) + n for ids in inputs["text_ids"]]
    ids = np.zeros((len(lengths), max(lengths)), np.int64)
    offset = np.zeros((*ids.shape, inputs["prompt_offset"].shape[2]), np.float32)
    for r, (text, p) in enumerate(zip(inputs["text_ids"], inputs["prompt_index"], strict=True)):
        ids[r, : lengths[r]] = [*text[:first], *inputs["prompt_ids"][p], *text[first:]]
        offset[r, first : n + first] = inputs["prompt_offset"][p]
    where = network.get_input_embeddings()
    factor = getattr(where, "embed_scale", 1.0)  # Gemma multiplies here; the offset belongs to the embeddings before
    hook = where.register_forward_hook(lambda module, args, output: output + factor * torch.from_numpy(offset))
    mask = torch.from_numpy((np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64))
    try:
        with torch.no_grad():
            scores = network(input_ids=torch.from_numpy(ids), attention_mask=mask).logits  # (R, S, V)
    finally:
        hook.remove()
    rows = np.arange(len(lengths))
    return scores.numpy()[rows, inputs["answer_position"] + n][:, inputs["label_ids"]]


def inputs_for(width: int, n: int = 20, prompts: int = 3) -> dict[str, Any]:
    inputs = case(n, prompts)
    offset = np.random.default_rng(2).normal(0, 0.05, (prompts, n, width)).astype(np.float32)
    return inputs | {"prompt_offset": offset}


@pytest.mark.parametrize(("family", "settings"), MODELS, ids=str)
def test_the_same_label_logits(tmp_path: Path, family: str, settings: dict[str, Any]) -> None:
    network = write_peer(tmp_path / "model", family, settings)
    model = load_model(tmp_path / "model", threads=1)
    for n in (0, 20):
        inputs = inputs_for(model.hidden_size, n)
        expected = peer_logits(network, inputs, first=0 if model.cls_id is None else 1)
        largest = np.abs(model.logits(**inputs) - expected).max()
        print(f"largest difference {largest:.2e}, logits up to {np.abs(expected).max():.1f}")
        assert largest < 2e-5 * max(1, np.abs(expected).max())
        assert np.ptp(expected) > 0.1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_files(tmp_path: Path, dtype: str) -> None:
    write_peer(tmp_path / "model", "llama", MODELS[2][1], dtype)
    network = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    model = load_model(tmp_path / "model", threads=1)
    inputs = inputs_for(model.hidden_size)
    assert np.abs(model.logits(**inputs) - peer_logits(network, inputs, 1)).max() < 2e-5


def test_a_wrong_peer_is_noticed(tmp_path: Path) -> None:
    """The twin: one weight changed in the peer alone."""
    network = write_peer(tmp_path / "model", "gpt2", MODELS[0][1])
    model = load_model(tmp_path / "model", threads=1)
    inputs = inputs_for(model.hidden_size)
    assert np.abs(model.logits(**inputs) - peer_logits(network, inputs, 0)).max() < 2e-5
    with torch.no_grad():
        network.transformer.h[0].mlp.c_proj.bias[0] += 0.1
    assert np.abs(model.logits(**inputs) - peer_logits(network, inputs, 0)).max() > 1e-4


@pytest.mark.skipif(not (FOLDER / "model.safetensors").is_file(), reason="stories260K is not here")
def test_a_real_model() -> None:
    model = load_model(FOLDER, threads=1)
    inputs = inputs_for(model.hidden_size)
    expected = peer_logits(transformers.AutoModelForCausalLM.from_pretrained(FOLDER).eval(), inputs, 1)
    largest = np.abs(model.logits(**inputs) - expected).max()
    print(f"largest difference {largest:.2e}, logits up to {np.abs(expected).max():.1f}")
    assert largest < 2e-5 * np.abs(expected).max()


OWN_SIZES = {
    "opt": {"ffn_dim": 120, "word_embed_proj_dim": 96},
    "qwen3": {"head_dim": 128},
    "gemma3_text": {"head_dim": 256},
}


@pytest.mark.parametrize("family", [name for name in FAMILY_NAMES if name != "gpt2"])
def test_a_config_of_few_keys(tmp_path: Path, family: str) -> None:
    heads = 8 if family == "mistral" else 4 if family in ("smollm3", "gemma3_text") else 6
    sizes = {"hidden_size": 96, "intermediate_size": 120, "num_hidden_layers": 7, "num_attention_heads": heads}
    if family in ("llama", "qwen2", "qwen3"):
        sizes["num_key_value_heads"] = 3
    network = write_peer(tmp_path / "model", family, {**sizes, **OWN_SIZES.get(family, {})})
    with_few_keys(tmp_path / "model", family)
    model = load_model(tmp_path / "model", threads=1)
    inputs = inputs_for(model.hidden_size)
    expected = peer_logits(network, inputs, first=0 if model.cls_id is None else 1)
    assert np.abs(model.logits(**inputs) - expected).max() < 2e-5 * max(1, np.abs(expected).max())
