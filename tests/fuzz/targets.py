"""What is fuzzed: every parser that reads a file from somebody else, valid files to start from, and its named errors.

A target reads what `write` put into a folder. It may return, or raise one of its errors with a message that is short.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers  # noqa: F401  not while an input is read

from tests.fuzz.mutation import mutated, mutated_json, mutated_tensors
from zopog_models.bundle import Prompt, PromptError, load_prompt, save_prompt
from zopog_models.checked_tokenizer import CheckedTokenizer
from zopog_models.families import CheckpointError, Config, family_of
from zopog_models.families.sentence import pooling_of
from zopog_models.json_file import read_object
from zopog_models.task import load_task, read_rows
from zopog_models.template import TaskError, make_task
from zopog_models.tensor_file import TensorFileError, read_metadata, read_tensors, write_tensors
from zopog_models.tokenizer import beginning_id, open_tokenizer
from zopog_models.weights import read_weights, weights_sha256
from zopog_ref.app.errors import InputError
from zopog_ref.app.predict import _rows
from zopog_ref.app.predictions import load_predictions
from zopog_ref.app.run_folder import RunFolder
from zopog_ref.app.run_lines import as_line, digest
from zopog_ref.search import Record

Mutate = Callable[[random.Random, bytes], bytes]


@dataclass(frozen=True)
class Target:
    """files: name -> content, all written before `read`; changed: which are mutated, and how. share: of the inputs."""

    name: str
    files: dict[str, bytes]
    changed: dict[str, Mutate]
    read: Callable[[Path], Any]
    errors: tuple[type[Exception], ...]
    share: float = 1.0
    keep: tuple[str, ...] = field(default=())  # files that the parser itself may add


ROWS = make_task("{text} . {mask} .", {"0": "bad", "1": "good"})


def tensor_bytes(folder: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> bytes:
    write_tensors(folder / "made", tensors, metadata)
    return (folder / "made").read_bytes()


def targets(scratch: Path) -> list[Target]:
    """All of them; scratch is a folder for making the valid files."""
    return [*_models(scratch), *_tasks(), *_artefacts(scratch), *_runs(scratch)]


# -- models --------------------------------------------------------------------------------------------------------


def _models(scratch: Path) -> list[Target]:
    small = {"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float16), "c": np.arange(3)}
    one, two = (tensor_bytes(scratch, {name: small[name]}) for name in "ab")
    index = {"metadata": {"total_size": 32}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    return [
        Target("tensors", {"x.safetensors": tensor_bytes(scratch, small, {"note": "n"})},
               {"x.safetensors": mutated_tensors}, _read_tensors, (TensorFileError,)),
        Target("shards", {"model.safetensors.index.json": json.dumps(index).encode(),
                          "model-1.safetensors": one, "model-2.safetensors": two},
               {"model.safetensors.index.json": mutated_json}, _read_shards, (CheckpointError, TensorFileError)),
        *(Target(f"config of {name}", {"config.json": json.dumps(config).encode()}, {"config.json": mutated_json},
                 _read_config, (CheckpointError,), 0.4) for name, config in CONFIGS.items()),
        Target("modules", {"modules.json": json.dumps(MODULES).encode(), "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true, "pooling_mode": "mean"}'},
               {"modules.json": mutated_json, "1_Pooling/config.json": mutated_json}, pooling_of, (CheckpointError,)),
        *(Target(f"tokenizer {name}", {"tokenizer.json": json.dumps(about).encode()}, {"tokenizer.json": mutated_json},
                 _read_tokenizer, (CheckpointError,), 0.5) for name, about in TOKENIZERS.items()),
        Target("tokenizer_config", {"tokenizer.json": json.dumps(TOKENIZERS["WordPiece"]).encode(), "tokenizer_config.json": b'{"add_bos_token": true, "bos_token": {"content": "[CLS]"}, "x": "y"}'},
               {"tokenizer_config.json": mutated_json}, _read_beginning, (CheckpointError,), 0.5),
    ]  # fmt: skip


_BERT = {"model_type": "bert", "vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 16, "max_position_embeddings": 32, "type_vocab_size": 2, "hidden_act": "gelu",
         "layer_norm_eps": 1e-12, "tie_word_embeddings": True, "pad_token_id": 0, "embedding_size": 4}  # fmt: skip
_LLAMA = {"model_type": "llama", "vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
          "num_key_value_heads": 1, "intermediate_size": 16, "max_position_embeddings": 32, "rms_norm_eps": 1e-6,
          "rope_theta": 10000.0, "hidden_act": "silu", "head_dim": 4, "bos_token_id": 1, "mlp_bias": False,
          "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                           "original_max_position_embeddings": 16}}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    **{name: _BERT | {"model_type": name} for name in ("bert", "roberta", "electra", "albert")},
    "distilbert": {"model_type": "distilbert", "vocab_size": 30, "dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 16,
                   "max_position_embeddings": 32, "activation": "gelu"},
    "gpt2": {"model_type": "gpt2", "vocab_size": 30, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 32,
             "n_inner": None, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new"},
    "llama": _LLAMA,
    "qwen2": _LLAMA | {"model_type": "qwen2", "use_sliding_window": False},
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


class _Folder:
    """As much of a Checkpoint as the tokenizer's functions look at."""

    class architecture:
        vocab_size = 30

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
    tokenizer: CheckedTokenizer = open_tokenizer(_Folder(folder))  # type: ignore[arg-type]
    texts = ["a text", "", "goods [MASK] \0\n\u202e", "ü\U0001f600 " * 50]
    for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
        assert len(encoding.ids) < 1_000_000
        assert len(encoding.offsets) == len(encoding.ids)


def _read_beginning(folder: Path) -> None:
    checkpoint: Any = _Folder(folder)
    beginning_id(checkpoint, open_tokenizer(checkpoint))


# -- tasks ---------------------------------------------------------------------------------------------------------

_TOML = b"""name = "mine"
description = "some texts"
template = "{text_a} ? {mask} , {text_b}"
train = "train.tsv"
test = 'below/test.tsv'
metric = "macro_f1"
text_columns = ["first", "second"]

[labels]
0 = "no"
"yes" = "yes"
"""
_LINES = "\n".join(json.dumps({"text": f"text {i} ü", "label": str(i % 2), "n": [i]}) for i in range(4)).encode()


def _tasks() -> list[Target]:
    table = b"text\tlabel\tmore\nfine \xc3\xbc\t1\tx\r\nbad\t0\ty\n\nlast\t1\tz"
    quoted = b'label,text\n1,"fine, ""very"""\r\n0,"two\nlines"\n'
    return [
        Target("task.toml", {"task.toml": _TOML, "train.tsv": b"x"}, {"task.toml": mutated}, _read_task, (TaskError,)),
        *(Target(name, {f"rows.{name}": content}, {f"rows.{name}": change}, _reader(name), (TaskError,))
          for name, content, change in (("tsv", table, mutated), ("csv", quoted, mutated), ("jsonl", _LINES, _mutated_lines))),
        Target("predict's texts", {"rows.jsonl": _LINES}, {"rows.jsonl": _mutated_lines}, _read_texts, (InputError,)),
    ]  # fmt: skip


def _mutated_lines(rng: random.Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    if rng.random() < 0.4:
        return mutated(rng, content)
    place = rng.randrange(len(lines))
    lines[place] = mutated_json(rng, lines[place])
    return b"\n".join(lines)


def _read_task(folder: Path) -> None:
    task = load_task(folder / "task.toml")
    for file in (task.train, task.dev, task.test):
        assert file is None or file.resolve().is_relative_to(folder.resolve()), file
    assert "/" not in task.name


def _reader(kind: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        texts, labels = read_rows(folder / f"rows.{kind}", ROWS)
        assert len(texts) == len(labels) > 0
        assert all(text.encode() is not None for row in texts for text in row)

    return read


def _read_texts(folder: Path) -> None:
    from zopog_ref.app.predict import _lines

    for row in _rows(_lines(folder / "rows.jsonl"), "rows.jsonl", ("text",)):
        assert row[0].encode() is not None


# -- artefacts -----------------------------------------------------------------------------------------------------


def _artefacts(scratch: Path) -> list[Target]:
    prompt = Prompt(
        ids=np.array([[1, 2]]), offsets=np.ones((1, 2, 3), np.float32), weights=np.ones(1), label_ids=np.array([4, 5]),
        template="{text} . {mask} .", labels={"0": "bad", "1": "good"}, injection="word_embedding", model="m",
        model_sha256="0" * 64, tokenizer_sha256="1" * 64, about={"seed": 1},
    )  # fmt: skip
    save_prompt(scratch, prompt)
    settings = json.loads(read_metadata(scratch / "prompt.safetensors")["prompt"])
    settings.pop("hash", None)  # with it, nearly every change would be found at once
    arrays = {name: np.array(array) for name, array in read_tensors(scratch / "prompt.safetensors").items()}
    content = tensor_bytes(scratch, arrays, {"prompt": json.dumps(settings)})
    kept = {"rows": np.arange(2), "labels": np.arange(2), "per_prompt": np.ones((1, 2, 2)), "weights": np.ones(1),
            "manual": np.ones((2, 2))}  # fmt: skip
    return [
        Target("prompt", {"prompt.safetensors": content},
               {"prompt.safetensors": lambda rng, data: mutated_tensors(rng, data, "prompt")}, load_prompt, (PromptError,)),
        Target("predictions", {"predictions.safetensors": tensor_bytes(scratch, kept)},
               {"predictions.safetensors": mutated_tensors}, load_predictions, (InputError,)),
    ]  # fmt: skip


# -- run folders ---------------------------------------------------------------------------------------------------


def _runs(scratch: Path) -> list[Target]:
    arrays = {"state.alpha": np.ones((2, 3)), "state.step": np.array(2)}
    curve = [Record(step, 8 * step, 32 * step, 100 * step, 0.5, 0.7, {"loss": 0.6}) for step in (1, 2, 3)]
    checkpoints = [
        tensor_bytes(scratch, arrays, {"step": step, "seconds": "1.5", "sha256": digest(arrays)}) for step in "21"
    ]
    files = {
        "config.json": b'{"format": 1, "method": "zo-pog"}',
        "checkpoint.safetensors": checkpoints[0], "checkpoint.previous.safetensors": checkpoints[1],
        "curve.jsonl": "".join(as_line(record) + "\n" for record in curve).encode(),
        "journal/000001.jsonl": b"[[0.5, 0.25]]\n[[1.0, 2.0]]\n", "journal/000002.jsonl": b"[[0.125, 1.0]]\n[[0.5",
    }  # fmt: skip
    changed: dict[str, Mutate] = {
        "config.json": mutated_json,
        "checkpoint.safetensors": mutated_tensors,
        "checkpoint.previous.safetensors": mutated_tensors,
        "curve.jsonl": _mutated_lines_or_torn,
        "journal/000002.jsonl": mutated,
    }
    return [Target("run folder", files, changed, _read_run, (InputError,), 0.5, (".lock", ".reserve"))]


def _mutated_lines_or_torn(rng: random.Random, content: bytes) -> bytes:
    return mutated(rng, content) if rng.random() < 0.5 else _mutated_lines(rng, content[:-1]) + b"\n"


def _read_run(folder: Path) -> None:
    opened, _ = RunFolder.open(folder)
    try:
        found = opened.load()
        if found is not None:
            assert found[1]
        while (losses := opened.replay()) is not None:
            assert losses.ndim == 2
        assert opened.seconds >= 0
    finally:
        opened.close()
