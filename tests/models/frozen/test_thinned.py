"""Thinned networks: the graph with a unit mask computes what a checkpoint whose weights were thinned computes.

Multiplying the hidden units of a feed-forward block by m is multiplying the columns of its second matrix by m: so the
reference is numpy_bert on such a checkpoint, and knows nothing of masks.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import numpy_bert
from tests.models.frozen.test_oracle import DIM, N_POSITIONS, TASK, query
from tests.models.graph.test_graph import case
from tests.models.tiny_decoders import write_decoder
from tests.models.tiny_models import SENTENCES
from zopog_models import FrozenModel, FrozenModelOracle, encode, label_ids, load_checkpoint, load_model
from zopog_models.graph import GraphBuilder
from zopog_models.graph.encoder import INJECTIONS, build
from zopog_models.runners.session import Session

TOLERANCE = 1e-5
LAYERS, F = 3, 48


def bernoulli_mask(p_clip: float, seed: int = 5) -> np.ndarray:
    """(layers, F): 0 with probability p_clip, else 1/(1 - p_clip)."""
    kept = np.random.default_rng(seed).random((LAYERS, F)) >= p_clip
    return (kept / (1 - p_clip)).astype(np.float32)


def feeds(inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """Every row in one chunk, padded to the longest."""
    rows = inputs["text_ids"]
    longest = max(map(len, rows))
    padded = [np.pad(ids, (0, longest - len(ids))) for ids in rows]
    visible = [np.arange(longest) < len(ids) for ids in rows]
    others = {name: inputs[name] for name in inputs if name != "text_ids"}
    return others | {"text_ids": np.array(padded, np.int64), "attention_mask": np.array(visible, np.int64)}


def graph_logits(
    folder: Path, inputs: dict[str, Any], mask: np.ndarray | None, injection: str = "post_layernorm"
) -> np.ndarray:
    session = Session(*build(load_checkpoint(folder), injection, thinned=mask is not None), "cpu")
    return session.run("logits", feeds(inputs) | ({} if mask is None else {"unit_mask": mask}))


def reference(folder: Path, inputs: dict[str, Any], mask: np.ndarray, injection: str = "post_layernorm") -> np.ndarray:
    checkpoint = load_checkpoint(folder)
    tensors = dict(checkpoint.tensors)
    for i in range(LAYERS):
        name = f"{checkpoint.family.name}.encoder.layer.{i}.output.dense.weight"
        tensors[name] = tensors[name].astype(np.float64) * mask[i]  # (D, F)
    return numpy_bert.label_logits(checkpoint.config, tensors, **inputs, injection=injection)


@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize("p_clip", [0.1, 0.5])
def test_parity_with_a_thinned_checkpoint(folder: Path, injection: str, p_clip: float) -> None:
    inputs, mask = case(5, 3), bernoulli_mask(p_clip)
    largest = np.abs(graph_logits(folder, inputs, mask, injection) - reference(folder, inputs, mask, injection)).max()
    assert largest < TOLERANCE, f"largest difference {largest:.2e}"


def test_another_mask_would_be_noticed(folder: Path) -> None:
    """The twins: no mask, the mask of another layer, one unit, survivors that are not scaled."""
    inputs, mask = case(5, 3), bernoulli_mask(0.1)
    logits = graph_logits(folder, inputs, mask)
    one_unit = mask.copy()
    one_unit[LAYERS - 1, 0] += 1
    for other in (np.ones_like(mask), np.roll(mask, 1, axis=0), one_unit, (mask > 0).astype(np.float32)):
        assert np.abs(logits - reference(folder, inputs, other)).max() > 3 * TOLERANCE


def test_a_mask_of_ones_is_the_full_network(folder: Path) -> None:
    inputs = case(5, 3)
    full = graph_logits(folder, inputs, None)
    assert np.abs(graph_logits(folder, inputs, np.ones((LAYERS, F), np.float32)) - full).max() < 2e-6


def test_without_thinning_the_graph_has_no_trace_of_it(folder: Path) -> None:
    checkpoint = load_checkpoint(folder)
    plain, thinned = build(checkpoint)[0], build(checkpoint, thinned=True)[0]
    assert b"unit_mask" not in plain
    assert b"unit_mask" in thinned
    assert plain == build(checkpoint, thinned=False)[0]


def test_a_thinned_model_reads_as_its_graph_does(folder: Path) -> None:
    model = load_model(folder, threads=2)
    inputs, masks = case(5, 3), [bernoulli_mask(0.3, seed) for seed in range(3)]
    full = model.logits(**inputs)
    networks = [model.thinned(mask) for mask in masks]
    for network, mask in zip(networks, masks):
        assert np.abs(network.logits(**inputs) - reference(folder, inputs, mask)).max() < TOLERANCE
        assert np.array_equal(network.thinned(masks[0]).logits(**inputs), networks[0].logits(**inputs))
    assert np.array_equal(model.logits(**inputs), full)  # the model itself stays whole
    shared = {array.ctypes.data for array in model.runner.weights.values()}
    _, weights = build(load_checkpoint(folder), thinned=True, graph=GraphBuilder(model.runner.weights))
    assert {array.ctypes.data for array in weights.values()} == shared


def test_a_thinned_oracle(model: FrozenModel) -> None:
    """Every question goes to the thinned network, whether its directions are shared or each example has its own."""
    mask = bernoulli_mask(0.3)
    matrix = np.random.default_rng(5).normal(0, 0.3, (N_POSITIONS * 32, DIM)).astype(np.float32)
    encoded, labels = encode([(text,) for text in SENTENCES], TASK, model, N_POSITIONS), label_ids(TASK, model)
    box = FrozenModelOracle(model, encoded, labels, np.arange(20, 50), matrix, N_POSITIONS)
    thinned = FrozenModelOracle(model.thinned(mask), encoded, labels, np.arange(20, 50), matrix, N_POSITIONS)
    assert box.hidden_units == (LAYERS, F)
    for per_example in (False, True):
        asked = query(3, 4, per_example)
        full = box.logits(*asked)
        assert np.array_equal(box.thinned(mask).logits(*asked), thinned.logits(*asked))
        assert np.abs(box.thinned(mask).logits(*asked) - full).max() > 1e-3
        assert np.array_equal(box.logits(*asked), full)


@pytest.mark.parametrize("mask", [np.ones((F, LAYERS)), np.full((LAYERS, F), np.nan)])
def test_a_mask_that_does_not_fit(bert_folder: Path, mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"unit_mask must be \(3, 48\) finite numbers"):
        load_model(bert_folder).thinned(mask)


def test_a_decoder_is_refused(tmp_path: Path) -> None:
    model = load_model(write_decoder(tmp_path / "model", "gpt2"))
    with pytest.raises(ValueError, match=r"thinned networks need an encoder; 'model' is a decoder \(gpt2\)"):
        model.thinned(np.ones(model.hidden_units))
