"""Targets: GGUF files whose counts, lengths, types, dimensions, offsets and numbers lie, and whose bytes are damaged."""

import random
import struct
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.mutation import mutated
from tests.fuzz.target import Target
from zopog_models.checkpoints.gguf import open_gguf
from zopog_models.errors import CheckpointError
from zopog_models.frozen.model import load_model

_U32, _I32, _F32, _BOOL, _STRING, _LIST = 4, 5, 6, 7, 8, 9
_CODES = {_U32: "<I", _I32: "<i", _F32: "<f", _BOOL: "<?"}
_WIDTH, _FEED_FORWARD, _KEY_WIDTH = 32, 64, 16  # a block of Q8_0 has 32 numbers
_TOKENS = ["<|endoftext|>", *"abcdefghistx", "te", "xt", "text", "Ġ", "Ġa"]
_SIZES = {0: (1, 4), 8: (32, 34)}  # type -> numbers of a block, its bytes: F32, Q8_0
# What a count, a length, a type or an offset becomes.
_HOSTILE = (0, 1, 2, 3, 8, 9, 31, 33, 4096, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**47, 2**48, 2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip


def gguf_files(scratch: Path) -> list[Target]:
    """None without the package gguf, which knows the types."""
    if find_spec("gguf") is None:
        return []
    content, _ = valid()
    changed = {"x.gguf": mutated_gguf}
    return [
        Target("gguf", {"x.gguf": content}, changed, _read, (CheckpointError,)),
        Target("gguf in use", {"x.gguf": content}, changed, _use, (CheckpointError,), 0.2),
    ]


class _Writer:
    """The bytes so far, and where a number stands that a reader has to doubt: (place, struct code)."""

    def __init__(self) -> None:
        self.content, self.numbers = bytearray(b"GGUF"), list[tuple[int, str]]()

    def number(self, code: str, value: Any) -> None:
        self.numbers.append((len(self.content), code))
        self.content += struct.pack(code, value)

    def text(self, value: str) -> None:
        self.number("<Q", len(value.encode()))
        self.content += value.encode()

    def value(self, kind: int, value: Any) -> None:
        if kind == _STRING:
            self.text(value)
        elif kind == _LIST:
            inner, values = value
            self.number("<I", inner)
            self.number("<Q", len(values))
            for one in values:
                self.value(inner, one)
        else:
            self.number(_CODES[kind], value)


@cache
def valid() -> tuple[bytes, list[tuple[int, str]]]:
    """A Llama of one layer with a byte-level tokenizer, and where its numbers stand."""
    size, rng, writer = len(_TOKENS), np.random.default_rng(0), _Writer()
    entries = {
        "general.architecture": (_STRING, "llama"), "general.alignment": (_U32, 32), "llama.context_length": (_U32, 32),
        "llama.embedding_length": (_U32, _WIDTH), "llama.block_count": (_U32, 1),
        "llama.feed_forward_length": (_U32, _FEED_FORWARD), "llama.attention.head_count": (_U32, 4),
        "llama.attention.head_count_kv": (_LIST, (_I32, [2])), "llama.rope.freq_base": (_F32, 1e4),
        "llama.attention.layer_norm_rms_epsilon": (_F32, 1e-5), "llama.rope.dimension_count": (_U32, 8),
        "tokenizer.ggml.model": (_STRING, "gpt2"), "tokenizer.ggml.pre": (_STRING, "gpt-2"),
        "tokenizer.ggml.tokens": (_LIST, (_STRING, _TOKENS)), "tokenizer.ggml.add_bos_token": (_BOOL, True),
        "tokenizer.ggml.token_type": (_LIST, (_I32, [3] + [1] * (size - 1))), "tokenizer.ggml.bos_token_id": (_U32, 0),
        "tokenizer.ggml.merges": (_LIST, (_STRING, ["t e", "x t", "te xt", "Ġ a"])),
    }  # fmt: skip
    tensors = {
        "token_embd.weight": ((size, _WIDTH), 8), "output_norm.weight": ((_WIDTH,), 0),
        "blk.0.attn_norm.weight": ((_WIDTH,), 0), "blk.0.ffn_norm.weight": ((_WIDTH,), 0),
        "blk.0.attn_q.weight": ((_WIDTH, _WIDTH), 8), "blk.0.attn_k.weight": ((_KEY_WIDTH, _WIDTH), 8),
        "blk.0.attn_v.weight": ((_KEY_WIDTH, _WIDTH), 0), "blk.0.attn_output.weight": ((_WIDTH, _WIDTH), 8),
        "blk.0.ffn_gate.weight": ((_FEED_FORWARD, _WIDTH), 8), "blk.0.ffn_up.weight": ((_FEED_FORWARD, _WIDTH), 8),
        "blk.0.ffn_down.weight": ((_WIDTH, _FEED_FORWARD), 0),
    }  # fmt: skip
    for code, number in (("<I", 3), ("<Q", len(tensors)), ("<Q", len(entries))):
        writer.number(code, number)
    for key, (kind, value) in entries.items():
        writer.text(key)
        writer.number("<I", kind)
        writer.value(kind, value)
    data = bytearray()
    for name, (shape, kind) in tensors.items():
        writer.text(name)
        writer.number("<I", len(shape))
        for length in reversed(shape):
            writer.number("<Q", length)
        writer.number("<I", kind)
        data += bytes(-len(data) % 32)
        writer.number("<Q", len(data))
        block, block_bytes = _SIZES[kind]
        blocks = int(np.prod(shape)) // block
        if kind == 0:
            data += rng.normal(0, 0.2, blocks).astype("<f4").tobytes()
        else:
            data += b"".join(b"\x00\x18" + rng.bytes(block_bytes - 2) for _ in range(blocks))  # a scale of 0.002
    return bytes(writer.content) + bytes(-len(writer.content) % 32) + bytes(data), writer.numbers


def mutated_gguf(rng: random.Random, content: bytes) -> bytes:
    """Some of the numbers of the header changed; one time in three, bytes anywhere."""
    if rng.random() < 0.33:
        return mutated(rng, content)
    changed = bytearray(content)
    for place, code in rng.sample(valid()[1], rng.choice((1, 1, 1, 2, 4))):
        size = struct.calcsize(code)
        number = int.from_bytes(changed[place : place + size], "little")
        number = rng.choice(
            (*_HOSTILE, number + 1, number - 1, number * 2, number + 32, number ^ 1 << rng.randrange(8 * size))
        )
        changed[place : place + size] = (number % 256**size).to_bytes(size, "little")
    return bytes(changed)


def _read(folder: Path) -> None:
    _in(folder, lambda path: open_gguf(path).tensors)


def _use(folder: Path) -> None:
    _in(folder, _asked)


def _asked(path: Path) -> None:
    texts, ones = [np.array([1, 2, 3])], np.ones((1, 1), np.int64)
    with load_model(path, threads=1) as model:
        if model.vocab_size > 6 and model.max_positions > 4:
            offset = np.zeros((1, 1, model.embedding_size), np.float32)
            scores = model.logits(texts, np.array([2]), ones, offset, np.array([0]), np.array([5, 6]))
            assert scores.shape == (1, 2)
        model.tokenizer.encode("a text \0")


def _in(folder: Path, read: Any) -> None:
    """Read it with the folder for temporary files: what is left there is a finding."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        read(folder / "x.gguf")
    except CheckpointError as error:
        if "x.gguf" not in str(error):
            raise RuntimeError(f"the error does not name the file: {error}") from error
        raise
    finally:
        tempfile.tempdir = before
