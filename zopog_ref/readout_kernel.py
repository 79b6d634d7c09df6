"""What a readout sees of scores: features of the label words and of the other tokens, and the kernel of all prompts.

x = (s P - mean of s P over the rows) c, mean |x|^2 = 1     for the label words, and for the others, of every prompt
K = mean_b X_b X_b^T, tr K = n                              M prompts add no parameters
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zopog_ref.arrays import FLOAT64
from zopog_ref.readout_map import Scores, checked_scores

__all__ = ["Block", "blocks_of", "kernel_of", "kernel_of_blocks", "row_centred"]


class Block(NamedTuple):
    """Features [R1] of one stretch of one prompt's columns: scale (s P - mean), mean |x|^2 = 1."""

    prompt: int
    where: slice
    features: FLOAT64  # (n, T)
    mean: FLOAT64  # (T,)
    scale: float


def blocks_of(given: Sequence[FLOAT64], n_classes: int) -> list[Block]:
    """The label words of each prompt, and its other tokens: each with the same weight, constant ones left out."""
    blocks = []
    for m, s in enumerate(given):
        if s.shape[1] < n_classes:
            raise ValueError(f"prompt {m} has {s.shape[1]} columns; the first {n_classes} are to be the label words")
        for where in (slice(0, n_classes), slice(n_classes, s.shape[1])):
            x = row_centred(s[:, where])
            mean = x.mean(axis=0)
            x = x - mean
            size = np.sqrt((x**2).sum(axis=1).mean()) if x.size else 0.0
            if size > 1e-12 * max(1.0, np.abs(s).max()):
                blocks.append(Block(m, where, x / size, mean, float(1 / size)))
    return blocks or [Block(0, slice(0, n_classes), np.zeros((len(given[0]), n_classes)), np.zeros(n_classes), 0.0)]


def kernel_of_blocks(blocks: Sequence[Block]) -> FLOAT64:
    """K = mean_b X_b X_b^T [R2], (n, n), tr K = n."""
    return np.asarray(sum(b.features @ b.features.T for b in blocks) / len(blocks))


def row_centred(s: FLOAT64) -> FLOAT64:
    """s P: less the row's own mean, so that a normaliser of the row (log-softmax or not) makes no difference."""
    return np.asarray(s - s.mean(axis=1, keepdims=True)) if s.shape[1] else s


def kernel_of(scores: Scores, n_classes: int) -> FLOAT64:
    """K [R2] (n, n) of the scores (n, T) of a prompt, or of several, C label words first: what `vocabulary` fits to."""
    return kernel_of_blocks(blocks_of(checked_scores(scores), n_classes))
