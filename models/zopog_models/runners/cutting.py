"""Rows cut into the chunks that an engine reads.

The rule looks at the rows alone, never at the number of threads. So neither their number nor their timing can change a
bit of the result.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["CELLS", "Cut"]

# What a chunk of more than `rows` rows may have of (who looks, at whom) in one head: 110 rows of 138 tokens. Attention
# has its rows back, whole, however few tokens are their own.
CELLS = 2**21

STEP = 8  # rows: chunks in turns of a GPU are cut at multiples of it
LAUNCH = 0.5  # turns that a chunk's own start is taken to cost
FEW = 4  # chunks, which are not made fewer: several threads want them


@dataclass(frozen=True)
class Cut:
    """rows: of a chunk, at most. tokens: of a chunk, in place of its rows, where a graph takes each token once: padding
    costs little there, so chunks are made to take as long as each other, and threads end together. turn: tokens that a
    GPU takes at once in its narrowest product; chunks are then cut for the fewest turns. multiple: of tokens, that rows
    are padded to."""

    rows: int
    tokens: int | None = None
    turn: int | None = None
    multiple: int = 1

    def spans(self, lengths: np.ndarray) -> list[tuple[int, int]]:
        """Where the chunks of rows begin and end. lengths: tokens of these, as they are read."""
        if self.turn is not None and len(lengths):
            return _in_fewest_turns(-(-lengths // self.multiple) * self.multiple, self.rows, self.turn)
        at = range(0, len(lengths), self.rows)
        return [(start, min(start + self.rows, len(lengths))) for start in at]

    def __call__(self, order: np.ndarray, tokens: np.ndarray, cells: np.ndarray, common: int = 0) -> list[np.ndarray]:
        """The rows of each chunk, in the order given. Of each row, in the same order: tokens, besides those that all of
        them have in common, which every chunk reads once; and cells as above."""
        if self.tokens is None:
            return [order[start:stop] for start, stop in self.spans(tokens)]
        total = int(tokens.sum())
        middles = np.cumsum(tokens) - tokens / 2  # a row is where its middle is
        chunks = -(-total // self.tokens)
        if chunks > FEW:  # the more is read in each chunk beside its rows, the more rows there have to be
            chunks = max(FEW, -(-total // (self.tokens + common)))
        chunks = max(1, min(len(order), chunks + chunks % 2 if chunks > 1 else 1))  # even, for two threads
        at = np.searchsorted(middles, total / chunks * np.arange(1, chunks))
        found: list[np.ndarray] = []
        for part in np.split(np.arange(len(order)), at):
            if len(part):
                most = max(self.rows, CELLS // int(cells[part].max()))
                found += np.array_split(order[part], -(-len(part) // most))
        return found


def _in_fewest_turns(lengths: np.ndarray, most: int, turn: int) -> list[tuple[int, int]]:
    """Spans of at most `most` rows with the least sum of ceil(rows x longest / turn) + LAUNCH, by dynamic programming.

    A last turn takes as long as a full one, and rows are padded to the longest of their chunk: both are counted.
    """
    at = np.append(np.arange(0, len(lengths), min(STEP, most)), len(lengths))
    least, begin = np.zeros(len(at)), np.zeros(len(at), np.int64)
    for end in range(1, len(at)):
        first = int(np.searchsorted(at, at[end] - most))
        longest = np.maximum.accumulate(lengths[at[first] : at[end]][::-1])[::-1][at[first:end] - at[first]]
        turns = -(-(at[end] - at[first:end]) * longest // turn)
        costs = least[first:end] + turns + LAUNCH
        chosen = int(np.argmin(costs))
        least[end], begin[end] = costs[chosen], first + chosen
    spans = []
    end = len(at) - 1
    while end:
        spans.append((int(at[begin[end]]), int(at[end])))
        end = int(begin[end])
    return spans[::-1]
