"""Files from strangers: tokenizers that multiply, tasks that point elsewhere, texts that are none, long and deep values."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tokenizers", reason="reading a tokenizer needs tokenizers (extra cpu)")

from tests.fuzz.model_files import TOKENIZERS, _read_tokenizer
from zopog_models.checkpoints.checked_tokenizer import MAX_PIECE
from zopog_models.checkpoints.hub import is_hub_id
from zopog_models.families import CheckpointError
from zopog_models.files.quoting import quoted
from zopog_models.files.tensor_file import TensorFileError, read_tensors
from zopog_models.tasks.task_files import TaskError, load_task, make_task, read_rows
from zopog_ref.app.output import printable

WORDPIECE = TOKENIZERS["WordPiece"]
DOUBLE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
DEEP: dict[str, Any] = {"type": "NFKC"}
for _ in range(400):
    DEEP = {"type": "Sequence", "normalizers": [DEEP]}
TWICE = [{"Sequence": {"id": "A", "type_id": 0}}] * 2


def charsmap(strings: bytes, size: int = 1024) -> dict[str, str]:
    """A SentencePiece map whose trie of 256 units knows no character."""
    content = size.to_bytes(4, "little") + bytes(1024) + strings
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(content).decode()}


def template(pieces: list[Any], ids: int = 1) -> dict[str, Any]:
    tokens = {"[CLS]": {"id": "[CLS]", "ids": [1] * ids, "tokens": ["[CLS]"] * ids}}
    return {"type": "TemplateProcessing", "single": pieces, "pair": TWICE, "special_tokens": tokens}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalizer": {"type": "Sequence", "normalizers": [DOUBLE] * 40}}, "its normalizer makes up to"),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [BYTES] * 40}}, "its pre_tokenizer makes up to"),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}] * 99}}, "its normalizer makes up to"),
        ({"normalizer": {"type": "Replace", "pattern": {"Regex": ""}, "content": "x" * 5000}}, "its normalizer"),
        ({"post_processor": {"type": "Sequence", "processors": [template(TWICE)] * 40}}, "its post_processor"),
        ({"post_processor": template([{"SpecialToken": {"id": "[CLS]", "type_id": 0}}] * 50, ids=50)}, "its post_proc"),
        ({"model": WORDPIECE["model"] | {"max_input_chars_per_word": 10**9}}, "max_input_chars_per_word"),
        (
            {"post_processor": template([{"SpecialToken": {"id": "[SEP]", "type_id": 0}}])},
            "is not a tokenizer|cannot read",
        ),
        ({"model": WORDPIECE["model"] | {"unk_token": "nowhere"}}, "cannot read|is not a tokenizer"),
        # The library's tree of tokens is as deep as the longest, and freed in as many nested calls: the process died.
        (
            {"model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0], ["x" * 200_000, -1.0]]}},
            "a token of 200000",
        ),
        ({"normalizer": DEEP}, "its normalizer|is not"),
        # The library takes as much memory as the map says its trie has, before it looks: the process was aborted.
        (
            {"normalizer": charsmap(b"a\0", size=3_000_000_000)},
            "speaks of a trie of 3000000000 bytes and has 1030 in all",
        ),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "x" * 80}}, "speaks of a trie of"),
        ({"normalizer": charsmap(b"a" * 5000 + b"\0")}, "its normalizer makes up to 5000 times"),
    ],
)
def test_a_tokenizer_that_multiplies_or_contradicts_itself(tmp_path: Path, changes: dict, message: str) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(WORDPIECE | changes))
    with pytest.raises(CheckpointError, match=message):
        _read_tokenizer(tmp_path)


def test_tokenizers_as_published_are_read(tmp_path: Path) -> None:
    """The twin: what the rules refuse, they refuse for its growth."""
    longest = {"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0], ["x" * MAX_PIECE, -1.0]]}
    for about in (*TOKENIZERS.values(), WORDPIECE | {"model": longest, "added_tokens": [], "post_processor": None}, WORDPIECE | {"normalizer": {"type": "Sequence", "normalizers": [DOUBLE] * 3}},
                  WORDPIECE | {"normalizer": charsmap(b"a\0bc\0")}):  # fmt: skip
        (tmp_path / "tokenizer.json").write_text(json.dumps(about))
        _read_tokenizer(tmp_path)


TOML = 'template = "{{text}} {{mask}}"\n{}\n[labels]\n0 = "bad"\n1 = "good"\n'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('train = "/etc/passwd"', "not in the task's folder"),
        ('train = "../x.tsv"', "not in the task's folder"),
        ('test = "below/../../x.tsv"', "not in the task's folder"),
        ('dev = "link.tsv"', "not in the task's folder"),
        ('dev = "a\\u0000b.tsv"', "not in the task's folder"),
        ('name = "../../runs"', "cannot be the name of a folder"),
        ('name = "a\\u001b[2Jb"', "cannot be the name of a folder"),
        ("text_columns = [1]", "do not match"),
        ("x = " + "[" * 3000, "is not TOML"),
        ("x = " + "9" * 5000, "is not TOML|unknown keys"),
        ("description." + "a." * 900 + "b = 1", "must be a str"),
    ],
)
def test_a_task_that_points_elsewhere(tmp_path: Path, line: str, message: str) -> None:
    folder = tmp_path / "task"
    folder.mkdir()
    (tmp_path / "x.tsv").write_text("text\tlabel\n")
    (folder / "link.tsv").symlink_to(tmp_path / "x.tsv")
    (folder / "t.toml").write_text(TOML.format(line))
    with pytest.raises(TaskError, match=message) as caught:
        load_task(folder / "t.toml")
    assert len(str(caught.value)) < 1500


def test_a_task_s_own_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(TOML.format('train = "below/train.tsv"'))
    assert load_task(tmp_path / "t.toml").train == tmp_path / "below/train.tsv"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.csv", b"\xef\xbb\xbf", "is empty"),
        ("r.tsv", b"\xef\xbb\xbf\n", "is empty"),
        ("r.jsonl", b'{"text": "half a \\ud800", "label": "0"}', "line 1: column 'text' is no text"),
        ("r.csv", b'text,label\n"' + b"x" * 200_000 + b'",0\n', "field larger than field limit"),
        ("r.tsv", b"text\tlabel\na\t" + b"9" * 100_000, "unknown label"),
        ("r.jsonl", b"[" * 100_000, "not JSON"),
    ],
)
def test_odd_rows(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TaskError, match=message) as caught:
        read_rows(tmp_path / name, make_task("{text} {mask}", {"0": "bad", "1": "good"}))
    assert len(str(caught.value)) < 1500


def test_an_array_without_bytes_that_numpy_cannot_have(tmp_path: Path) -> None:
    shape = [2**47, 2**47, 0]
    header = json.dumps({"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    (tmp_path / "x").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(TensorFileError, match="is not a list of sizes"):
        read_tensors(tmp_path / "x")


def test_values_in_messages_are_short() -> None:
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    for value in (deep, "x" * 10**6, list(range(10**5)), 10**6000, {"a": "b" * 10**6}):
        assert len(quoted(value)) <= 500
    assert quoted("a") == "'a'"


def test_names_on_the_hub_lead_nowhere_else() -> None:
    for name in ("../x", "a/../b", "a/b/c", "/a/b", "a\\b", "http://x/y", "a/b@", "a b/c", "~/x", "-a/b",
                 "a/b@../x", "a/b@x/../../y", "a/b@/etc/x", "a/b@..", "a/b@x\\y", "a/b@x/"):  # fmt: skip
        assert not is_hub_id(name), name
    for name in ("org/name@main", "org/name@refs/pr/1", "org/name@v1.0+cpu", "org/name@feature/x.y-z"):
        assert is_hub_id(name), name


def test_a_file_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2J\x07\u202eb\n\tü") == "a\\x1b[2J\\x07\\u202eb\n\tü"
