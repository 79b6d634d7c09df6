"""Decoders: what stands before what changes is computed once, and only the rest again.

A position of a decoder sees what stands before it, so the keys and values of a row's beginning depend on it alone:

- With a prompt before the text, rows begin with [first token] [prompt]. That is kept for one call. K prompts of n on B
  rows of L tokens are K · (n + 1) + K · B · L positions instead of K · B · (n + 1 + L).
- With a prompt after the text, rows begin with [first token] [template and text]. That is kept from one call to the
  next (`KeptRows`). With a tail of t tokens K · B · (n + t) positions are left of a call.

What comes out is what the plain graph gives, but for rounding. The beginning of a row of text is computed by itself, so
what happens to be kept cannot change a bit.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from zopog_models.families.decoder import DecoderArchitecture
from zopog_models.runners.cutting import Cut
from zopog_models.runners.engine import Engine
from zopog_models.runners.kept import KeptRows
from zopog_models.runners.rows import ModelRows
from zopog_models.runners.session import Session
from zopog_models.runners.threads import Threads
from zopog_models.runners.words import word_scores

__all__ = ["PrefixReuse"]

# Rows of a prompt from which on its keys and values are computed apart.
ROWS_PER_PROMPT = 2
# Where the rows' engine reads an equal beginning once a chunk itself: how many tokens have to be saved for each pass
# that computes beginnings apart. Such a pass has few tokens and reads all weights for them (SmolLM2: 10 tokens cost
# what 56 do in a chunk), and one pass has one thread.
TOKENS_PER_PASS = 64
# Keys and values that a call holds at once: beginnings are taken in groups that need no more, or one by one.
_PREFIX_BYTES = 128 * 2**20


class PrefixReuse:
    """Reads rows by their beginnings and what follows.

    Parameters
        first: tokens of a row that stand before its prompt
        rows_engine: the model's graph, built with reuse=True and keeps=True
        prefix_engine: the same in float32
        each_once: whether the rows' engine reads what rows of a chunk begin with once (`each_once`)
        multiple: of tokens, of the length of a padded row with its beginning
    """

    def __init__(
        self,
        architecture: DecoderArchitecture,
        first: int,
        *,
        rows_engine: Engine,
        prefix_engine: Engine,
        each_once: bool = False,
        multiple: int = 1,
    ) -> None:
        self.first, self.each_once, self.multiple = first, each_once, multiple
        self._vocab_size = architecture.vocab_size
        self._shape = (architecture.layers, 2, architecture.key_heads * architecture.head_width)
        self.rows_engine = rows_engine
        self.prefix_engine = prefix_engine
        self.kept = KeptRows()

    def with_rows_read_by(self, engine: Engine) -> "PrefixReuse":
        """The same beginnings, with rows read by an engine of the same model in fewer bits: prompts stay apart."""
        reuse = copy.copy(self)
        reuse.rows_engine, reuse.each_once = engine, False
        return reuse

    @property
    def token_bytes(self) -> int:
        """Of a token's keys and values."""
        return int(4 * np.prod(self._shape))

    def empty(self, beginnings: int, positions: int) -> np.ndarray:
        """Room for the keys and values of some beginnings, padded to as many positions."""
        layers, two, width = self._shape
        return np.zeros((layers, two, beginnings, positions, width), np.float32)

    def nothing(self, rows: int) -> dict[str, np.ndarray]:
        """The prefix of rows that are read from their beginning: no positions."""
        return _prefix(self.empty(1, 0), [0], [0] * rows)

    def pays(self, rows: ModelRows, cut: Cut) -> bool:
        """Whether there is a prompt, whether its rows are several, and whether each has something of its own.

        With a prompt after the text the rows are what is kept, and it pays always.
        """
        count = len(rows.texts)
        if not count or not rows.prompt_ids.shape[1]:
            return False
        if rows.after:
            return True
        if (rows.answer_position < self.first).any():
            return False
        begin = _PromptFirst(rows, self)
        if not self.each_once:
            return count >= ROWS_PER_PROMPT * len(begin.lengths)
        saved = sum(int(begin.lengths[i]) * (len(begin.cut(np.array([i]), cut)) - 1) for i in range(len(begin.lengths)))
        return saved > TOKENS_PER_PASS * -(-len(begin.lengths) // begin.at_once(cut))

    def logits(self, rows: ModelRows, pool: Threads, cut: Cut) -> np.ndarray:
        """Scores (R, C), as the plain graph gives them but for rounding."""
        begin: _Beginnings = _TextFirst(rows, self) if rows.after else _PromptFirst(rows, self)
        result = np.empty((len(begin.owner), len(rows.label_ids)), np.float32)
        for part in _groups(begin.lengths * self.token_bytes):
            found: dict[int, np.ndarray] = {}  # (layers, 2, 1, m, W) each

            def compute(chunk: np.ndarray, found: dict[int, np.ndarray] = found) -> None:
                found.update(zip(chunk.tolist(), begin.computed(chunk), strict=True))

            def read(chunk: np.ndarray, found: dict[int, np.ndarray] = found) -> None:
                used, index = np.unique(begin.owner[chunk], return_inverse=True)
                lengths = begin.lengths[used]
                prefix = found[int(used[0])]
                if len(used) > 1:
                    prefix = self.empty(len(used), int(lengths.max()))
                    for i, one in enumerate(used):
                        prefix[:, :, i, : lengths[i]] = found[int(one)][:, :, 0]
                feeds = begin.rest(chunk) | _prefix(prefix, lengths, index)
                result[chunk] = self.scores(feeds)

            pool.run_all(compute, _chunks(part, begin.at_once(cut)))
            pool.run_all(read, begin.cut(part, cut))
        return result

    def scores(self, feeds: dict[str, np.ndarray]) -> np.ndarray:
        """Scores (R, C) of a chunk with its prefix: of tokens, or of words (C, T), which need a session here."""
        if feeds["label_ids"].ndim == 2:
            assert isinstance(self.rows_engine, Session)
            return word_scores(self.rows_engine, feeds, self._vocab_size)
        return self.rows_engine.run("logits", feeds)

    def computed(self, texts: np.ndarray, prompt_ids: np.ndarray, prompt_offset: np.ndarray) -> np.ndarray:
        """Keys and values (layers, 2, R, L + n, W) of rows (R, L) with prompts (R, n) and offsets (R, n, E)."""
        rows, length = texts.shape
        feeds = {
            "text_ids": texts,
            "attention_mask": np.ones(texts.shape, np.int64),
            "answer_position": np.full(rows, length - 1),
            "prompt_ids": prompt_ids,
            "prompt_offset": prompt_offset,
            "prompt_index": np.arange(rows),
            "label_ids": np.zeros(0, np.int64),
        }
        keep = np.array([length + prompt_ids.shape[1]])
        return self.prefix_engine.run("keys_values", feeds | self.nothing(rows) | {"keep": keep})


class _Beginnings(ABC):
    """What rows begin with. owner (R,): which beginning each row has; lengths (P,): of each, in tokens."""

    owner: np.ndarray
    lengths: np.ndarray

    @abstractmethod
    def at_once(self, cut: Cut) -> int:
        """How many are computed together."""

    @abstractmethod
    def computed(self, chunk: np.ndarray) -> Sequence[np.ndarray]:
        """Keys and values (layers, 2, 1, m, W) of these beginnings."""

    @abstractmethod
    def cut(self, part: np.ndarray, cut: Cut) -> list[np.ndarray]:
        """The rows with these beginnings, in the chunks in which they are read."""

    @abstractmethod
    def rest(self, chunk: np.ndarray) -> dict[str, np.ndarray]:
        """What is left of these rows behind their beginnings, as the graph reads it."""


class _PromptFirst(_Beginnings):
    """[first tokens] [prompt]."""

    def __init__(self, rows: ModelRows, reuse: PrefixReuse) -> None:
        self._rows, self._reuse, first = rows, reuse, reuse.first
        heads = np.array([text[:first] for text in rows.texts], np.int64).reshape(len(rows.texts), first)
        marks = np.concatenate([rows.prompt_index[:, None], heads], axis=1)
        self._marks, owner = np.unique(marks, axis=0, return_inverse=True)  # (P, 1 + first), (R,)
        self.owner = owner.reshape(-1)
        self.lengths = np.full(len(self._marks), first + rows.prompt_ids.shape[1])

    def at_once(self, cut: Cut) -> int:
        return cut.rows

    def computed(self, chunk: np.ndarray) -> Sequence[np.ndarray]:
        rows, prompts = self._rows, self._marks[chunk, 0]
        found = self._reuse.computed(self._marks[chunk, 1:], rows.prompt_ids[prompts], rows.prompt_offset[prompts])
        return [np.ascontiguousarray(found[:, :, i : i + 1]) for i in range(len(chunk))]

    def cut(self, part: np.ndarray, cut: Cut) -> list[np.ndarray]:
        chunks = []
        for one in part:  # a chunk has one beginning; rows of like length share one
            chunks += self._rows.alike(np.flatnonzero(self.owner == one), cut, self._reuse.first)
        return chunks

    def rest(self, chunk: np.ndarray) -> dict[str, np.ndarray]:
        feeds = self._rows.feeds(chunk, np.full(len(chunk), self._reuse.first), self._reuse.multiple)
        return feeds | {"prompt_ids": feeds["prompt_ids"][:, :0], "prompt_offset": feeds["prompt_offset"][:, :0]}


class _TextFirst(_Beginnings):
    """[first tokens] [template and text], but for the last tokens: the graph puts the prompt behind `first` of them."""

    def __init__(self, rows: ModelRows, reuse: PrefixReuse) -> None:
        assert rows.prompt_place is not None
        self._rows, self._reuse = rows, reuse
        self._starts = rows.prompt_place - reuse.first  # (R,)
        heads = [text[:start].astype("<i8").tobytes() for text, start in zip(rows.texts, self._starts)]
        self._heads = sorted(set(heads), key=lambda head: (len(head), head))
        places = {head: i for i, head in enumerate(self._heads)}
        self.owner = np.array([places[head] for head in heads], np.int64)
        self.lengths = np.array([len(head) // 8 for head in self._heads], np.int64)

    def at_once(self, cut: Cut) -> int:
        return 1  # its bits must not depend on what else is computed

    def computed(self, chunk: np.ndarray) -> Sequence[np.ndarray]:
        return [self._one(self._heads[int(chunk[0])])]

    def _one(self, head: bytes) -> np.ndarray:
        if not head:
            return self._reuse.empty(1, 0)
        if (known := self._reuse.kept.get(head)) is not None:
            return known
        no_prompt, width = np.zeros((1, 0), np.int64), self._rows.prompt_offset.shape[2]
        ids = np.frombuffer(head, "<i8").astype(np.int64)[None]
        found = self._reuse.computed(ids, no_prompt, np.zeros((1, 0, width), np.float32))
        self._reuse.kept.put(head, found)
        return found

    def cut(self, part: np.ndarray, cut: Cut) -> list[np.ndarray]:
        own = np.flatnonzero((part[0] <= self.owner) & (self.owner <= part[-1]))
        # Equal and like beginnings share a chunk, so little is copied and padded.
        order = own[np.lexsort((self._rows.lengths[own], self.owner[own]))]
        own = self._rows.lengths[order] - self._starts[order] + self._rows.prompt_ids.shape[1]
        return cut(order, own, self._rows.cells(order))

    def rest(self, chunk: np.ndarray) -> dict[str, np.ndarray]:
        return self._rows.feeds(chunk, self._starts[chunk], self._reuse.multiple)


def _prefix(
    keys_values: np.ndarray, lengths: Sequence[int] | np.ndarray, index: Sequence[int] | np.ndarray
) -> dict[str, np.ndarray]:
    """What the graph is told of what stands before rows; and that their own keys and values are not wanted."""
    return {
        "keep": np.zeros(1, np.int64),
        "prefix": keys_values,
        "prefix_length": np.asarray(lengths, np.int64),
        "prefix_index": np.asarray(index, np.int64),
    }


def _groups(sizes: np.ndarray) -> list[np.ndarray]:
    """Indices of beginnings, in their order, in groups of at most _PREFIX_BYTES, or of one."""
    groups: list[list[int]] = []
    filled = 0
    for i, size in enumerate(sizes.tolist()):
        if not groups or filled + size > _PREFIX_BYTES:
            groups.append([])
            filled = 0
        groups[-1].append(i)
        filled += size
    return [np.array(group) for group in groups]


def _chunks(items: np.ndarray, size: int) -> list[np.ndarray]:
    return [items[i : i + size] for i in range(0, len(items), size)]
