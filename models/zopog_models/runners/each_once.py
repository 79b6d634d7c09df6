"""A decoder's tokens, each once: without padding, and without what other rows of the chunk begin with too.

A position of a decoder sees what stands before it. So two rows that begin alike have equal values there: the prompt
they share, instructions and demonstrations in front of the text, what a conversation begins with. All but attention
reads each token by itself, so the graph takes every such token once (`graph.tokens`). Which ones they are is found
here, on the host: a graph that had to count them could not plan for its shapes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["EachOnce"]


@dataclass(frozen=True)
class EachOnce:
    """Adds to a chunk's inputs where its distinct tokens stand.

    first: tokens of a row that stand before its prompt.
    """

    first: int

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """feeds and places (B,), of each token in the rows with their prompts (R S,); tokens (R, S), which of the B
        stands there, of padding any."""
        prompts, n = feeds["prompt_ids"].shape
        own = -1 - np.arange(prompts * n).reshape(prompts, n)  # of no text: equal ids with other offsets are not equal
        rows = self._with_prompts(feeds["text_ids"], own[feeds["prompt_index"]])
        visible = self._with_prompts(feeds["attention_mask"], np.ones((len(rows), n), np.int64)) > 0
        tokens = np.zeros(rows.shape, np.int64)
        places: list[int] = []
        after: dict[tuple[int, int], int] = {}  # (the token before, its id) -> the token
        for r, before in enumerate(self._beginnings(feeds)):
            for p in np.flatnonzero(visible[r]).tolist():
                step = (before, int(rows[r, p]))
                if step not in after:
                    after[step] = len(places)
                    places.append(r * rows.shape[1] + p)
                before = after[step]
                tokens[r, p] = before
        return {**feeds, "places": np.array(places, np.int64), "tokens": tokens}

    def _with_prompts(self, text: np.ndarray, prompt: np.ndarray) -> np.ndarray:
        return np.concatenate([text[:, : self.first], prompt, text[:, self.first :]], axis=1)

    def _beginnings(self, feeds: Mapping[str, np.ndarray]) -> list[int]:
        """What stands before each row: -1 nothing, below that one of the prefixes, which are not compared."""
        if "prefix_index" not in feeds:
            return [-1] * len(feeds["text_ids"])
        index = feeds["prefix_index"]
        return [int(b) for b in np.where(feeds["prefix_length"][index] > 0, -2 - index, -1)]
