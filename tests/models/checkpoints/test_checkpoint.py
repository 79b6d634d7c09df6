"""checkpoint: folders as they are published open; folders that cannot work are refused by name."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.tiny_models import write_model
from zopog_models import CheckpointError, TensorFileError, load_checkpoint, read_tensors, write_tensors


def rewrite(folder: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    tensors = {name: np.array(array) for name, array in read_tensors(folder / "model.safetensors").items()}
    change(tensors)
    write_tensors(folder / "model.safetensors", tensors)


def reconfigure(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", "bert")


def test_what_a_checkpoint_holds(folder: Path) -> None:
    checkpoint = load_checkpoint(folder)
    assert checkpoint.family.name == json.loads((folder / "config.json").read_text())["model_type"]
    assert {name: array.shape for name, array in checkpoint.tensors.items()} == checkpoint.family.shapes(
        checkpoint.architecture
    )
    assert checkpoint.architecture.max_positions == 64  # for RoBERTa, 66 rows less the first two
    assert checkpoint.model_sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert checkpoint.tokenizer_sha256 == hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()


def test_old_names_and_unused_parts_are_understood(fresh: Path) -> None:
    before = load_checkpoint(fresh).tensors

    def as_published_in_2019(tensors: dict[str, np.ndarray]) -> None:
        for name in list(tensors):
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            tensors[old] = tensors.pop(name)
        tensors["bert.pooler.dense.weight"] = np.zeros((32, 32), np.float32)
        tensors["cls.seq_relationship.bias"] = np.zeros(2, np.float32)
        tensors["bert.embeddings.position_ids"] = np.arange(64)[None]
        tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"]
        tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"]

    rewrite(fresh, as_published_in_2019)
    after = load_checkpoint(fresh).tensors
    assert after.keys() == before.keys()
    assert all(np.array_equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_missing_files(fresh: Path, name: str) -> None:
    (fresh / name).unlink()
    with pytest.raises(CheckpointError, match=f"has no {name}"):
        load_checkpoint(fresh)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a folder; give 'embedded' or a folder"):
        load_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_type": "t5"},
            "model_type 't5' is not supported; supported: bert, roberta, distilbert, electra, albert",
        ),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
        ({"is_decoder": True}, "is_decoder True"),
        ({"hidden_act": "swish"}, "hidden_act 'swish'"),
        ({"hidden_size": 0}, "hidden_size must be a positive whole number, got 0"),
        ({"num_hidden_layers": "3"}, "num_hidden_layers must be a positive whole number, got '3'"),
        ({"num_attention_heads": 5}, "hidden_size 32 is not a multiple of num_attention_heads 5"),
        ({"layer_norm_eps": 0}, "layer_norm_eps must lie between 0 and 1"),
        (
            {"num_hidden_layers": 4},
            r"missing tensors: bert.encoder.layer.3.attention.self.query.weight, .* and 11 more",
        ),
        ({"num_hidden_layers": 2}, r"does not have: bert.encoder.layer.2"),
        ({"intermediate_size": 47}, r"intermediate.dense.weight has shape \(48, 32\), config.json says \(47, 32\)"),
        ({"tie_word_embeddings": False}, "missing tensors: cls.predictions.decoder.weight"),
    ],
)
def test_configurations_that_cannot_work(fresh: Path, changes: dict[str, Any], message: str) -> None:
    reconfigure(fresh, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(fresh)


def test_config_that_is_not_json(fresh: Path) -> None:
    (fresh / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config.json is not JSON"):
        load_checkpoint(fresh)
    (fresh / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="must hold a JSON object"):
        load_checkpoint(fresh)


def test_a_model_without_its_head(fresh: Path) -> None:
    def behead(tensors: dict[str, np.ndarray]) -> None:
        for name in [name for name in tensors if name.startswith("cls.")]:
            del tensors[name]

    rewrite(fresh, behead)
    with pytest.raises(CheckpointError, match="without its masked-token head cannot be prompted"):
        load_checkpoint(fresh)


def test_wrong_dtype_and_damage(fresh: Path) -> None:
    rewrite(
        fresh, lambda tensors: tensors.update({"cls.predictions.bias": tensors["cls.predictions.bias"].astype(int)})
    )
    with pytest.raises(CheckpointError, match=r"cls.predictions.bias has dtype int64"):
        load_checkpoint(fresh)
    content = (fresh / "model.safetensors").read_bytes()
    (fresh / "model.safetensors").write_bytes(content[:-100])
    with pytest.raises(TensorFileError, match="truncated"):
        load_checkpoint(fresh)
