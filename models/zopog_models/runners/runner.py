"""Who computes a frozen model: the one thing that a new black box has to be.

A runner is asked with `ModelRows`: for every row its token ids, the place of its answer, the prompt in front of it and
the offsets A z of that prompt. It answers with the scores of the label words that were asked for. Everything else in
`Runner` has a default that says what the runner cannot do. Whoever inherits from `Runner` writes `logits`, and states
`providers`. tests/models/runners/example.py is a whole one in thirty lines.
"""

from abc import abstractmethod
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from zopog_models.runners.bound import Tensor
from zopog_models.runners.cutting import Cut
from zopog_models.runners.rows import ModelRows
from zopog_models.runners.threads import Threads

__all__ = ["Runner", "Scores"]


class Scores(StrEnum):
    """Which label words a runner can score."""

    ANY = "any"  # any token ids: their logits, whichever are asked for
    LABELS = "labels"  # the label that is answered, and no scores
    TOP_K = "top k"  # log-probabilities of the k most probable tokens; the others have a floor in place of a score


class Runner(Protocol):
    """What computes the scores of a frozen model. All numbers are those of the rows, whatever the threads do.

    scores: which label words it can score; providers: what computes, for people; precision: of the products;
    chunk_rows: rows that are read at once, at most; rule: how they are cut; multiple: of tokens, of the length they are
    padded to; pool: the threads that ask; device, stream: where arrays would have to lie that are read in place;
    can_thin: whether `thinned` works.
    """

    scores: Scores = Scores.ANY
    providers: tuple[str, ...] = ()
    precision: str = "fp32"
    chunk_rows: int = 8
    multiple: int = 1
    pool: Threads = Threads(1)
    device: str = "cpu"
    stream: int | None = None
    can_thin: bool = False

    @property
    def rule(self) -> Cut:
        """How rows are cut into chunks."""
        return Cut(self.chunk_rows)

    @abstractmethod
    def logits(self, rows: ModelRows) -> np.ndarray:
        """Scores (R, C), float32, of the label words `rows.label_ids` at the answer of each row."""
        ...

    def embeddings(self, rows: ModelRows) -> np.ndarray:
        """Unit vectors (R, D), float32, of a sentence-embedding model. Raises ValueError where there are none."""
        raise ValueError(f"{', '.join(self.providers) or type(self).__name__} gives no sentence embeddings")

    def thinned(self, unit_mask: np.ndarray) -> "Runner":
        """The same with its hidden units multiplied by unit_mask (layers, F). Raises ValueError where it cannot."""
        raise ValueError("this model is served by somebody else and cannot be thinned")

    def reduced(self, precision: str) -> "Runner":
        """The same in another precision. Raises ValueError where it cannot."""
        raise ValueError(f"this model is served by somebody else: its precision is the server's, not {precision!r}")

    @property
    def why_not_after(self) -> str:
        """Why a prompt cannot stand after the text, or ""."""
        return "it is served as a graph, which puts the prompt in front of the text"

    @property
    def why_not_summed(self) -> str:
        """Why label words of several tokens cannot be scored by all of them, or ""."""
        return "it is computed elsewhere and gives the scores of one token"

    @property
    def why_not_bound(self) -> str:
        """Why `run_bound` does not work, or ""."""
        return "it is served elsewhere"

    def run_bound(self, inputs: Mapping[str, Tensor], logits: Tensor) -> None:
        """Read and write one chunk of rows where the arrays lie. Raises ValueError: `why_not_bound`."""
        raise ValueError(self.why_not_bound)

    def keep(self, path: Path) -> None:
        """Write every question down in this file, and answer from there what was answered before. Default: nothing."""
        return

    def report(self) -> dict[str, Any]:
        """What a result file says of the questions that were asked, such as how many requests. Default: nothing."""
        return {}

    def close(self) -> None:
        """Give threads, connections and processes back."""
        self.pool.close()
