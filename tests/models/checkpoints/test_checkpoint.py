"""checkpoint: folders as they are published open; folders that cannot work are refused by name."""

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.tiny_decoders import write_decoder
from tests.models.tiny_models import write_model
from zopog_models import (
    CheckpointError,
    FrozenModel,
    TensorFileError,
    load_checkpoint,
    load_model,
    read_tensors,
    write_tensors,
)


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
            "model_type 't5' is not supported; supported: bert, roberta, xlm-roberta, .*two stacks",
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


def test_infinite_weights_are_spoken_of_by_their_scores_alone(fresh: Path) -> None:
    """Not by a warning of NumPy's, which says no more than where it computes (an error in these tests)."""

    def spoil(tensors: dict[str, np.ndarray]) -> None:
        tensors["bert.embeddings.word_embeddings.weight"][3, 1] = np.inf

    rewrite(fresh, spoil)
    assert np.isnan(load_checkpoint(fresh).embedding_std)


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


def stored_head(tensors: dict[str, np.ndarray], family: str, other: bool) -> None:
    words = {"bert": "bert.embeddings.word_embeddings.weight", "llama": "model.embed_tokens.weight"}[family]
    output = {"bert": "cls.predictions.decoder.weight", "llama": "lm_head.weight"}[family]
    tensors[output] = tensors[words][::-1].copy() if other else tensors[words].copy()


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_stored_output_matrix_that_config_denies_is_read(tmp_path: Path, family: str) -> None:
    """The same scores as of a folder that says so; a copy of the word embeddings changes nothing and is not spoken of."""
    folders = {}
    for name, other, tied in (("said", True, False), ("denied", True, True), ("equal", False, True)):
        folder = tmp_path / name
        if family == "bert":
            write_model(folder, "bert", seed=3)
        else:
            write_decoder(folder, "llama", seed=3)
        rewrite(folder, lambda tensors, other=other: stored_head(tensors, family, other))
        reconfigure(folder, tie_word_embeddings=tied)
        folders[name] = folder
    with pytest.warns(UserWarning, match="says tie_word_embeddings, but .* the stored matrix is read"):
        denied = load_model(folders["denied"], threads=1)
    said, equal = load_model(folders["said"], threads=1), load_model(folders["equal"], threads=1)
    assert load_checkpoint(folders["equal"]).architecture.tied
    rows, labels = [np.array([2, 9, 4, 3])], np.array([11, 12, 13])  # of reversed rows, other ones

    def scores(model: FrozenModel) -> np.ndarray:
        return model.logits(rows, np.array([3]), np.zeros((1, 0), int), None, np.zeros(1, int), labels)

    assert np.array_equal(scores(said), scores(denied))
    assert np.abs(scores(said) - scores(equal)).max() > 0.01  # the twin that drops the stored matrix


def test_an_untied_head_without_a_bias_of_its_own_is_spoken_of(fresh: Path) -> None:
    """transformers 4 gives the output layer the head's bias, transformers 5 begins with zeros there."""
    rewrite(fresh, lambda tensors: stored_head(tensors, "bert", True))
    reconfigure(fresh, tie_word_embeddings=False)
    bias = r"cls\.predictions\.decoder\.bias is not stored; cls\.predictions\.bias is read, as transformers 4 does"
    with pytest.warns(UserWarning, match=bias):
        load_checkpoint(fresh)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_checkpoint(fresh, "mean")  # it has no head
        rewrite(
            fresh, lambda tensors: tensors.update({"cls.predictions.decoder.bias": tensors["cls.predictions.bias"]})
        )
        load_checkpoint(fresh)


@pytest.mark.parametrize("first", ["cls.predictions.bias", "cls.predictions.decoder.bias"])
def test_of_two_biases_the_output_layer_s_is_read(fresh: Path, first: str) -> None:
    both = {"cls.predictions.bias", "cls.predictions.decoder.bias"}

    def two(tensors: dict[str, np.ndarray]) -> None:
        bias = tensors.pop("cls.predictions.bias")
        values = {"cls.predictions.bias": bias, "cls.predictions.decoder.bias": bias + 1}
        tensors.update({first: values[first]} | {name: values[name] for name in both - {first}})

    rewrite(fresh, two)
    with pytest.warns(UserWarning, match=r"cls.predictions.decoder.bias is read, as transformers does"):
        found = load_checkpoint(fresh).tensors["cls.predictions.bias"]
    stored = read_tensors(fresh / "model.safetensors")
    assert np.array_equal(found, stored["cls.predictions.decoder.bias"])


def test_any_other_tensor_that_is_there_twice_is_refused(fresh: Path) -> None:
    def two(tensors: dict[str, np.ndarray]) -> None:
        tensors["bert.embeddings.LayerNorm.gamma"] = tensors["bert.embeddings.LayerNorm.weight"] + 1

    rewrite(fresh, two)
    with pytest.raises(CheckpointError, match=r"embeddings.LayerNorm.weight is stored twice with different values"):
        load_checkpoint(fresh)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_key_twice_is_refused(fresh: Path, name: str) -> None:
    content = (fresh / name).read_text() if (fresh / name).is_file() else "{}"
    (fresh / name).write_text(
        '{"model_type": "bert", "vocab_size": 3, "vocab_size": 4'
        + ("," if len(content) > 2 else "")
        + content.strip()[1:]
    )
    with pytest.raises(CheckpointError, match=rf"{name}: the key '(vocab_size|model_type)' is there twice"):
        load_model(fresh)


@pytest.mark.parametrize(
    ("there", "missing", "message"),
    [
        ("pytorch_model.bin", "model.safetensors", r"pickled \(.bin\).*save_pretrained\(FOLDER\)"),
        ("model.pth", "model.safetensors", "pickled"),
        ("model-q4.gguf", "model.safetensors", r"GGUF file.*completions\+http"),
        ("adapter_config.json", "config.json", r"PEFT adapter: merge it .*merge_and_unload"),
        ("adapter_model.safetensors", "model.safetensors", "PEFT adapter"),
        ("tf_model.h5", "model.safetensors", "from_tf=True"),
        ("flax_model.msgpack", "model.safetensors", "from_flax=True"),
        ("model.fp16.safetensors", "model.safetensors", "another name"),
        ("vocab.txt", "tokenizer.json", r"older kind: AutoTokenizer.*writes tokenizer.json"),
        ("spiece.model", "tokenizer.json", "older kind"),
        ("notes.md", "tokenizer.json", r"save_pretrained writes\)$"),
    ],
)
def test_folders_of_other_formats_say_how_to_convert(fresh: Path, there: str, missing: str, message: str) -> None:
    (fresh / missing).rename(fresh / there)
    with pytest.raises(CheckpointError, match=rf"has no {missing}; a model folder needs .*{message}"):
        load_checkpoint(fresh)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_pointer_of_git_lfs(fresh: Path, name: str) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 133466304\n"
    (fresh / name).write_text(pointer)
    with pytest.raises(CheckpointError, match=rf"{name} is a git-lfs pointer .*git lfs pull"):
        load_model(fresh)
