"""The embedded model and tasks as they ship: every claim of the model card that the files can prove."""

import csv
import hashlib
import json
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer

import zopog_models

EMBEDDED = Path(zopog_models.__file__).parent / "embedded"
MODEL, TASKS = EMBEDDED / "model", EMBEDDED / "tasks"
SPLITS = ("train", "dev", "test")
COLUMNS = {
    "supersense": ["text", "label"],
    "organism": ["text", "label"],
    "hyponym": ["text_a", "text_b", "label"],
}
SIZES = {
    "supersense": {"train": 6 * 400, "dev": 6 * 250, "test": 6 * 500},
    "organism": {"train": 6 * 37, "dev": 6 * 21, "test": 6 * 49},
    "hyponym": {"train": 1000, "dev": 400, "test": 1000},
}
LIMIT = 10_000_000  # bytes of package data

Table = list[dict[str, str]]


def read(task: str, split: str) -> Table:
    with (TASKS / f"{task}.{split}.tsv").open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
        table = list(reader)
    assert reader.fieldnames == COLUMNS[task]
    assert all(None not in row and None not in row.values() for row in table), "a row with other columns"
    return table


def description(task: str) -> dict[str, object]:
    return tomllib.loads((TASKS / f"{task}.toml").read_text(encoding="utf-8"))


def normalised(text: str) -> str:
    return " ".join(text.lower().split())


def shared_texts(tables: dict[str, Table], columns: list[str]) -> set[tuple[str, ...]]:
    """The texts that stand more than once, within a split or across splits."""
    count = Counter(tuple(normalised(row[c]) for c in columns) for table in tables.values() for row in table)
    return {text for text, times in count.items() if times > 1}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(MODEL / "tokenizer.json"))


@pytest.fixture(scope="module")
def header() -> dict[str, dict[str, object]]:
    """Tensor name -> dtype and shape, from the safetensors header."""
    with (MODEL / "model.safetensors").open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        tensors: dict[str, dict[str, object]] = json.loads(stream.read(length))
    tensors.pop("__metadata__", None)
    return tensors


@pytest.mark.parametrize("task", COLUMNS)
@pytest.mark.parametrize("split", SPLITS)
def test_split_is_complete_and_balanced(task: str, split: str) -> None:
    table = read(task, split)
    labels = description(task)["labels"]
    assert isinstance(labels, dict)
    assert len(table) == SIZES[task][split]
    assert Counter(row["label"] for row in table) == dict.fromkeys(labels, len(table) // len(labels))
    assert all(text == text.strip() and text for row in table for text in row.values())


@pytest.mark.parametrize("task", COLUMNS)
def test_description_points_at_the_files(task: str) -> None:
    content = description(task)
    assert content["name"] == task
    assert content["metric"] == "accuracy"
    assert str(content["template"]).count("{mask}") == 1
    assert all(f"{{{column}}}" in str(content["template"]) for column in COLUMNS[task] if column != "label")
    assert all((TASKS / str(content[split])).is_file() for split in SPLITS)


@pytest.mark.parametrize(
    ("task", "columns"), [("supersense", ["text"]), ("organism", ["text"]), ("hyponym", ["text_b"])]
)
def test_no_text_stands_twice(task: str, columns: list[str]) -> None:
    """hyponym: not even a second noun is in two rows, so no pair of nouns can be in two splits."""
    assert shared_texts({split: read(task, split) for split in SPLITS}, columns) == set()


def test_no_noun_pair_is_in_two_splits() -> None:
    pairs = {
        split: {
            (normalised(row["text_a"]), normalised(row["text_b"].split(" , ")[0])) for row in read("hyponym", split)
        }
        for split in SPLITS
    }
    assert pairs["test"].isdisjoint(pairs["train"] | pairs["dev"])
    assert pairs["train"].isdisjoint(pairs["dev"])


def test_a_text_that_stands_twice_is_seen() -> None:
    tables = {split: read("supersense", split) for split in SPLITS}
    tables["train"].append({"text": tables["test"][7]["text"].upper(), "label": "animal"})
    assert len(shared_texts(tables, ["text"])) == 1


@pytest.mark.parametrize("split", SPLITS)
def test_hyponym_first_noun_does_not_tell_the_label(split: str) -> None:
    table = read("hyponym", split)
    answers = {a: Counter(row["text_a"] for row in table if row["label"] == a) for a in ("yes", "no")}
    assert answers["yes"] == answers["no"]


@pytest.mark.parametrize("split", SPLITS)
def test_hyponym_second_nouns_are_supersense_texts_of_the_same_split(split: str) -> None:
    texts = {row["text"] for row in read("supersense", split)}
    assert all(row["text_b"].partition(" , ")[2] in texts or any(row["text_b"].endswith(f" , {t}") for t in texts)
               for row in read("hyponym", split))  # fmt: skip


@pytest.mark.parametrize("split", SPLITS)
def test_organisms_are_animals_and_plants_of_supersense_in_the_same_split(split: str) -> None:
    kinds = {row["text"]: row["label"] for row in read("supersense", split)}
    animals = ("bird", "fish", "mammal")
    assert all(
        kinds[row["text"]] == ("animal" if row["label"] in animals else "plant") for row in read("organism", split)
    )


@pytest.mark.parametrize("task", COLUMNS)
def test_every_label_word_is_one_token(task: str, tokenizer: Tokenizer) -> None:
    labels = description(task)["labels"]
    assert isinstance(labels, dict)
    for word in labels.values():
        assert tokenizer.encode(word, add_special_tokens=False).tokens == [word]
    assert len(tokenizer.encode("crocodilian", add_special_tokens=False).tokens) > 1, "the check can fail"


def test_tokenizer_is_berts(tokenizer: Tokenizer) -> None:
    vocabulary = tokenizer.get_vocab()
    assert [vocabulary[t] for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")] == [0, 1, 2, 3, 4]
    assert sorted(vocabulary.values()) == list(range(8192))
    one = tokenizer.encode("A large BIRD . it is a kind of [MASK] .")
    assert one.tokens == ["[CLS]", "a", "large", "bird", ".", "it", "is", "a", "kind", "of", "[MASK]", ".", "[SEP]"]
    two = tokenizer.encode("bird", "a large bird")
    assert two.tokens == ["[CLS]", "bird", "[SEP]", "a", "large", "bird", "[SEP]"]
    assert two.type_ids == [0, 0, 0, 1, 1, 1, 1]


def test_config_and_tensors_agree(header: dict[str, dict[str, object]]) -> None:
    config = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["BertForMaskedLM"]
    assert (config["model_type"], config["hidden_act"], config["layer_norm_eps"]) == ("bert", "gelu", 1e-12)
    width, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    shapes = {
        "bert.embeddings.word_embeddings.weight": [vocabulary, width],
        "bert.embeddings.position_embeddings.weight": [config["max_position_embeddings"], width],
        "bert.embeddings.token_type_embeddings.weight": [config["type_vocab_size"], width],
        "cls.predictions.transform.dense.weight": [width, width],
        "cls.predictions.transform.dense.bias": [width],
        "cls.predictions.bias": [vocabulary],
    }
    norms = ["bert.embeddings.LayerNorm", "cls.predictions.transform.LayerNorm"]
    for i in range(config["num_hidden_layers"]):
        layer = f"bert.encoder.layer.{i}"
        square = [f"attention.self.{part}" for part in ("query", "key", "value")] + ["attention.output.dense"]
        shapes |= {f"{layer}.{name}.weight": [width, width] for name in square}
        shapes |= {f"{layer}.{name}.bias": [width] for name in square}
        shapes |= {f"{layer}.intermediate.dense.weight": [inner, width], f"{layer}.intermediate.dense.bias": [inner]}
        shapes |= {f"{layer}.output.dense.weight": [width, inner], f"{layer}.output.dense.bias": [width]}
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    shapes |= {f"{name}.{part}": [width] for name in norms for part in ("weight", "bias")}
    assert {name: tensor["shape"] for name, tensor in header.items()} == shapes
    assert {tensor["dtype"] for tensor in header.values()} == {"F32"}
    assert vocabulary == 8192
    assert width % config["num_attention_heads"] == 0


def test_card_names_these_very_files() -> None:
    card = (EMBEDDED / "MODEL_CARD.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"`(\w+\.\w+)` *\| *`([0-9a-f]{64})`", card))
    assert set(named) == {"model.safetensors", "tokenizer.json"}
    for name, digest in named.items():
        assert hashlib.sha256((MODEL / name).read_bytes()).hexdigest() == digest


def test_package_data_is_small_and_carries_the_licence() -> None:
    files = [path for path in EMBEDDED.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < LIMIT
    notice = (EMBEDDED / "WORDNET_LICENSE").read_text(encoding="utf-8")
    assert "WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved." in notice
    assert "that the same appear on ALL copies" in notice
