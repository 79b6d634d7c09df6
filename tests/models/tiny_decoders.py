"""Folders of tiny decoders: random weights, a tokenizer trained on a few sentences."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.models.tiny_models import SENTENCES
from zopog_models.families import FAMILIES, Config
from zopog_models.files.tensor_file import write_tensors

FAMILY_NAMES = ("gpt2", "gpt_neox", "opt", "llama", "mistral", "qwen2", "qwen3", "smollm3", "gemma3_text", "phi3")
BEGUN = ("opt", "llama", "mistral", "gemma3_text", "phi3")  # a text begins with a BOS token
LLAMA3_SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

# Windows smaller than the tests' rows, heads that are not D / heads wide.
OWN: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 5},
    "qwen3": {"head_dim": 12},
    "opt": {"ffn_dim": 48, "activation_function": "relu", "tie_word_embeddings": True},
    "phi3": {"sliding_window": 6, "hidden_size": 32, "partial_rotary_factor": 0.5},
    "gpt_neox": {"hidden_act": "gelu", "layer_norm_eps": 1e-5, "rotary_pct": 0.5, "rotary_emb_base": 10000.0},
    "smollm3": {"num_hidden_layers": 5},
    "gemma3_text": {
        "head_dim": 12,
        "query_pre_attn_scalar": 48,
        "sliding_window": 5,
        "sliding_window_pattern": 2,
        "hidden_activation": "gelu_pytorch_tanh",
        "rope_local_base_freq": 100.0,
        "tie_word_embeddings": True,
    },
}


def tokenizer_for(family: str) -> Tokenizer:
    """Llama and its like: a space in front of every text, and a BOS token. Others: byte-level, nothing before a text."""
    if family in BEGUN:
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
        # Trained on single words, as its model has no pre-tokenizer that would keep words apart.
        sentences = [word for sentence in SENTENCES for word in sentence.split()]
        trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=specials, show_progress=False)
        tokenizer.train_from_iterator(sentences * 4, trainer)
        content = json.loads(tokenizer.to_str())
        content["added_tokens"] = content["added_tokens"][:3]  # the bytes are pieces, not special tokens
        tokenizer = Tokenizer.from_str(json.dumps(content))
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        return tokenizer
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 4, trainer)
    return tokenizer


def config_for(family: str, vocab_size: int, **changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = {"model_type": family, "vocab_size": vocab_size}
    if family == "gpt2":
        config |= {
            "n_embd": 32,
            "n_layer": 3,
            "n_head": 4,
            "n_positions": 64,
            "layer_norm_epsilon": 1e-5,
            "activation_function": "gelu_new",
            "bos_token_id": 0,
            "eos_token_id": 0,
        }
    else:
        config |= {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 64,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "hidden_act": "silu",
            "tie_word_embeddings": False,
            "bos_token_id": 1 if family in BEGUN else 0,
            "eos_token_id": 2 if family in BEGUN else 0,
        }
        config |= OWN.get(family, {})
    return config | changes


def write_decoder(folder: Path, family: str, seed: int = 0, **changes: Any) -> Path:
    """A model folder. Weights are large enough for every part to matter in the fifth digit of a logit."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_for(family)
    config = config_for(family, tokenizer.get_vocab_size(), **changes)
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer.save(str(folder / "tokenizer.json"))
    write_tensors(folder / "model.safetensors", random_tensors(config, seed))
    return folder


def random_tensors(config: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    family = FAMILIES[config["model_type"]]
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in family.shapes(family.read(Config(Path("config.json"), config))).items():
        values = rng.normal(0, 0.2, shape)
        if "norm" in name or "ln_" in name:
            values += name.endswith(".weight")
        tensors[name] = values.astype(np.float32)
    return tensors
