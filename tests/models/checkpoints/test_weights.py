"""weights and folders: shards are one model, a lying index is refused by name, and no damage gets past load_model."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.models.graph.test_decoder_graph import case
from tests.models.tiny_decoders import FAMILY_NAMES, config_for, write_decoder
from zopog_models import (
    CheckpointError,
    TensorFileError,
    load_checkpoint,
    load_model,
    load_prompt,
    read_tensors,
    write_tensors,
)
from zopog_models.checkpoints.weights import WEIGHTS, WEIGHTS_INDEX, weight_files
from zopog_models.prompts.bundle import PromptError

NAMED = (CheckpointError, TensorFileError)


def shard(folder: Path, count: int = 3) -> dict[str, str]:
    """Split model.safetensors into shards with an index, as save_pretrained does; returns the weight map."""
    tensors = {name: np.array(array) for name, array in read_tensors(folder / WEIGHTS).items()}
    names = list(tensors)
    weight_map: dict[str, str] = {}
    for i in range(count):
        file = f"model-{i + 1:05}-of-{count:05}.safetensors"
        part = names[i::count]
        write_tensors(folder / file, {name: tensors[name] for name in part})
        weight_map |= dict.fromkeys(part, file)
    write_index(folder, weight_map)
    (folder / WEIGHTS).unlink()
    return weight_map


def write_index(folder: Path, weight_map: Any) -> None:
    (folder / WEIGHTS_INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    return write_decoder(tmp_path / "model", "llama")


def test_shards_are_one_model(fresh: Path) -> None:
    inputs = case(4, 2)
    whole = load_model(fresh, threads=1).logits(**inputs)
    shard(fresh)
    assert np.array_equal(load_model(fresh, threads=1).logits(**inputs), whole)


def test_the_hash_of_shards(fresh: Path) -> None:
    one = load_checkpoint(fresh).model_sha256
    assert one == hashlib.sha256((fresh / WEIGHTS).read_bytes()).hexdigest()
    shard(fresh)
    files = weight_files(fresh)
    listed = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    before = load_checkpoint(fresh).model_sha256
    assert before == hashlib.sha256(listed.encode()).hexdigest()
    tensors = {name: np.array(array) for name, array in read_tensors(files[1]).items()}
    next(iter(tensors.values())).flat[0] += 1
    write_tensors(files[1], tensors)
    assert load_checkpoint(fresh).model_sha256 != before


@pytest.mark.parametrize(
    "file",
    [
        "../model/model-00001-of-00003.safetensors",
        "/etc/model.safetensors",
        "..",
        ".hidden.safetensors",
        "sub/model.safetensors",
        "sub\\model.safetensors",
        "C:model.safetensors",
        "model.bin",
        "model\0.safetensors",
        "x" * 300 + ".safetensors",
        "",
        3,
        None,
        ["model-00001-of-00003.safetensors"],
    ],
)
def test_an_index_that_leads_elsewhere(fresh: Path, file: Any) -> None:
    weight_map = shard(fresh)
    name = next(iter(weight_map))
    write_index(fresh, weight_map | {name: file})
    with pytest.raises(
        CheckpointError, match=r"is said to be in .*; expected the name of a .safetensors file in the same"
    ):
        load_checkpoint(fresh)


def test_the_twin_without_that_check(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file outside the folder would be read, if the index were believed."""
    weight_map = shard(fresh)
    moved = fresh / "model-00001-of-00003.safetensors"
    moved.rename(fresh.parent / moved.name)
    write_index(fresh, {name: f"../{file}" if file == moved.name else file for name, file in weight_map.items()})
    with pytest.raises(CheckpointError, match="is said to be in"):
        load_checkpoint(fresh)
    monkeypatch.setattr("zopog_models.checkpoints.weights._is_plain_name", lambda file: True)
    with pytest.raises(CheckpointError, match=r"holds .*, which model.safetensors.index.json has in '\.\./"):
        load_checkpoint(fresh)  # it was opened


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "index.json is not JSON"),
        ("[" * 100_000, "index.json is not JSON"),
        ("[]", "must hold an object weight_map"),
        ("{}", "must hold an object weight_map"),
        ('{"weight_map": []}', "must hold an object weight_map"),
        ('{"weight_map": {}}', "must hold an object weight_map"),
    ],
)
def test_a_damaged_index(fresh: Path, content: str, message: str) -> None:
    shard(fresh)
    (fresh / WEIGHTS_INDEX).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(fresh)


def test_an_index_that_does_not_fit_its_shards(fresh: Path) -> None:
    weight_map = shard(fresh)
    first, *_ = weight_map
    write_index(fresh, weight_map | {"model.norm.bias": weight_map[first]})
    with pytest.raises(CheckpointError, match=r"tensor 'model.norm.bias' is not in 'model-0.*', where it should be"):
        load_checkpoint(fresh)
    write_index(fresh, {name: file for name, file in weight_map.items() if name != first})
    with pytest.raises(CheckpointError, match=r"holds '.*', which model.safetensors.index.json has nowhere"):
        load_checkpoint(fresh)
    write_index(fresh, weight_map)
    (fresh / weight_map[first]).unlink()
    with pytest.raises(CheckpointError, match=r"has no model-0.*, which model.safetensors.index.json lists"):
        load_checkpoint(fresh)
    (fresh / WEIGHTS_INDEX).unlink()
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        load_checkpoint(fresh)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_missing_surplus_and_wrong_tensors(tmp_path: Path, family: str) -> None:
    folder = write_decoder(tmp_path / "model", family, tie_word_embeddings=family == "gpt2")
    tensors = {name: np.array(array) for name, array in read_tensors(folder / WEIGHTS).items()}
    last = {
        "gpt2": "transformer.ln_f.weight",
        "opt": "model.decoder.final_layer_norm.weight",
        "gpt_neox": "gpt_neox.final_layer_norm.weight",
    }
    norm = last.get(family, "model.norm.weight")

    def refused(change: Callable[[dict[str, np.ndarray]], Any], message: str) -> None:
        changed = dict(tensors)
        change(changed)
        write_tensors(folder / WEIGHTS, changed)
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(folder)

    refused(lambda t: t.pop(norm), f"missing tensors: {norm}")
    refused(lambda t: t.update({norm.replace("weight", "extra"): np.zeros(1)}), f"does not have: .*{norm[:-6]}extra")
    refused(
        lambda t: t.update({norm: np.zeros(31, np.float32)}), rf"{norm} has shape \(31,\), config.json says \(32,\)"
    )
    refused(lambda t: t.update({norm: np.zeros(32, np.int64)}), f"{norm} has dtype int64")
    if family != "gpt2":
        refused(
            lambda t: t.pop("lm_head.weight"), r"missing tensors: lm_head.weight \(config.json says that the output"
        )


def test_harmless_differences(tmp_path: Path) -> None:
    """GPT-2 as it lies on the hub: no leading `transformer.`, causal masks as buffers, the tied matrix stored too."""
    folder = write_decoder(tmp_path / "model", "gpt2")
    before = load_checkpoint(folder).tensors
    tensors = {name.removeprefix("transformer."): np.array(array) for name, array in before.items()}
    tensors["lm_head.weight"] = tensors["wte.weight"]
    for i in range(3):
        tensors[f"h.{i}.attn.bias"] = np.tril(np.ones((1, 1, 64, 64), np.float32))
        tensors[f"h.{i}.attn.masked_bias"] = np.array(-1e4, np.float32)
    write_tensors(folder / WEIGHTS, tensors)
    after = load_checkpoint(folder).tensors
    assert after.keys() == before.keys()
    assert all(np.array_equal(after[name], before[name]) for name in before)
    neox = write_decoder(tmp_path / "neox", "gpt_neox")
    before = load_checkpoint(neox).tensors
    stored = {("embed_out.weight" if name == "lm_head.weight" else name): np.array(t) for name, t in before.items()}
    write_tensors(neox / WEIGHTS, {**stored, "gpt_neox.layers.0.attention.masked_bias": np.array(-1e9, np.float32)})
    assert load_checkpoint(neox).tensors.keys() == before.keys()
    llama = write_decoder(tmp_path / "llama", "llama", tie_word_embeddings=True)
    before = load_checkpoint(llama).tensors
    buffers = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32) for i in range(3)}
    write_tensors(llama / WEIGHTS, {**before, **buffers, "lm_head.weight": before["model.embed_tokens.weight"]})
    assert load_checkpoint(llama).tensors.keys() == before.keys()


BAD_NUMBERS = [0, -1, 2**63, 10**30, 1.5, "3", None, True, [], {}]
CONFIGS = [
    *[("gpt2", {"n_layer": value}, "n_layer") for value in BAD_NUMBERS],
    *[("llama", {"num_hidden_layers": value}, "num_hidden_layers") for value in BAD_NUMBERS],
    ("gpt2", {"n_head": 5}, "n_embd 32 is not a multiple of n_head 5"),
    ("gpt2", {"activation_function": "swish"}, "activation_function 'swish' is not supported"),
    ("gpt2", {"activation_function": []}, r"activation_function \[\] is not supported"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx True"),
    ("llama", {"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple of num_key_value_heads 3"),
    ("llama", {"head_dim": 7}, "an even head width, got 7"),
    ("llama", {"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
    ("llama", {"rope_scaling": 3}, "rope_scaling must be an object"),
    ("llama", {"rope_scaling": {"rope_type": "yarn"}}, "factor of the rotary positions must be positive, got None"),
    ("llama", {"rope_scaling": {"type": "longrope"}}, "type longrope are supported for phi3 only"),
    ("llama", {"rope_parameters": {"full_attention": {}}}, "rope_parameters with full_attention .* is not supported"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5 is not supported here; supported: 1"),
    ("llama", {"rope_scaling": {"rope_type": "linear"}}, "factor of the rotary positions must be positive, got None"),
    ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor of the rotary"),
    ("llama", {"rope_theta": -1}, "rope_theta of the rotary positions must be positive, got -1"),
    ("llama", {"max_position_embeddings": 2**60}, f"max_position_embeddings {2**60} is more than {2**24}"),
    ("llama", {"attention_bias": 7}, "attention_bias 7 is not supported"),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 0}, "sliding_window must be a positive whole number"),
    ("qwen2", {"max_window_layers": "28"}, "max_window_layers must be a whole number, got '28'"),
    ("qwen3", {"layer_types": ["full_attention"]}, "layer_types must name .* for each of 3 layers, got .'full_att"),
    ("qwen3", {"layer_types": ["chunked_attention"] * 3}, "layer_types must name full_attention or sliding_attention"),
    ("mistral", {"sliding_window": 4.5}, "sliding_window must be a positive whole number, got 4.5"),
    ("mistral", {"layer_types": ["full_attention"] * 3}, r"layer_types \['full_attention', .* is not supported"),
    (
        "smollm3",
        {"no_rope_layers": [1, 2, 1, 1, 1]},
        r"no_rope_layers must hold 1 \(positions\) or 0 \(none\) for each",
    ),
    ("opt", {"do_layer_norm_before": False}, "do_layer_norm_before False is not supported"),
    ("opt", {"word_embed_proj_dim": 16}, r"word_embed_proj_dim 16 is not supported; supported: \(32,\)"),
    ("gpt_neox", {"rotary_pct": 1.5}, "rotary_pct must lie between 0 and 1, got 1.5"),
    ("gpt_neox", {"rotary_pct": 0.4}, "rotary positions need an even head width, got 3 "),
    ("gpt_neox", {"hidden_act": "silu"}, "hidden_act 'silu' is not supported"),
    (
        "phi3",
        {"rope_scaling": {"type": "longrope", "short_factor": [1, 2, 3]}},
        "short_factor has 3 numbers, 2 are needed",
    ),
    ("phi3", {"rope_scaling": {"type": "linear", "factor": 2}}, "type linear are not supported for phi3; supported:"),
    ("phi3", {"rope_scaling": {"type": "longrope", "short_factor": 3}}, "short_factor must be a list of positive numb"),
    ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention True is not supported"),
    ("gemma3_text", {"final_logit_softcapping": 30.0}, "final_logit_softcapping 30.0 is not supported"),
    ("gemma3_text", {"hidden_activation": "gelu"}, "hidden_activation 'gelu' is not supported"),
    ("gemma3_text", {"rope_parameters": {"sliding_attention": 3}}, "rope_scaling must be an object"),
    ("llama", {"model_type": ["llama"]}, "model_type"),
    (
        "llama",
        {"model_type": "mamba"},
        "model_type 'mamba' is not supported; supported: .*gpt2, gpt_neox, opt, llama, mistral, qwen2",
    ),
]


@pytest.mark.parametrize(("family", "changes", "message"), CONFIGS, ids=str)
def test_configurations_that_cannot_work(tmp_path: Path, family: str, changes: dict[str, Any], message: str) -> None:
    folder = write_decoder(tmp_path / "model", family)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_both_spellings_of_rotary_settings(tmp_path: Path) -> None:
    """transformers 5 writes rope_parameters, older versions rope_theta and rope_scaling."""
    scaling = {"rope_type": "linear", "factor": 2.0}
    old = write_decoder(tmp_path / "old", "llama", rope_theta=500.0, rope_scaling=scaling)
    new = write_decoder(tmp_path / "new", "llama", rope_parameters=scaling | {"rope_theta": 500.0})
    assert load_checkpoint(old).architecture == load_checkpoint(new).architecture


# Fuzzing: whatever is in the files, load_model works or raises a named error that says which file.


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = write_decoder(tmp_path_factory.mktemp("good") / "model", "llama", num_hidden_layers=1)
    shard(folder, 2)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def opens_or_is_refused(folder: Path, files: dict[str, bytes]) -> None:
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    try:
        load_model(folder, threads=1)
    except NAMED as error:
        assert str(folder) in str(error)  # noqa: PT017  the path is what names the file


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
FUZZ = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(data=st.data())
def test_any_damage_to_any_file(tmp_path: Path, good: dict[str, bytes], data: st.DataObject) -> None:
    """Cut, lengthened, or with a few bytes changed."""
    name = data.draw(st.sampled_from(sorted(good)))
    content = bytearray(good[name])
    kind = data.draw(st.sampled_from(["cut", "lengthen", "flip"]))
    if kind == "cut":
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    elif kind == "lengthen":
        content += data.draw(st.binary(min_size=1, max_size=20))
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, min(len(content), 3000) - 1))] = data.draw(st.integers(0, 255))
    opens_or_is_refused(tmp_path, good | {name: bytes(content)})


ENTRIES = st.sampled_from([*config_for("llama", 420), "rope_scaling", "head_dim", "attention_bias"])


@FUZZ
@given(changes=st.dictionaries(ENTRIES, JSON_VALUES, min_size=1, max_size=2))
def test_any_entry_in_config(tmp_path: Path, good: dict[str, bytes], changes: dict[str, Any]) -> None:
    config = json.loads(good["config.json"]) | changes
    opens_or_is_refused(tmp_path, good | {"config.json": json.dumps(config).encode()})


@FUZZ
@given(data=st.data())
def test_any_index(tmp_path: Path, good: dict[str, bytes], data: st.DataObject) -> None:
    index = json.loads(good[WEIGHTS_INDEX])
    files = st.sampled_from(sorted(set(index["weight_map"].values()))) | JSON_VALUES
    if data.draw(st.booleans()):
        index["weight_map"][data.draw(st.sampled_from(sorted(index["weight_map"])))] = data.draw(files)
    else:
        index["weight_map"] = data.draw(st.dictionaries(st.text(max_size=5), files, max_size=3) | JSON_VALUES)
    opens_or_is_refused(tmp_path, good | {WEIGHTS_INDEX: json.dumps(index).encode()})


@FUZZ
@given(data=st.data())
def test_any_part_of_the_tokenizer(tmp_path: Path, good: dict[str, bytes], data: st.DataObject) -> None:
    tokenizer = json.loads(good["tokenizer.json"])
    part = data.draw(
        st.sampled_from(["model", "normalizer", "pre_tokenizer", "post_processor", "added_tokens", "version"])
    )
    if isinstance(tokenizer[part], dict) and data.draw(st.booleans()):
        tokenizer[part][data.draw(st.sampled_from(sorted(tokenizer[part])))] = data.draw(JSON_VALUES)
    else:
        tokenizer[part] = data.draw(JSON_VALUES)
    opens_or_is_refused(tmp_path, good | {"tokenizer.json": json.dumps(tokenizer).encode()})


@FUZZ
@given(content=st.binary(max_size=300))
def test_any_bytes_as_a_prompt(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "prompt.safetensors").write_bytes(content)
    with pytest.raises(PromptError):
        load_prompt(tmp_path)
