"""Text is data, a template is code: over random tokenizers no text yields a special id, and a template's special tokens are."""

import json
import string
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from zopog_models import encode, make_task
from zopog_models.checkpoints import checked_tokenizer
from zopog_models.checkpoints.tokenizer import open_tokenizer, special_ids
from zopog_models.errors import TaskError
from zopog_models.families import FAMILIES, Config
from zopog_models.prompts.comparing import row_ids
from zopog_models.tasks.encoding import row_recipe

ENCODER = {"mask": "[MASK]", "pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]"}
CHAT = ("<|im_start|>", "<|im_end|>")
LABELS = {"good": "a", "bad": "b"}
LETTERS = "abcMASKSEP[]<|>_imstarend/▁ Ġ#."
RANDOM = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@dataclass
class Folder:
    """As much of a Checkpoint as the tokenizer's functions look at."""

    folder: Path
    family: Any
    architecture: Any
    config: dict[str, Any]
    pooling: str = ""

    @property
    def tokenizer_path(self) -> Path:
        return self.folder / "tokenizer.json"


def opened(description: dict[str, Any], family: str = "bert", config: dict[str, Any] | None = None) -> Any:
    """A model's tokenizer and special ids, without its network."""
    values = {"vocab_size": 5000, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2}
    values |= {"intermediate_size": 4, "max_position_embeddings": 400, "n_embd": 4, "n_head": 2, "n_layer": 1}
    values |= {"n_positions": 400} | (config or {})
    with tempfile.TemporaryDirectory() as folder:
        architecture = FAMILIES[family].read(Config(Path("config.json"), values))
        checkpoint: Any = Folder(Path(folder), FAMILIES[family], architecture, values)
        checkpoint.tokenizer_path.write_text(json.dumps(description))
        tokenizer = open_tokenizer(checkpoint)
        ids = special_ids(checkpoint, tokenizer)
    return SimpleNamespace(
        name="random", family=family, pooling="", tokenizer=tokenizer, max_positions=400,
        mask_id=ids.mask, pad_id=ids.pad, cls_id=ids.cls, sep_id=ids.sep, special_ids=ids.every, space="",
    )  # fmt: skip


def added(name: str, i: int, **flags: bool) -> dict[str, Any]:
    usual = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": i, "content": name} | usual | flags


WORDS = st.lists(st.text(st.sampled_from(LETTERS), min_size=1, max_size=4), max_size=8)
FLAGS = st.fixed_dictionaries({
    name: st.booleans() for name in ("single_word", "lstrip", "rstrip", "normalized", "special")
})  # fmt: skip
NORMALIZERS = st.sampled_from([
    None,
    {"type": "NFKC"},
    {"type": "Lowercase"},
    {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
    {"type": "BertNormalizer", "clean_text": False, "handle_chinese_chars": True, "strip_accents": None, "lowercase": False},
    {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
    {"type": "Replace", "pattern": {"String": "("}, "content": "["},
])  # fmt: skip
SPLITTERS = st.sampled_from([
    None,
    {"type": "Whitespace"},
    {"type": "WhitespaceSplit"},
    {"type": "BertPreTokenizer"},
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": False},
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False},
    {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}]},
    {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": False}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}]},
])  # fmt: skip


@st.composite
def descriptions(draw: st.DrawFn, roles: tuple[str, ...] = tuple(ENCODER.values())) -> dict[str, Any]:
    """A tokenizer of any kind; a special token may be an added one of any flags, a piece of the vocabulary, or both."""
    kind = draw(st.sampled_from(["WordPiece", "BPE", "Unigram", "WordLevel"]))
    specials = [*roles, "[UNK]", *CHAT]
    pieces = list(dict.fromkeys([*specials, *string.printable.strip(), "▁", "Ġ", *draw(WORDS)]))
    merges: list[list[str]] = []
    if kind == "WordPiece":
        pieces += [f"##{piece}" for piece in pieces if piece not in specials]
    if kind == "BPE":  # merges that spell each special token, letter by letter
        for name in specials:
            for end in range(2, len(name) + 1):
                merges.append([name[: end - 1], name[end - 1]])
                pieces.append(name[:end])
        pieces = list(dict.fromkeys(pieces))
        merges = [list(pair) for pair in dict.fromkeys(map(tuple, merges))]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    listed = [added(name, vocabulary[name], **draw(FLAGS)) for name in specials if draw(st.booleans())]
    listed += [added("zz", len(pieces), special=False, **{"normalized": draw(st.booleans())})] * draw(st.integers(0, 1))
    model: dict[str, Any] = {"type": kind, "vocab": vocabulary, "unk_token": "[UNK]"}
    if kind == "WordPiece":
        model |= {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    elif kind == "BPE":
        model |= {"merges": merges, "ignore_merges": draw(st.booleans()), "fuse_unk": draw(st.booleans())}
    elif kind == "Unigram":
        scores = [[piece, 0.0 if piece in specials else -2.0 - len(piece) / 10] for piece in pieces]
        model = {"type": kind, "vocab": scores, "unk_id": vocabulary["[UNK]"], "byte_fallback": False}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": listed, "normalizer": draw(NORMALIZERS),
        "pre_tokenizer": draw(SPLITTERS), "post_processor": None, "decoder": None, "model": model,
    }  # fmt: skip


TEXTS = st.lists(
    st.one_of(st.sampled_from([*ENCODER.values(), *CHAT, "[UNK]", "(MASK]", "[mask]", "\0[MASK]\0", " ", "zz"]), st.text(st.sampled_from(LETTERS), max_size=5)),
    max_size=6,
).map("".join)  # fmt: skip
TEMPLATES = (
    "{text} was {mask} .",
    "{mask} {text}",
    "a {text}{sep}b {mask}",
    "{text} [SEP] a [MASK] b {mask}",
    "[MASK]{text} {mask}",
)


def of_text(model: Any, description: dict[str, Any], template: str, text: str) -> list[int]:
    """Ids of a row beyond those that the same template has with a text that holds nothing."""
    row = encode([(text,)], make_task(template, LABELS), model, 0).ids[0].tolist()
    bare = encode([("",)], make_task(template, LABELS), model, 0).ids[0].tolist()
    for i in model.special_ids:
        assert row.count(i) >= bare.count(i)
    return [i for i in model.special_ids for _ in range(row.count(i) - bare.count(i))]


@RANDOM
@given(description=descriptions(), template=st.sampled_from(TEMPLATES), text=TEXTS)
def test_no_text_yields_a_special_id(description: dict[str, Any], template: str, text: str) -> None:
    model = opened(description)
    unknown = model.tokenizer.token_to_id("[UNK]")
    assert set(of_text(model, description, template, text)) <= {unknown}
    assert set(model.tokenizer.encode(text, add_special_tokens=False).ids) & model.special_ids <= {unknown}


@RANDOM
@given(description=descriptions(), template=st.sampled_from(TEMPLATES), text=TEXTS, n=st.integers(0, 390))
def test_the_answer_is_where_the_template_has_it(description: dict[str, Any], template: str, text: str, n: int) -> None:
    model = opened(description)
    task = make_task(template, LABELS)
    if len(encode([("",)], task, model, 0).ids[0]) > model.max_positions - n:
        return
    encoded = encode([(text * 20,)], task, model, n)
    row, place = encoded.ids[0], int(encoded.answer_position[0])
    masks = np.flatnonzero(row == model.mask_id)
    before = template.split("{mask}")[0].count("[MASK]")
    assert masks.tolist().index(place) == before
    assert len(masks) == template.count("[MASK]") + 1


@pytest.mark.parametrize("steps", [
    ({"type": "Replace", "pattern": {"Regex": "^"}, "content": "a"}, None),
    (None, {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": False}),
])  # fmt: skip
def test_a_recipe_that_a_space_does_not_save_is_refused(steps: tuple[Any, Any]) -> None:
    """Something stands before the step that tells a text's start, so the space in front is not what it looks at."""
    pieces = list(dict.fromkeys([*ENCODER.values(), "[UNK]", *string.printable.strip(), "▁", "Ġ"]))
    marking = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}
    description = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": steps[0],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*filter(None, [steps[1]]), marking]},
        "post_processor": None, "decoder": None,
        "model": {"type": "BPE", "vocab": {p: i for i, p in enumerate(pieces)}, "unk_token": "[UNK]", "merges": []},
    }  # fmt: skip
    model = opened(description)
    with pytest.raises(TaskError, match="put a space after the special token, or the text before it"):
        row_recipe(make_task("{mask} {text}", LABELS), model)
    task = make_task("{text} {mask}", LABELS)
    assert (
        row_ids(row_recipe(task, model), ("ab",), model.tokenizer) == encode([("ab",)], task, model, 0).ids[0].tolist()
    )
    assert row_recipe(
        make_task("{mask} {text}", LABELS), opened(description | {"normalizer": None, "pre_tokenizer": marking})
    )


@RANDOM
@given(description=descriptions(), template=st.sampled_from(TEMPLATES), text=TEXTS)
def test_the_recipe_gives_the_rows_of_predict(description: dict[str, Any], template: str, text: str) -> None:
    model, task = opened(description), make_task(template, LABELS)
    expected = encode([(text,)], task, model, 0).ids[0].tolist()
    try:
        recipe = row_recipe(task, model)
    except TaskError:
        assert model.tokenizer.prefixes_the_start_only, "no other tokenizer is refused"
        return
    assert row_ids(recipe, (text,), model.tokenizer) == expected


CHATS = (
    "<|im_start|>ab {text}<|im_end|>\n<|im_start|>cd\n{mask}",
    "a<|im_start|> b{text} <|im_end|>{mask}",
    " .{text} b {mask}",
)


@RANDOM
@given(
    description=descriptions(()),
    template=st.sampled_from(CHATS),
    text=st.lists(st.text(st.sampled_from("abcM"), min_size=1, max_size=3), min_size=1, max_size=3).map(" ".join),
)
def test_a_template_has_the_ids_of_the_tokenizer_s_own_encoding(
    description: dict[str, Any], template: str, text: str
) -> None:
    for name in CHAT:  # all are added tokens: what is no added token the library cannot tell from its letters
        listed = description["added_tokens"]
        if name not in [token["content"] for token in listed]:
            place = list(dict(description["model"]["vocab"])).index(name)
            listed.append(added(name, place))
    for token in description["added_tokens"]:
        token |= {"special": True} if token["content"] in CHAT else {}
        token["single_word"] = False  # of these the library asks the text's letters too
        if "Prepend" in json.dumps(description["normalizer"]):  # it would look for "▁<|im_end|>", with the mark
            token["normalized"] = False
    model = opened(description, "gpt2", {"bos_token_id": None, "eos_token_id": None})
    own = Tokenizer.from_str(json.dumps(description))
    whole = template.replace("{text}", text).split("{mask}")[0].rstrip(" ")
    row = encode([(text,)], make_task(template, LABELS), model, 0).ids[0].tolist()
    assert row == own.encode(whole, add_special_tokens=False).ids


def test_a_typed_mask_on_an_albert_that_keeps_case() -> None:
    """The piece [MASK] of a vocabulary without added tokens: the text's is letters, the answer is the template's."""
    words = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]", "▁a", "▁city", "▁", *"[MASK]()city"]
    description = {
        "model": {
            "type": "Unigram",
            "unk_id": 1,
            "vocab": [[word, 0.0 if i < 5 else -4.0] for i, word in enumerate(dict.fromkeys(words))],
        }
    }
    description |= {
        "normalizer": {"type": "NFKC"},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
    }
    description |= {
        "version": "1.0",
        "added_tokens": [],
        "post_processor": None,
        "decoder": None,
        "truncation": None,
        "padding": None,
    }
    model = opened(description, "albert")
    own = Tokenizer.from_str(json.dumps(description))
    assert own.token_to_id("[MASK]") in own.encode("a [MASK] city", add_special_tokens=False).ids, "the trap is there"
    for text in ("a [MASK] city", "[MASK]", "[MASK][MASK] [SEP]"):
        encoded = encode([(text,)], make_task("{text} {mask} a", LABELS), model, 0)
        row = encoded.ids[0]
        assert np.flatnonzero(row == model.mask_id).tolist() == encoded.answer_position.tolist()
        assert (row == model.sep_id).sum() == 1


def test_what_a_model_writes_for_the_unknown_is_left_out_where_it_has_another_role() -> None:
    pieces = {"[MASK]": 0, "[PAD]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4}
    model = {
        "type": "WordPiece",
        "vocab": pieces,
        "unk_token": "[MASK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 9,
    }
    description = {
        "version": "1.0",
        "added_tokens": [],
        "model": model,
        "pre_tokenizer": {"type": "Whitespace"},
        "normalizer": None,
    }
    opened_model = opened(description | {"post_processor": None, "decoder": None, "truncation": None, "padding": None})
    row = encode([("a ü a",)], make_task("{text} {mask}", LABELS), opened_model, 0)
    assert row.ids[0].tolist() == [2, 4, 4, 0, 3]
    assert row.answer_position.tolist() == [3]


@pytest.mark.parametrize("special", [True, False])
def test_chat_tokens_of_a_template_and_of_a_text(special: bool) -> None:
    vocabulary = {letter: i for i, letter in enumerate(dict.fromkeys(string.printable.strip() + "ĠĊ"))}
    count = len(vocabulary)
    description = {
        "version": "1.0", "normalizer": None, "post_processor": None, "decoder": None, "truncation": None, "padding": None,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "added_tokens": [added(name, count + i, special=special) for i, name in enumerate(CHAT)],
    }  # fmt: skip
    model = opened(description, "gpt2", {"bos_token_id": count, "eos_token_id": count + 1})
    own = Tokenizer.from_str(json.dumps(description))
    template = "<|im_start|>user\nReview: {text}<|im_end|>\n<|im_start|>assistant\n{mask}"
    row = encode([("good",)], make_task(template, LABELS), model, 0).ids[0].tolist()
    assert row == own.encode(template.replace("{text}", "good").replace("{mask}", "")).ids
    typed = encode([("<|im_end|>",)], make_task(template, LABELS), model, 0).ids[0].tolist()
    assert typed.count(count + 1) == 1
    assert len(typed) == len(row) - len("good") + len("<|im_end|>")


def test_a_leading_space_is_read_as_in_the_whole_string() -> None:
    vocabulary = {letter: i for i, letter in enumerate(dict.fromkeys(string.printable.strip() + "ĠĊ"))} | {"Ġ.": 200}
    description = {
        "version": "1.0", "normalizer": None, "post_processor": None, "decoder": None, "truncation": None, "padding": None,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [["Ġ", "."]]}, "added_tokens": [],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    }  # fmt: skip
    model = opened(description, "gpt2", {"bos_token_id": None, "eos_token_id": None})
    assert encode([("a",)], make_task(" . {text} {mask}", LABELS), model, 0).ids[0][0] == 200
    assert encode([("a",)], make_task(". {text} {mask}", LABELS), model, 0).ids[0][0] == vocabulary["."]


# -- broken twins: each of the rules above is what keeps a text apart from the special tokens -------------------------


def albert_like(monkeypatch: pytest.MonkeyPatch | None = None, **broken: Any) -> Any:
    words = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]", "▁a", "▁", *"[MASK]acity"]
    vocabulary = [[word, 0.0 if i < 5 else -4.0] for i, word in enumerate(dict.fromkeys(words))]
    description = {
        "version": "1.0", "added_tokens": [], "post_processor": None, "decoder": None, "truncation": None, "padding": None,
        "normalizer": {"type": "NFKC"}, "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
        "model": {"type": "Unigram", "unk_id": 1, "vocab": vocabulary},
    }  # fmt: skip
    if monkeypatch is not None:
        for name, value in broken.items():
            monkeypatch.setattr(checked_tokenizer, name, value)
    return opened(description, "albert")


def test_the_twin_that_keeps_the_names_loses_the_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the new names the second protection holds: the mask is left out, and its letters are not read."""
    task = make_task("{text} {mask}", LABELS)
    right = encode([("a [MASK] a",)], task, albert_like(), 0).ids[0]
    kept = albert_like(monkeypatch, without_special=lambda description, names: (description, {n: n for n in names}))
    broken = encode([("a [MASK] a",)], task, kept, 0).ids[0]
    assert (broken == kept.mask_id).sum() == 1
    assert len(broken) < len(right)


def test_the_twin_without_either_has_two_masks_and_still_the_right_place(monkeypatch: pytest.MonkeyPatch) -> None:
    model = albert_like(monkeypatch, without_special=lambda description, names: (description, {n: n for n in names}))
    monkeypatch.setattr(model.tokenizer, "_forbidden", frozenset())
    encoded = encode([("a [MASK] a",)], make_task("{text} {mask}", LABELS), model, 0)
    masks = np.flatnonzero(encoded.ids[0] == model.mask_id).tolist()
    assert len(masks) == 2
    assert encoded.answer_position.tolist() == masks[1:], "a search for the mask would find the first"


def test_the_twin_that_reads_a_template_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    template = make_task("{text} [SEP] a {mask}", LABELS)
    model = albert_like()
    assert (encode([("a",)], template, model, 0).ids[0] == model.sep_id).sum() == 2
    monkeypatch.setattr(model.tokenizer, "template_tokens", [])
    assert (encode([("a",)], template, model, 0).ids[0] == model.sep_id).sum() == 1
