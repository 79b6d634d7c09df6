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

FEW = 4  # chunks, which are not made fewer: several threads want them


@dataclass(frozen=True)
class Cut:
    """rows: of a chunk, at most. tokens: of a chunk, in place of its rows, where a graph takes each token once: padding
    costs little there, so chunks are made to take as long as each other, and threads end together. even: chunks have
    equally many rows, so that the last one fills a GPU as the others do."""

    rows: int
    tokens: int | None = None
    even: bool = False

    def spans(self, count: int) -> list[tuple[int, int]]:
        """Where the chunks of `count` rows in a row begin and end."""
        chunks = -(-count // self.rows)
        at = [i * count // chunks if self.even else i * self.rows for i in range(chunks)]
        return list(zip(at, [*at[1:], count]))

    def __call__(self, order: np.ndarray, tokens: np.ndarray, cells: np.ndarray, common: int = 0) -> list[np.ndarray]:
        """The rows of each chunk, in the order given. Of each row, in the same order: tokens, besides those that all of
        them have in common, which every chunk reads once; and cells as above."""
        if self.tokens is None:
            return [order[start:stop] for start, stop in self.spans(len(order))]
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
