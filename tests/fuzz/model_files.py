"""Targets: the files of a model folder: tensors, their index, config.json, tokenizer.json, modules.json."""

import base64
import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.mutation import mutated_json, mutated_tensors
from tests.fuzz.target import Target, as_json, tensor_bytes
from zopog_models.checkpoints.checked_tokenizer import CheckedTokenizer
from zopog_models.checkpoints.checkpoint import load_checkpoint
from zopog_models.checkpoints.tokenizer import beginning_id, open_tokenizer
from zopog_models.checkpoints.weights import read_weights, weights_sha256
from zopog_models.families import FAMILIES, CheckpointError, Config, family_of
from zopog_models.families.sentence import max_length_of, pooling_of
from zopog_models.files.json_file import read_object
from zopog_models.files.tensor_file import TensorFileError, read_metadata, read_tensors


def model_files(scratch: Path) -> list[Target]:
    """scratch: a folder for making the valid files."""
    small = {"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float16), "c": np.arange(3)}
    one, two = (tensor_bytes(scratch, {name: small[name]}) for name in "ab")
    index = {"metadata": {"total_size": 32}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    return [
        Target("tensors", {"x.safetensors": tensor_bytes(scratch, small, {"note": "n"})},
               {"x.safetensors": mutated_tensors}, _read_tensors, (TensorFileError,)),
        Target("shards", {"model.safetensors.index.json": as_json(index),
                          "model-1.safetensors": one, "model-2.safetensors": two},
               {"model.safetensors.index.json": mutated_json}, _read_shards, (CheckpointError, TensorFileError)),
        *(Target(f"config of {name}", {"config.json": as_json(config)}, {"config.json": mutated_json},
                 _read_config, (CheckpointError,), 0.5) for name, config in CONFIGS.items()),
        *(Target(f"folder of {name}", model_folder(scratch, CONFIGS[name]),
                 {"config.json": mutated_json, "model.safetensors": mutated_tensors}, load_checkpoint,
                 (CheckpointError, TensorFileError)) for name in ("albert", "llama")),
        Target("modules", {"modules.json": as_json(MODULES), "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true, "pooling_mode": "mean"}'},
               {"modules.json": mutated_json, "1_Pooling/config.json": mutated_json}, pooling_of, (CheckpointError,)),
        Target("sentence length", {"modules.json": as_json(MODULES), "sentence_bert_config.json": b'{"max_seq_length": 256, "do_lower_case": false}'},
               {"sentence_bert_config.json": mutated_json}, max_length_of, (CheckpointError,)),
        *(Target(f"tokenizer {name}", {"tokenizer.json": as_json(about)}, {"tokenizer.json": mutated_tokenizer},
                 _read_tokenizer, (CheckpointError,), 0.5) for name, about in TOKENIZERS.items()),
        Target("tokenizer_config", {"tokenizer.json": as_json(TOKENIZERS["WordPiece"]), "tokenizer_config.json": b'{"add_bos_token": true, "bos_token": {"content": "[CLS]"}, "x": "y"}'},
               {"tokenizer_config.json": mutated_json}, _read_beginning, (CheckpointError,), 0.5),
    ]  # fmt: skip


BERT = {"model_type": "bert", "vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 16, "max_position_embeddings": 32, "type_vocab_size": 2, "hidden_act": "gelu",
         "layer_norm_eps": 1e-12, "tie_word_embeddings": True, "pad_token_id": 0, "embedding_size": 4}  # fmt: skip
LLAMA = {"model_type": "llama", "vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
          "num_key_value_heads": 1, "intermediate_size": 16, "max_position_embeddings": 32, "rms_norm_eps": 1e-6,
          "rope_theta": 10000.0, "hidden_act": "silu", "head_dim": 4, "bos_token_id": 1, "mlp_bias": False,
          "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                           "original_max_position_embeddings": 16}}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    **{name: BERT | {"model_type": name} for name in ("bert", "roberta", "xlm-roberta", "camembert", "electra", "albert", "mpnet")},
    "distilbert": {"model_type": "distilbert", "vocab_size": 30, "dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 16,
                   "max_position_embeddings": 32, "activation": "gelu"},
    "modernbert": BERT | {"model_type": "modernbert", "local_attention": 8, "global_attn_every_n_layers": 2},
    "gpt2": {"model_type": "gpt2", "vocab_size": 30, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 32,
             "n_inner": None, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new"},
    "llama": LLAMA,
    "qwen2": LLAMA | {"model_type": "qwen2", "use_sliding_window": False},
    "qwen3": LLAMA | {"model_type": "qwen3", "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "phi3": LLAMA | {"model_type": "phi3", "sliding_window": 4, "head_dim": None, "partial_rotary_factor": 0.5,
                     "original_max_position_embeddings": 16, "rope_scaling": {"type": "longrope", "short_factor": [1.5]}},
    "gpt_neox": LLAMA | {"model_type": "gpt_neox", "hidden_act": "gelu", "rotary_pct": 0.5, "rope_scaling": None},
    "opt": LLAMA | {"model_type": "opt", "ffn_dim": 16, "activation_function": "relu"},
    "mistral": LLAMA | {"model_type": "mistral", "sliding_window": 4},
    "smollm3": LLAMA | {"model_type": "smollm3", "no_rope_layers": [1, 0], "rope_scaling": None},
    "gemma3_text": LLAMA | {"model_type": "gemma3_text", "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 4,
                            "layer_types": ["sliding_attention", "full_attention"], "query_pre_attn_scalar": 8,
                            "rope_scaling": None, "rope_parameters": {"full_attention": {
                                "rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 16}}},
}  # fmt: skip
MODULES = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
           {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]  # fmt: skip
_WORDS = {word: i for i, word in enumerate(["[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]", "a", "text", "##s", "good"])}
_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
_COMMON: dict[str, Any] = {
    "version": "1.0", "truncation": {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
    "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 4, "pad_type_id": 0, "pad_token": "[PAD]"},
    "added_tokens": [{"id": i, "content": word, **_FLAGS} for word, i in list(_WORDS.items())[:5]],
    "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                       "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                       "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]}}},
    "decoder": None,
}  # fmt: skip
TOKENIZERS: dict[str, dict[str, Any]] = {
    "WordPiece": _COMMON | {
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": _WORDS},
    },
    "BPE": _COMMON | {
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}, {"type": "Prepend", "prepend": "_"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "\\w+|\\s"}, "behavior": "Isolated", "invert": False}, {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "[UNK]", "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": _WORDS | {"t": 9, "e": 10, "te": 11}, "merges": [["t", "e"]]},
    },
    "Unigram": _COMMON | {
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "_"},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always", "split": True},
        "model": {"type": "Unigram", "unk_id": 0, "vocab": [[word, -float(i)] for word, i in _WORDS.items()], "byte_fallback": False},
    },
    "WordLevel": _COMMON | {
        "normalizer": None, "pre_tokenizer": {"type": "Whitespace"}, "model": {"type": "WordLevel", "vocab": _WORDS, "unk_token": "[UNK]"},
    },
}  # fmt: skip


def model_folder(scratch: Path, config: dict[str, Any], tokenizer: str = "WordPiece") -> dict[str, bytes]:
    """The files of a whole model with random weights."""
    read = Config(Path("config.json"), config)
    rng, family = np.random.default_rng(0), family_of(read)
    shapes = family.shapes(family.read(read))
    tensors = {name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
    return {"config.json": as_json(config), "model.safetensors": tensor_bytes(scratch, tensors),
            "tokenizer.json": as_json(TOKENIZERS[tokenizer])}  # fmt: skip


# A SentencePiece map: the size of its trie, 256 units that know no character, and what characters would become.
_CHARSMAP = base64.b64encode((1024).to_bytes(4, "little") + bytes(1024) + b"a\0b\0").decode()

# Further steps that the library knows: one of them stands in for a tokenizer's own, and is mutated with it.
_STEPS: dict[str, list[dict[str, Any]]] = {
    "normalizer": [{"type": "Precompiled", "precompiled_charsmap": _CHARSMAP}, {"type": "StripAccents"}, {"type": "Nmt"}, {"type": "ByteLevel"},
                   {"type": "Strip", "strip_left": True, "strip_right": True}, {"type": "Replace", "pattern": {"Regex": "(a|b)*c?"}, "content": "d"}],
    "pre_tokenizer": [{"type": "Digits", "individual_digits": True}, {"type": "UnicodeScripts"}, {"type": "Punctuation", "behavior": "Isolated"}, {"type": "WhitespaceSplit"},
                      {"type": "CharDelimiterSplit", "delimiter": "e"}, {"type": "FixedLength", "length": 2},
                      {"type": "Split", "pattern": {"Regex": "(?i:'s|'t)|\\p{L}+|\\s+(?!\\S)"}, "behavior": "MergedWithNext", "invert": True}],
    "post_processor": [{"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False}, {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
                       {"type": "RobertaProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1], "trim_offsets": True, "add_prefix_space": True}],
    "model": [{"type": "BPE", "dropout": 0.5, "unk_token": "[UNK]", "byte_fallback": True, "fuse_unk": True, "ignore_merges": True, "vocab": _WORDS | {"t": 9, "e": 10, "te": 11}, "merges": ["t e"]},
              {"type": "Unigram", "unk_id": 0, "vocab": [[word, -float(i)] for word, i in _WORDS.items()], "byte_fallback": True}],
}  # fmt: skip


def mutated_tokenizer(rng: random.Random, content: bytes) -> bytes:
    if rng.random() < 0.4:
        part = rng.choice(list(_STEPS))
        content = as_json(json.loads(content) | {part: rng.choice(_STEPS[part])})
    return mutated_json(rng, content)


class Folder:
    """As much of a Checkpoint as the tokenizer's functions look at."""

    class architecture:
        vocab_size = 30

    family = FAMILIES["bert"]
    pooling = ""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tokenizer_path, self.config = folder, folder / "tokenizer.json", {"bos_token_id": 1}


def _read_tensors(folder: Path) -> None:
    for array in read_tensors(folder / "x.safetensors").values():
        array.sum()
    read_metadata(folder / "x.safetensors")


def _read_shards(folder: Path) -> None:
    read_weights(folder)
    weights_sha256(folder)


def _read_config(folder: Path) -> None:
    config = Config(folder / "config.json", read_object(folder / "config.json"))
    family = family_of(config)
    architecture = family.read(config)
    shapes = family.shapes(architecture)
    assert architecture.max_positions > 0
    assert all(size > 0 for shape in shapes.values() for size in shape)
    for name in ("x", *list(shapes)[:40]):
        family.canonical(name, architecture)


def _read_tokenizer(folder: Path) -> None:
    tokenizer: CheckedTokenizer = open_tokenizer(Folder(folder))  # type: ignore[arg-type]
    texts = ["a text", "", "goods [MASK] \0\n\u202e", "ü\U0001f600 " * 50]
    for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
        assert len(encoding.ids) < 1_000_000
        assert len(encoding.offsets) == len(encoding.ids)


def _read_beginning(folder: Path) -> None:
    checkpoint: Any = Folder(folder)
    beginning_id(checkpoint, open_tokenizer(checkpoint))
