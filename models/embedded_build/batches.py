"""Turns the pretraining text into batches, a line a row, rows of like length together.

A prompt puts 20 to 50 tokens between [CLS] and the text, so in use the text stands where a short line
never does. To make those positions familiar, half of the rows start at a later position than 1 (the
[CLS] stays at 0).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PAD, CLS, SEP, MASK, FIRST_WORD = 0, 2, 3, 4, 5
IGNORE = -100

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Batching:
    """Shapes of the batches and the masking, as in BERT (15%: 80% mask, 10% random, 10% kept)."""

    rows: int = 128
    offset_share: float = 0.5  # of the rows
    max_offset: int = 128
    max_positions: int = 192
    mask_share: float = 0.15


@dataclass(frozen=True)
class Batch:
    """ids, positions, mask and targets, each (B, L); targets are IGNORE where nothing is predicted."""

    ids: Ids
    positions: Ids
    attention_mask: Ids
    targets: Ids


def _grouped(rows: list[list[int]], size: int, rng: np.random.Generator) -> list[list[list[int]]]:
    """Batches of rows of similar length: sorted within windows of 50 batches of a random order."""
    order = [rows[i] for i in rng.permutation(len(rows))]
    batches = []
    for start in range(0, len(order), 50 * size):
        window = sorted(order[start : start + 50 * size], key=len)
        batches += [window[i : i + size] for i in range(0, len(window), size)]
    return batches


def rows_forever(lines: list[list[int]], size: int, rng: np.random.Generator) -> Iterator[list[list[int]]]:
    """Groups of `size` rows, epoch after epoch, each epoch in a new order."""
    while True:
        groups = _grouped(lines, size, rng)
        for i in rng.permutation(len(groups)):
            yield groups[i]


def masked(rows: list[list[int]], batching: Batching, vocabulary: int, rng: np.random.Generator,
           offsets: bool) -> Batch:  # fmt: skip
    """Adds [CLS] and [SEP], pads, draws positions and masks."""
    longest = max(len(row) for row in rows) + 2
    length = min(-(-longest // 4) * 4, batching.max_positions)  # few shapes: each new one is compiled once
    ids = np.full((len(rows), length), PAD, np.int64)  # (B, L)
    for i, row in enumerate(rows):
        kept = row[: length - 2]
        ids[i, : len(kept) + 2] = [CLS, *kept, SEP]
    attention_mask = (ids != PAD).astype(np.int64)
    positions = np.tile(np.arange(length), (len(rows), 1))
    if offsets:
        furthest = min(batching.max_offset, batching.max_positions - length)
        offset = rng.integers(0, furthest + 1, len(rows)) * (rng.random(len(rows)) < batching.offset_share)
        positions[:, 1:] += offset[:, None]
    chosen = (rng.random(ids.shape) < batching.mask_share) & (ids >= FIRST_WORD)
    targets = np.where(chosen, ids, IGNORE)
    kind = rng.random(ids.shape)
    noise = rng.integers(FIRST_WORD, vocabulary, ids.shape)
    ids = np.where(chosen & (kind < 0.8), MASK, ids)
    ids = np.where(chosen & (kind >= 0.9), noise, ids)
    return Batch(ids, positions, attention_mask, targets)


def batches(sections: dict[str, list[list[int]]], batching: Batching, vocabulary: int, seed: int) -> Iterator[Batch]:
    """An endless, seeded stream of batches."""
    rng = np.random.default_rng(seed)
    lines = [line for section in sections.values() for line in section]
    for rows in rows_forever(lines, batching.rows, rng):
        yield masked(rows, batching, vocabulary, rng, offsets=True)
