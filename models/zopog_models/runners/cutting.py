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


@dataclass(frozen=True)
class Cut:
    """rows: of a chunk. tokens: of a chunk, in place of its rows, where a graph takes each token once: padding costs
    little there, so chunks are made to take as long as each other, and threads end together."""

    rows: int
    tokens: int | None = None

    def number(self, rows: int, tokens: int) -> int:
        """Chunks of so many rows with so many tokens; if not one, then an even number, for two threads."""
        if self.tokens is None:
            return -(-rows // self.rows)
        chunks = -(-tokens // self.tokens)
        return min(rows, chunks + chunks % 2 if chunks > 1 else chunks)

    def __call__(self, order: np.ndarray, tokens: np.ndarray, cells: np.ndarray) -> list[np.ndarray]:
        """The rows of each chunk, in the order given. Of each row, in the same order: tokens, and cells as above."""
        if self.tokens is None:
            return [order[i : i + self.rows] for i in range(0, len(order), self.rows)]
        total = int(tokens.sum())
        middles = np.cumsum(tokens) - tokens / 2  # a row is where its middle is
        chunks = max(1, self.number(len(order), total))
        at = np.searchsorted(middles, total / chunks * np.arange(1, chunks))
        found: list[np.ndarray] = []
        for part in np.split(np.arange(len(order)), at):
            if len(part):
                most = max(self.rows, CELLS // int(cells[part].max()))
                found += np.array_split(order[part], -(-len(part) // most))
        return found
