"""Thinned networks: the graph with a unit mask computes what a checkpoint whose weights were thinned computes.

Multiplying the hidden units of a feed-forward block by m is multiplying the columns of its second matrix by m: so the
reference is numpy_bert on such a checkpoint, and knows nothing of masks.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import numpy_bert
from tests.models.test_graph import case
from zopog_models import load_checkpoint
from zopog_models.graph.encoder import INJECTIONS, build
from zopog_models.session import Session

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
