"""The tokenizer of a GGUF file as a tokenizer.json: from its own list of tokens and merges, or a folder's, compared.

A file says which kind it is by two names: the model, and how a text is split before the merges. Kinds are listed here,
as transformers has them; any other needs the folder of the tokenizer, whose every token is compared with the file's.
"""

from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.errors import CheckpointError
from zopog_models.files.gguf_file import Gguf
from zopog_models.files.json_file import read_object
from zopog_models.files.quoting import quoted

__all__ = ["PRE_TOKENIZERS", "tokenizer_of"]

_UNKNOWN, _CONTROL, _USER, _UNUSED = 2, 3, 4, 5  # tokenizer.ggml.token_type; 1 is normal, 6 a byte
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_DIGITS = {"type": "Digits", "individual_digits": True}
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)


def _split(digits: str) -> dict[str, Any]:
    words = {"type": "Split", "pattern": {"Regex": _WORDS % digits}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [words, _BYTES | {"use_regex": False}]}


# tokenizer.ggml.pre -> how a text is split
PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "gpt-2": _BYTES,
    "smollm": {"type": "Sequence", "pretokenizers": [_DIGITS, _BYTES]},
    "llama-bpe": _split("{1,3}"),
    "qwen2": _split(""),
}


def tokenizer_of(file: Gguf, folder: Path | None, vocab_size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A tokenizer.json and what tokenizer_config.json would say. Raises CheckpointError and UnusableFile."""
    tokens, kinds = _tokens(file, vocab_size)
    meta = file.metadata
    model, pre = meta.get("tokenizer.ggml.model"), meta.get("tokenizer.ggml.pre")
    begins = meta.get("tokenizer.ggml.add_bos_token", model == "llama" or pre == "llama-bpe")  # as llama.cpp has it
    beginning = meta.get("tokenizer.ggml.bos_token_id")
    settings: dict[str, Any] = {"add_bos_token": begins is True}
    if type(beginning) is int and 0 <= beginning < len(tokens):
        settings["bos_token"] = tokens[beginning]
    if folder is not None:
        return _compared(file.path, folder, tokens), settings
    if model != "gpt2" or pre not in PRE_TOKENIZERS:
        raise CheckpointError(
            f"{file.path}: a tokenizer of the kind {quoted(model)}, {quoted(pre)} is not built here (built: gpt2 with "
            f"{', '.join(PRE_TOKENIZERS)}); give the folder of its tokenizer.json with --tokenizer FOLDER, or as "
            "FILE.gguf#FOLDER"
        )
    return _byte_level(file, tokens, kinds, str(pre)), settings


def _tokens(file: Gguf, vocab_size: int) -> tuple[list[str], np.ndarray]:
    """The file's tokens and their types, as many as the model has."""
    tokens, kinds = (file.metadata.get(f"tokenizer.ggml.{name}") for name in ("tokens", "token_type"))
    if not isinstance(tokens, list) or len(tokens) != vocab_size:
        found = len(tokens) if isinstance(tokens, list) else "no"
        raise CheckpointError(f"{file.path}: {found} tokens in tokenizer.ggml.tokens, token_embd has {vocab_size}")
    if len(set(tokens)) != len(tokens):
        twice = next(token for token in tokens if tokens.count(token) > 1)
        raise CheckpointError(f"{file.path}: the token {quoted(twice)} stands twice in tokenizer.ggml.tokens")
    if not isinstance(kinds, np.ndarray) or kinds.shape != (vocab_size,):
        raise CheckpointError(f"{file.path}: tokenizer.ggml.token_type must have {vocab_size} numbers")
    return tokens, kinds


def _byte_level(file: Gguf, tokens: list[str], kinds: np.ndarray, pre: str) -> dict[str, Any]:
    """Byte-level BPE. Tokens that nobody may write, or that stand for nothing, are special."""
    merges = file.metadata.get("tokenizer.ggml.merges")
    pairs = [merge.split(" ") for merge in merges] if isinstance(merges, list) else []
    if not pairs or not all(len(pair) == 2 for pair in pairs):
        raise CheckpointError(f"{file.path}: tokenizer.ggml.merges must list pairs of pieces with a space between them")
    added = [
        {"id": i, "content": tokens[i], "special": bool(kinds[i] != _USER), "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
        for i in np.flatnonzero(np.isin(kinds, (_UNKNOWN, _CONTROL, _USER, _UNUSED))).tolist()
        if tokens[i]
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if pre == "qwen2" else None,
        "pre_tokenizer": PRE_TOKENIZERS[pre],
        "post_processor": None,
        "decoder": _BYTES,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre == "llama-bpe",
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": pairs,
        },
    }


def _compared(path: Path, folder: Path, tokens: list[str]) -> dict[str, Any]:
    """The folder's tokenizer.json, whose tokens must be the file's, each under its own id."""
    where = folder / "tokenizer.json"
    if not where.is_file():
        raise CheckpointError(f"{folder} has no tokenizer.json, which --tokenizer needs")
    description = read_object(where, 100_000_000)
    model = description.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    listed = description.get("added_tokens")
    if isinstance(vocabulary, list):
        found = {i: entry[0] for i, entry in enumerate(vocabulary) if isinstance(entry, list) and entry}
    else:
        found = {i: token for token, i in vocabulary.items()} if isinstance(vocabulary, dict) else {}
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, dict) and type(entry.get("id")) is int and isinstance(entry.get("content"), str):
            found[entry["id"]] = entry["content"]
    for i, token in enumerate(tokens):
        if i in found and found[i] != token:
            raise CheckpointError(
                f"{where} is not the tokenizer of {path}: token {i} is {quoted(found[i])} there and {quoted(token)} in "
                "the file"
            )
    if lacking := len(tokens) - sum(i in found for i in range(len(tokens))):
        share = f"{lacking} of {len(tokens)}"
        if lacking > len(tokens) // 10:
            raise CheckpointError(f"{where} is not the tokenizer of {path}: it lacks {share} of the file's tokens")
    return description
