"""Decoders: what a prompt's positions compute is computed once, however many rows are read with that prompt.

A position of a decoder sees what stands before it, so the keys and values at the first token and the prompt do not
depend on the text. With K prompts on B rows, K · (n + 1) + K · B · L positions go through the model instead of
K · B · (n + 1 + L). What comes out is what the plain graph gives, but for rounding.
"""

import copy

import numpy as np

from zopog_models.families.decoder import DecoderArchitecture
from zopog_models.runners.engine import Engine
from zopog_models.runners.rows import ModelRows
from zopog_models.runners.threads import Threads

__all__ = ["PrefixReuse"]

# Rows of a prompt from which on its keys and values are computed apart.
ROWS_PER_PROMPT = 2
# Keys and values in memory at once: prompts are taken in groups that need no more than this, or one by one.
_PREFIX_BYTES = 128 * 2**20


class PrefixReuse:
    """Reads rows with few prompts.

    Parameters
        first: tokens of a row that stand before its prompt
        rows_engine: the model's graph, built with reuse=True
        prefix_engine: the graph of `build_prefix`
    """

    def __init__(
        self, architecture: DecoderArchitecture, first: int, *, rows_engine: Engine, prefix_engine: Engine
    ) -> None:
        self.first = first
        self._shape = (architecture.layers, 2, architecture.key_heads * architecture.head_width)
        self.rows_engine = rows_engine
        self.prefix_engine = prefix_engine

    def with_rows_read_by(self, engine: Engine) -> "PrefixReuse":
        """The same prefixes, with rows read by another engine of the same model."""
        reuse = copy.copy(self)
        reuse.rows_engine = engine
        return reuse

    def nothing(self, prompts: int) -> np.ndarray:
        """The prefix of rows that are read from their beginning: no positions."""
        layers, two, width = self._shape
        return np.zeros((layers, two, prompts, 0, width), np.float32)

    def pays(self, rows: ModelRows) -> bool:
        """Whether there is a prompt, whether its rows are several, and whether each has something of its own."""
        count = len(rows.texts)
        if not count or not rows.prompt_ids.shape[1] or (rows.answer_position < self.first).any():
            return False
        return count >= ROWS_PER_PROMPT * len(np.unique(self._prefixes(rows), axis=0))

    def logits(self, rows: ModelRows, pool: Threads, chunk_rows: int, multiple: int = 1) -> np.ndarray:
        """Scores (R, C), as the plain graph gives them but for rounding."""
        prefixes, owner = np.unique(self._prefixes(rows), axis=0, return_inverse=True)  # (P, 1 + first), (R,)
        owner = owner.reshape(-1)
        layers, two, width = self._shape
        positions = self.first + rows.prompt_ids.shape[1]  # m
        group = max(1, _PREFIX_BYTES // (4 * layers * two * positions * width))
        result = np.empty((len(owner), len(rows.label_ids)), np.float32)
        for start in range(0, len(prefixes), group):
            part = np.arange(start, min(start + group, len(prefixes)))
            found: dict[int, np.ndarray] = {}

            def compute(chunk: np.ndarray, found: dict[int, np.ndarray] = found) -> None:
                prompts = prefixes[chunk, 0]
                feeds = {
                    "first_ids": prefixes[chunk, 1:],
                    "prompt_ids": rows.prompt_ids[prompts],
                    "prompt_offset": rows.prompt_offset[prompts],
                }
                computed = self.prefix_engine.run("prefix", feeds)  # (layers, 2, chunk, m, W)
                for i, prefix in enumerate(chunk):
                    found[int(prefix)] = np.ascontiguousarray(computed[:, :, i : i + 1])

            def read(chunk: np.ndarray, found: dict[int, np.ndarray] = found) -> None:
                feeds = rows.feeds(chunk, multiple)
                feeds["text_ids"] = np.ascontiguousarray(feeds["text_ids"][:, self.first :])
                feeds["attention_mask"] = np.ascontiguousarray(feeds["attention_mask"][:, self.first :])
                feeds["answer_position"] = feeds["answer_position"] - self.first
                feeds["prompt_ids"] = feeds["prompt_ids"][:, :0]
                feeds["prompt_offset"] = feeds["prompt_offset"][:, :0]
                feeds["prefix"] = found[int(owner[chunk[0]])]
                result[chunk] = self.rows_engine.run("logits", feeds)

            pool.run_all(compute, _chunks(part, chunk_rows))
            chunks = []
            for prefix in part:  # a chunk has one prefix; rows of like length share one
                own = np.flatnonzero(owner == prefix)
                chunks += _chunks(own[np.argsort(rows.lengths[own], kind="stable")], chunk_rows)
            pool.run_all(read, chunks)
        return result

    def _prefixes(self, rows: ModelRows) -> np.ndarray:
        """What decides a row's prefix: the index of its prompt, and its first tokens. (R, 1 + first)."""
        first = np.array([text[: self.first] for text in rows.texts], np.int64).reshape(len(rows.texts), self.first)
        return np.concatenate([rows.prompt_index[:, None], first], axis=1)


def _chunks(items: np.ndarray, size: int) -> list[np.ndarray]:
    return [items[i : i + size] for i in range(0, len(items), size)]
