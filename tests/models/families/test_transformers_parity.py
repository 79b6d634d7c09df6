"""Development only: the same weights in `transformers` give the same label logits. Skipped without PyTorch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.checkpoints.test_checkpoint import rewrite
from tests.models.families.test_families import VARIANTS, family_case
from tests.models.families.test_sentence import as_sentence_transformers
from tests.models.families.test_transformers_decoders import with_few_keys
from tests.models.graph.test_graph import case
from tests.models.tiny_models import tokenizer_for, write_model
from zopog_models import load_checkpoint, load_model, read_tensors

torch = pytest.importorskip("torch", reason="PyTorch is for development only")
transformers = pytest.importorskip("transformers", reason="transformers is for development only")


def peer(folder: Path) -> Any:
    return transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()


def peer_logits(network: Any, inputs: dict[str, Any], injection: str, pad_id: int) -> np.ndarray:
    """The prompt inserted into the ids, the offset added by a hook where the injection says."""
    n = inputs["prompt_ids"].shape[1]
    lengths = [len(ids) + n for ids in inputs["text_ids"]]
    ids = np.full((len(lengths), max(lengths)), pad_id)
    offset = np.zeros((*ids.shape, inputs["prompt_offset"].shape[2]), np.float32)
    for r, (text, p) in enumerate(zip(inputs["text_ids"], inputs["prompt_index"], strict=True)):
        ids[r, : lengths[r]] = [text[0], *inputs["prompt_ids"][p], *text[1:]]
        offset[r, 1 : n + 1] = inputs["prompt_offset"][p]
    embeddings = network.base_model.embeddings
    where = embeddings if injection == "post_layernorm" else network.get_input_embeddings()
    hook = where.register_forward_hook(lambda module, args, output: output + torch.from_numpy(offset))
    mask = torch.from_numpy((np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64))
    try:
        with torch.no_grad():
            scores = network(input_ids=torch.from_numpy(ids), attention_mask=mask).logits  # (R, S, V)
    finally:
        hook.remove()
    rows = np.arange(len(lengths))
    return scores.numpy()[rows, inputs["answer_position"] + n][:, inputs["label_ids"]]


@pytest.mark.parametrize("injection", ["post_layernorm", "word_embedding"])
@pytest.mark.parametrize(("n", "prompts"), [(0, 1), (5, 3), (20, 2)])
def test_the_same_label_logits(folder: Path, injection: str, n: int, prompts: int) -> None:
    inputs = case(n, prompts)
    # RoBERTa counts positions past padding ids, also inside a row: keep them out of the text, as any tokenizer does.
    pad_id = load_checkpoint(folder).config["pad_token_id"]
    expected = peer_logits(peer(folder), inputs, injection, pad_id)
    logits = load_model(folder, threads=1, injection=injection).logits(**inputs)
    largest = np.abs(logits - expected).max()
    print(f"largest difference {largest:.2e}")
    assert largest < 1e-5


@pytest.mark.parametrize("injection", ["post_layernorm", "word_embedding"])
@pytest.mark.parametrize(("family", "changes"), VARIANTS, ids=str)
def test_the_same_label_logits_of_each_family(
    tmp_path: Path, family: str, changes: dict[str, Any], injection: str
) -> None:
    folder = write_model(tmp_path / "model", family, seed=2, **changes)
    bias = read_tensors(folder / "model.safetensors").get("lm_head.bias")
    if bias is not None:  # save_pretrained stores it twice, and of an untied head transformers reads the other
        bias = np.array(bias)
        rewrite(folder, lambda tensors: tensors.update({"lm_head.decoder.bias": bias}))
    inputs = family_case(folder, 5, 3)
    pad_id = load_checkpoint(folder).config["pad_token_id"]
    expected = peer_logits(peer(folder), inputs, injection, pad_id)
    logits = load_model(folder, threads=1, injection=injection).logits(**inputs)
    largest = np.abs(logits - expected).max()
    print(f"largest difference {largest:.2e}")
    assert largest < 1e-5


DEEP: dict[str, dict[str, Any]] = {
    "xlm-roberta": {"type_vocab_size": 1, "layer_norm_eps": 3e-4, "num_hidden_layers": 24},
    "camembert": {"num_hidden_layers": 14},
    "mpnet": {"num_hidden_layers": 24},
    "modernbert": {"num_hidden_layers": 28, "local_attention": 32},
}

DTYPES = {"mpnet": "float16", "modernbert": "bfloat16"}


@pytest.mark.parametrize("family", DEEP)
def test_as_deep_as_real_ones(tmp_path: Path, family: str) -> None:
    """From a folder that transformers wrote, in shards, with few keys; rows longer than a window, and than MPNet's last bucket."""
    size = {"hidden_size": 192, "num_attention_heads": 8, "intermediate_size": 500, "pad_token_id": 1}
    tokenizer = tokenizer_for(family)
    vocabulary = {"vocab_size": tokenizer.get_vocab_size(), "bos_token_id": None, "eos_token_id": None}
    config = transformers.AutoConfig.for_model(
        family, max_position_embeddings=402, **vocabulary, **{**size, **DEEP[family]}
    )
    torch.manual_seed(0)
    network = transformers.AutoModelForMaskedLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1 or "relative" in name:
                parameter += 0.1 * torch.randn_like(parameter)
            elif "embed" not in name:
                parameter *= 3
    network.to(getattr(torch, DTYPES.get(family, "float32"))).save_pretrained(tmp_path / "model", max_shard_size="1MB")
    with_few_keys(tmp_path / "model", family)
    network = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    tokenizer.save(str(tmp_path / "model" / "tokenizer.json"))
    rng = np.random.default_rng(0)
    for n in (0, 20):
        inputs = case(n, 3)
        inputs["prompt_offset"] = rng.normal(0, 0.1, (3, n, 192)).astype(np.float32)
        inputs["text_ids"][-1] = rng.integers(5, 60, 350)
        inputs["answer_position"][-1] = 200
        expected = peer_logits(network, inputs, "post_layernorm", pad_id=1)
        logits = load_model(tmp_path / "model", threads=1).logits(**inputs)
        largest = np.abs(logits - expected).max()
        print(f"largest difference {largest:.2e}, logits up to {np.abs(expected).max():.1f}")
        assert largest < 2e-5 * max(1, np.abs(expected).max())
        assert np.ptp(expected) > 0.1


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "albert", "mpnet", "modernbert"])
def test_the_same_sentence_embeddings(tmp_path: Path, family: str) -> None:
    folder = as_sentence_transformers(write_model(tmp_path / "model", family))
    rows, pad_id = case(0, 1)["text_ids"], load_checkpoint(folder).config["pad_token_id"]
    ids = np.full((len(rows), max(map(len, rows))), pad_id)
    for r, row in enumerate(rows):
        ids[r, : len(row)] = row
    mask = np.arange(ids.shape[1]) < np.array([len(row) for row in rows])[:, None]
    network = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = network(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask.astype(np.int64)))[0]
    mean = (states.numpy() * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    assert np.abs(load_model(folder, threads=1).embeddings(rows) - expected).max() < 1e-6


def test_a_wrong_peer_is_noticed(folder: Path) -> None:
    """The twin: one weight changed in the peer alone."""
    inputs = case(5, 3)
    network = peer(folder)
    with torch.no_grad():
        network.base_model.encoder.layer[0].output.dense.bias[0] += 0.1
    expected = peer_logits(network, inputs, "post_layernorm", load_checkpoint(folder).config["pad_token_id"])
    logits = load_model(folder, threads=1).logits(**inputs)
    assert np.abs(logits - expected).max() > 3e-5
