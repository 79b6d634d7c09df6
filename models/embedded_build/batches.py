"""Turns the pretraining text into batches: short rows most of the time, packed rows for the rest.

A prompt puts 20 to 50 tokens between [CLS] and the text, so in use the text stands where a short line
never does. Two things make those positions familiar: a short row's text may start at a later position
than 1 (the [CLS] stays at 0), and a part of the batches holds rows in which lines that follow each
other in one section are packed together up to the model's length.
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

    short_rows: int = 128
    packed_rows: int = 24
    packed_share: float = 0.2  # of the batches
    packed_lengths: tuple[int, int] = (48, 184)
    offset_share: float = 0.5  # of the short rows
    max_offset: int = 64
    max_positions: int = 192
    mask_share: float = 0.15


@dataclass(frozen=True)
class Batch:
    """ids, positions, mask and targets, each (B, L); targets are IGNORE where nothing is predicted."""

    ids: Ids
    positions: Ids
    attention_mask: Ids
    targets: Ids


def pack(lines: list[list[int]], lengths: tuple[int, int], rng: np.random.Generator) -> list[list[int]]:
    """Joins consecutive lines into rows, each up to a length drawn from `lengths`."""
    rows: list[list[int]] = []
    row: list[int] = []
    room = int(rng.integers(*lengths))
    for line in lines:
        if row and len(row) + len(line) > room:
            rows.append(row)
            row, room = [], int(rng.integers(*lengths))
        row = row + line
    return [*rows, row] if row else rows


def _grouped(rows: list[list[int]], size: int, rng: np.random.Generator) -> list[list[list[int]]]:
    """Batches of rows of similar length: sorted within windows of 50 batches of a random order."""
    order = [rows[i] for i in rng.permutation(len(rows))]
    batches = []
    for start in range(0, len(order), 50 * size):
        window = sorted(order[start : start + 50 * size], key=len)
        batches += [window[i : i + size] for i in range(0, len(window), size)]
    return batches


def rows_forever(
    sections: dict[str, list[list[int]]], batching: Batching, rng: np.random.Generator, packed: bool
) -> Iterator[list[list[int]]]:
    """Groups of rows, epoch after epoch, each epoch in a new order."""
    while True:
        if packed:
            rows = [r for lines in sections.values() for r in pack(lines, batching.packed_lengths, rng)]
        else:
            rows = [line for lines in sections.values() for line in lines]
        size = batching.packed_rows if packed else batching.short_rows
        groups = _grouped(rows, size, rng)
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
    short = rows_forever(sections, batching, rng, packed=False)
    packed = rows_forever(sections, batching, rng, packed=True)
    while True:
        if rng.random() < batching.packed_share:
            yield masked(next(packed), batching, vocabulary, rng, offsets=False)
        else:
            yield masked(next(short), batching, vocabulary, rng, offsets=True)
