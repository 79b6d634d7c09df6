"""checkpoints/gguf: a GGUF file is computed as the folder it was made from, and a damaged one is refused by name."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from tests.models import numpy_llama
from tests.models.gguf_models import gguf, write_gguf
from tests.models.tiny_decoders import LLAMA3_SCALING, config_for, random_tensors, tokenizer_for
from zopog_models import CheckpointError, load_checkpoint, load_model
from zopog_models.families import FAMILIES
from zopog_models.files.gguf_file import MAX_ENTRIES, dequantised, read_gguf
from zopog_models.files.tensor_file import write_tensors
from zopog_models.prompts.export import export

TEXTS = ["a large wild cat, isn't it?", " two  spaces 12345\n", "ünïcode 猫", "<|endoftext|>"]
ODD = {
    "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 12, "num_key_value_heads": 3, "head_dim": 8,
}  # fmt: skip
EVEN = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
ARCHITECTURES = [name for name in ("llama", "qwen2", "qwen3") if name in FAMILIES]


def tiny(folder: Path, family: str, **changes: Any) -> Path:
    """A folder with a byte-level tokenizer, whose model has as many tokens."""
    tokenizer = tokenizer_for("qwen2")
    folder.mkdir(parents=True)
    size = tokenizer.get_vocab_size()
    config = config_for(family, size, **({"rms_norm_eps": 3e-5, "bos_token_id": 0, "eos_token_id": 0} | changes))
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer.save(str(folder / "tokenizer.json"))
    write_tensors(folder / "model.safetensors", random_tensors(config, 0))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("gguf") / "tiny", "llama", **ODD)


@pytest.fixture
def sound(folder: Path, tmp_path: Path) -> Path:
    write_gguf(folder, tmp_path / "tiny.gguf")
    return tmp_path / "tiny.gguf"


def rows(width: int) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    lengths = [7, 12, 3, 25]
    return {
        "text_ids": [rng.integers(5, 60, length) for length in lengths],
        "answer_position": np.array(lengths) - 1,
        "prompt_ids": rng.integers(5, 60, (2, 4)),
        "prompt_offset": rng.normal(0, 1, (2, 4, width)).astype(np.float32),
        "prompt_index": np.array([0, 1, 1, 0]),
        "label_ids": np.array([7, 9, 30]),
    }


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_1", "Q8_0"])
@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize(
    "changes",
    [ODD | {"tie_word_embeddings": True}, ODD | {"rope_scaling": LLAMA3_SCALING}, EVEN | {"rope_theta": 1e5}],
    ids=["tied", "llama3", "even"],
)
def test_parity_with_the_plain_forward_pass(tmp_path: Path, family: str, kind: str, changes: dict[str, Any]) -> None:
    """The oracle reads the weights as the package gguf dequantises them, in the folder's order, and permutes nothing."""
    if family == "qwen3":  # whose config.json always says it
        changes = {"head_dim": 16} | changes
    tiny(tmp_path / "folder", family, **changes)
    tensors = write_gguf(tmp_path / "folder", tmp_path / "tiny.gguf", kind)
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    with load_model(tmp_path / "tiny.gguf", threads=1) as model:
        logits = model.logits(**rows(64))
    expected = numpy_llama.label_logits(config, tensors, **rows(64), first=0)
    assert np.abs(logits - expected).max() < 1e-5
    assert np.ptp(expected) > 0.5
    if family == "llama":  # the twin: rotary pairs left as they are in the file
        flaw = numpy_llama.Flaws(interleaved_rotary=True)
        assert np.abs(logits - numpy_llama.label_logits(config, tensors, **rows(64), first=0, flaws=flaw)).max() > 1e-3


def test_linear_scaling_and_biases(tmp_path: Path) -> None:
    tiny(tmp_path / "folder", "llama", **ODD, attention_bias=True, mlp_bias=True,
         rope_scaling={"rope_type": "linear", "factor": 4.0})  # fmt: skip
    more = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    tensors = write_gguf(tmp_path / "folder", tmp_path / "tiny.gguf", "Q8_0", **more)
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    with load_model(tmp_path / "tiny.gguf", threads=1) as model:
        logits = model.logits(**rows(64))
    assert np.abs(logits - numpy_llama.label_logits(config, tensors, **rows(64), first=0)).max() < 1e-5


def test_the_reader_finds_what_the_packages_own_finds(sound: Path) -> None:
    ours, theirs = read_gguf(sound), gguf.GGUFReader(sound)
    entries = {key: entry.contents() for key, entry in theirs.fields.items() if not key.startswith("GGUF.")}
    assert ours.metadata.keys() == entries.keys()
    for key, value in entries.items():
        assert np.array_equal(ours.metadata[key], value), key
    assert ours.tensors.keys() == {tensor.name for tensor in theirs.tensors}
    for tensor in theirs.tensors:
        assert np.array_equal(dequantised(sound, tensor.name, ours.tensors[tensor.name]), tensor.data), tensor.name


def test_the_tokenizer_is_the_folders(sound: Path, folder: Path) -> None:
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    plain.encode_special_tokens = True
    with load_model(sound, threads=1) as model:
        assert model.cls_id is None
        for text in TEXTS[:3]:
            assert model.tokenizer.encode(text).ids == plain.encode(text).ids
        assert 0 not in model.tokenizer.encode(TEXTS[3]).ids  # a text never writes a special token
        assert 0 in model.special_ids


@pytest.mark.parametrize(("pre", "changes", "begins"), [
    ("gpt-2", {}, False), ("llama-bpe", {}, True), ("llama-bpe", {"tokenizer.ggml.add_bos_token": False}, False),
    ("smollm", {"tokenizer.ggml.add_bos_token": True}, True),
])  # fmt: skip
def test_whether_a_text_begins_with_a_token(folder: Path, tmp_path: Path, pre: str, changes: dict[str, Any], begins: bool) -> None:  # fmt: skip
    write_gguf(folder, tmp_path / "tiny.gguf", pre=pre, **changes)
    with load_model(tmp_path / "tiny.gguf", threads=1) as model:
        assert model.cls_id == (0 if begins else None)


@pytest.mark.parametrize(("pre", "text", "words"), [
    ("gpt-2", "in 1234 days", ["in", " 1234", " days"]), ("smollm", "in 1234", ["in", " ", "1", "2", "3", "4"]),
    ("llama-bpe", "in 1234", ["in", " ", "123", "4"]), ("qwen2", "in 12", ["in", " ", "1", "2"]),
])  # fmt: skip
def test_how_a_text_is_split(folder: Path, tmp_path: Path, pre: str, text: str, words: list[str]) -> None:
    write_gguf(folder, tmp_path / "tiny.gguf", pre=pre)
    with load_model(tmp_path / "tiny.gguf", threads=1) as model:
        found = model.tokenizer.pre_tokenizer.pre_tokenize_str(text)
    assert [text[begin:end] for _, (begin, end) in found] == words


def test_a_tokenizer_of_another_kind_needs_its_folder(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(folder, path, pre="deepseek")
    with pytest.raises(CheckpointError, match=r"deepseek.*--tokenizer FOLDER"):
        load_checkpoint(path)
    with load_model(f"{path}#{folder}", threads=1) as model:
        assert model.tokenizer.encode(TEXTS[0]).ids == Tokenizer.from_file(str(folder / "tokenizer.json")).encode(TEXTS[0]).ids  # fmt: skip
    other = shutil.copytree(folder, tmp_path / "other")
    described = json.loads((other / "tokenizer.json").read_text())
    first, second = list(described["model"]["vocab"])[40:42]
    vocabulary = described["model"]["vocab"]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (other / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match="is not the tokenizer of"):
        load_checkpoint(f"{path}#{other}")


def test_export_is_the_folders_graph(sound: Path, folder: Path, tmp_path: Path) -> None:
    ours, theirs = (export(source, tmp_path / f"{i}.onnx") for i, source in enumerate((sound, folder)))
    assert ours.data_bytes == theirs.data_bytes
    assert ours.data.read_bytes() == theirs.data.read_bytes()  # F32 loses nothing, and the order is the family's


REFUSED = {
    "another architecture": ({"general.architecture": "gemma2"}, "architecture 'gemma2' is not supported"),
    "a part": ({"split.count": 3}, "llama-gguf-split --merge"),
    "an adapter": ({"general.type": "adapter"}, "adapter"),
    "experts": ({"llama.expert_count": 8}, "mixtures of experts"),
    "a window": ({"llama.attention.sliding_window": 8}, "sliding_window 8 is not supported"),
    "an unknown entry": ({"llama.logit_scale": 0.5}, "logit_scale"),
    "yarn": ({"llama.rope.scaling.type": "yarn"}, "yarn"),
    "part of a head": ({"llama.rope.dimension_count": 4}, "is not the width of a head"),
    "an alignment": ({"general.alignment": 7}, "general.alignment"),
    "no merges": ({"tokenizer.ggml.merges": None}, "merges"),
    "no layers": ({"llama.block_count": None}, "does not say llama.block_count"),
    "more layers": ({"llama.block_count": 4}, "missing tensors"),
    "fewer layers": ({"llama.block_count": 2}, "does not have"),
    "another width": ({"llama.feed_forward_length": 64}, "has the shape"),
    "no heads": ({"llama.attention.head_count": 0}, "head_count"),
    "tokens": ({"tokenizer.ggml.tokens": ["a", "b"]}, "2 tokens"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_supported_is_named(folder: Path, tmp_path: Path, case: str) -> None:
    changes, message = REFUSED[case]
    path = tmp_path / "tiny.gguf"
    with pytest.MonkeyPatch.context() as patch:
        if "general.architecture" in changes:
            patch.setattr(gguf.GGUFWriter, "add_architecture", lambda self: None)
        write_gguf(folder, path, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def entry_at(content: bytes, what: bytes) -> int:
    """Where the bytes after a key or a name begin."""
    return content.index(what) + len(what)


def damaged(content: bytes, how: str) -> bytes:
    place = entry_at(content, b"blk.0.attn_q.weight")  # u32 dimensions, u64 each, u32 type, u64 offset
    tokens = entry_at(content, b"tokenizer.ggml.tokens")  # u32 type, u32 of what, u64 count
    new = bytearray(content)
    if how == "empty":
        return b""
    if how == "truncated header":
        return content[:200]
    if how == "truncated data":
        return content[:-64]
    at, value = {
        "no mark": (0, b"GGML"), "big-endian": (4, struct.pack(">I", 3)), "version": (4, struct.pack("<I", 1)),
        "tensors": (8, struct.pack("<Q", 2**60)), "entries": (16, struct.pack("<Q", MAX_ENTRIES + 1)),
        "key": (24, struct.pack("<Q", 2**62)), "list": (tokens + 8, struct.pack("<Q", 2**40)),
        "list type": (tokens + 4, struct.pack("<I", 9)), "value type": (tokens, struct.pack("<I", 77)),
        "dimensions": (place, struct.pack("<I", 2**31)), "shape": (place + 4, struct.pack("<QQ", 2**40, 2**40)),
        "no rows": (place + 4, struct.pack("<QQ", 64, 0)), "type": (place + 20, struct.pack("<I", 9999)),
        "offset": (place + 24, struct.pack("<Q", 2**50)), "unaligned": (place + 24, struct.pack("<Q", 33)),
        "overlap": (place + 24, struct.pack("<Q", 0)),
    }[how]  # fmt: skip
    new[at : at + len(value)] = value
    return bytes(new)


@pytest.mark.parametrize(("how", "message"), [
    ("empty", "truncated"), ("truncated header", "truncated"), ("truncated data", "truncated"),
    ("no mark", "not a GGUF file"), ("big-endian", "gguf-convert-endian"), ("version", "version 1"),
    ("tensors", "tensors declared"), ("entries", "entries of metadata declared"), ("key", "at most"),
    ("list", "lists 1099511627776 values"), ("list type", "list of type 9"), ("value type", "type 77"),
    ("dimensions", "dimensions"), ("shape", "shape"), ("no rows", "shape"), ("type", "type 9999"),
    ("offset", "truncated"), ("unaligned", "no multiple of"), ("overlap", "overlap"),
])  # fmt: skip
def test_a_damaged_file_is_refused_by_name(sound: Path, tmp_path: Path, how: str, message: str) -> None:
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damaged(sound.read_bytes(), how))
    with pytest.raises(CheckpointError, match=message) as raised:
        load_checkpoint(path)
    assert len(str(raised.value)) < 600


def test_no_cut_and_no_changed_byte_is_more_than_an_error(sound: Path, tmp_path: Path) -> None:
    content, rng = sound.read_bytes(), np.random.default_rng(0)
    header = entry_at(content, b"blk.2.ffn_down.weight")
    path = tmp_path / "damaged.gguf"
    for _ in range(200):
        new = bytearray(content)
        new[rng.integers(header)] = rng.integers(256)
        path.write_bytes(new[: rng.integers(header)] if rng.random() < 0.3 else new)
        try:
            read_gguf(path)
        except CheckpointError:
            continue


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot read"):
        load_checkpoint(tmp_path / "nowhere.gguf")
    (tmp_path / "pointer.gguf").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match="git lfs pull"):
        load_checkpoint(tmp_path / "pointer.gguf")
