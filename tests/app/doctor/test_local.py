"""zopog doctor --model FOLDER: what the model is, and which tokens its label words are, with and without a space."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tests.app.conftest import Run
from tests.models.tiny_decoders import write_decoder


@pytest.fixture
def decoder_folder(tmp_path: Path) -> Path:
    return write_decoder(tmp_path / "tiny-qwen2", "qwen2")


def asked(zopog: Run, *options: str | Path) -> dict:
    code, out, error = zopog("doctor", "--json", "--model", *options)
    assert code == 0, error
    return dict(json.loads(out))


def test_a_decoder_s_label_words_have_two_forms(zopog: Run, decoder_folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(decoder_folder / "tokenizer.json"))
    for template, space in (("{text} It was {mask}", True), ("{text} It was:{mask}", False)):
        found = asked(zopog, decoder_folder, "--words", "dog,unknowable", "--template", template)
        assert [form["space"] for form in found["label_words"]] == [True, False]
        assert found["template"] == {"text": template, "has_space": space}
        assert not found["masked"]
        for form in found["label_words"]:
            for word, tokens in form["tokens"].items():
                assert tokens == tokenizer.encode(" " * form["space"] + word, add_special_tokens=False).tokens
    several = [tokens for form in found["label_words"] for tokens in form["tokens"].values() if len(tokens) > 1]
    code, out, _ = zopog("doctor", "--model", decoder_folder, "--words", "dog,unknowable")
    assert code == 0
    assert out.count("first-piece or sum") == len(several) > 0
    assert "label words with the space before them (this template's)\n" in out
    assert "label words without a space before them\n" in out


def test_a_masked_model_s_label_words_have_one(zopog: Run) -> None:
    found = asked(zopog, "embedded", "--words", "animal,food")
    assert found["label_words"] == [
        {"space": True, "tokens": {"animal": ["animal"], "food": ["food"]}, "refused": None}
    ]
    code, out, _ = zopog("doctor", "--model", "embedded", "--words", "animal,unknowable")
    assert code == 0
    assert "tokens; take another word\n" in out
