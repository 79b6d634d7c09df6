"""Rows cut into the chunks that an engine reads.

The rule looks at the rows alone, never at the number of threads. So neither their number nor their timing can change a
bit of the result.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["Cut"]


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

    def __call__(self, order: np.ndarray, tokens: np.ndarray) -> list[np.ndarray]:
        """The rows of each chunk, in the order given. tokens: of each of them, in the same order."""
        if self.tokens is None:
            return [order[i : i + self.rows] for i in range(0, len(order), self.rows)]
        total = int(tokens.sum())
        middles = np.cumsum(tokens) - tokens / 2  # a row is where its middle is
        chunks = max(1, self.number(len(order), total))
        at = np.searchsorted(middles, total / chunks * np.arange(1, chunks))
        return [chunk for chunk in np.split(order, at) if len(chunk)]
