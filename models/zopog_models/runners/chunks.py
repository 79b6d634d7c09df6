"""Rows read chunk by chunk with whatever computes a graph."""

import numpy as np

from zopog_models.runners.cutting import Cut
from zopog_models.runners.engine import Engine
from zopog_models.runners.prefix import PrefixReuse
from zopog_models.runners.rows import ModelRows
from zopog_models.runners.runner import Runner
from zopog_models.runners.threads import Threads

__all__ = ["ChunkRunner"]


class ChunkRunner(Runner):
    """A runner whose engine reads padded chunks.

    Parameters
        engine: the model's graph
        chunk_rows: rows of a chunk
        chunk_tokens: tokens of a chunk, in place of its rows, where the engine takes each token once
        pool: the threads that chunks are computed in
        reuse: the engines of a decoder's prompts, where there are any
        multiple: of tokens, of the length of a padded row with its prompt
        turn: tokens that a GPU takes at once in its narrowest product
    """

    def __init__(
        self,
        engine: Engine,
        *,
        chunk_rows: int,
        chunk_tokens: int | None = None,
        pool: Threads,
        reuse: PrefixReuse | None = None,
        multiple: int = 1,
        turn: int | None = None,
    ) -> None:
        self.engine, self.multiple = engine, multiple
        self.chunk_rows, self.chunk_tokens, self.turn = chunk_rows, chunk_tokens, turn
        self.pool = pool
        self.reuse = reuse
        self.fixed_feeds: dict[str, np.ndarray] = {}  # inputs that every chunk has besides its rows

    @property
    def why_not_after(self) -> str:
        if self.reuse is not None:
            return ""
        return (
            "it is an encoder, which reads in both directions: nothing of a row stays the same when the prompt "
            "changes, and its graph puts the prompt in front"
        )

    def logits(self, rows: ModelRows) -> np.ndarray:
        return self.read(rows, "logits", len(rows.label_ids))

    def embeddings(self, rows: ModelRows) -> np.ndarray:
        return self.read(rows, "embedding", rows.label_ids.shape[1])

    def read(self, rows: ModelRows, output: str, width: int) -> np.ndarray:
        """An output (R, width) of the graph for all rows."""
        if self.reuse is not None and self.reuse.pays(rows, self.rule):
            return self.reuse.logits(rows, self.pool, self.rule)
        chunks = self.cut(rows)
        result = np.empty((len(rows.texts), width), np.float32)

        def run(chunk: np.ndarray) -> None:
            result[chunk] = self.run_chunk(output, rows.feeds(chunk, multiple=self.multiple))

        self.pool.run_all(run, chunks)
        return result

    @property
    def rule(self) -> Cut:
        """How rows are cut into chunks. In bf16 products are so fast that reading the weights for each chunk shows."""
        tokens = self.chunk_tokens and self.chunk_tokens * (2 if self.precision == "bf16" else 1)
        return Cut(self.chunk_rows, tokens, self.turn, self.multiple)

    def cut(self, rows: ModelRows) -> list[np.ndarray]:
        """The indices of each chunk's rows."""
        return rows.alike(np.arange(len(rows.texts)), self.rule)

    def run_chunk(self, output: str, feeds: dict[str, np.ndarray]) -> np.ndarray:
        """An output of the graph for one padded chunk, its prompts read with its rows."""
        feeds = feeds | self.fixed_feeds
        if self.reuse is not None:
            return self.reuse.scores(feeds | self.reuse.nothing(len(feeds["text_ids"])))
        return self.engine.run(output, feeds)
