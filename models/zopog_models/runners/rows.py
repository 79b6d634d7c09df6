"""The inputs of one call to a model: checked once, then padded chunk by chunk."""

from collections.abc import Sequence

import numpy as np

from zopog_models.checkpoints.description import Description
from zopog_models.runners.cutting import CELLS, Cut
from zopog_models.tasks.label_words import NOTHING

__all__ = ["ModelRows"]


class ModelRows:
    """The checked inputs of one call, and the padded feeds of any chunk of it."""

    def __init__(
        self,
        about: Description,
        text_ids: Sequence[np.ndarray],
        answer_position: np.ndarray,
        prompt_ids: np.ndarray,
        prompt_offset: np.ndarray | None,
        prompt_index: np.ndarray,
        label_ids: np.ndarray,
        prompt_place: np.ndarray | None = None,
    ) -> None:
        self.first = 0 if about.cls_id is None else 1
        self.pad_id, self._longest = about.pad_id, about.max_positions
        self.texts = [np.asarray(ids) for ids in text_ids]
        self.lengths = np.array([len(ids) for ids in self.texts], np.int64)  # (R,)
        self.answer_position = np.asarray(answer_position, np.int64)
        self.prompt_ids = np.asarray(prompt_ids, np.int64)
        self.prompt_index = np.asarray(prompt_index, np.int64)
        # (R,): how many of a row's tokens stand before its prompt; None: the first token, where there is one
        self.prompt_place = None if prompt_place is None else np.asarray(prompt_place, np.int64)
        self.pooling = about.pooling
        self.label_ids = np.asarray(label_ids, np.float32 if about.pooling else np.int64)
        count = len(self.texts)
        for name, array in (("answer_position", self.answer_position), ("prompt_index", self.prompt_index)):
            if array.shape != (count,):
                raise ValueError(f"{name} must have shape ({count},), one entry a row of text, got {array.shape}")
        if self.prompt_ids.ndim != 2:
            raise ValueError(f"prompt_ids must have shape (P, n), got {self.prompt_ids.shape}")
        prompts, n = self.prompt_ids.shape
        if prompt_offset is None:
            prompt_offset = np.zeros((prompts, n, about.embedding_size), np.float32)
        self.prompt_offset = np.asarray(prompt_offset, np.float32)
        if self.prompt_offset.shape != (prompts, n, about.embedding_size):
            raise ValueError(
                f"prompt_offset must have shape {(prompts, n, about.embedding_size)}, (P, n, E), "
                f"got {self.prompt_offset.shape}"
            )
        _require_range("prompt_index", self.prompt_index, prompts, "there are {} prompts")
        _require_range("prompt_ids", self.prompt_ids, about.vocab_size, "the model knows {} tokens")
        if not about.pooling:
            tokens = self.label_ids[self.label_ids != NOTHING] if self.words else self.label_ids
            _require_range("label_ids", tokens, about.vocab_size, "the model knows {} tokens")
        elif self.label_ids.ndim != 2 or self.label_ids.shape[1] != about.hidden_size:
            raise ValueError(
                f"of a sentence-embedding model, labels are embeddings (C, {about.hidden_size}), "
                f"got {self.label_ids.shape}; label_targets(task, model) makes them"
            )
        if count:
            _require_range("text_ids", np.concatenate(self.texts), about.vocab_size, "the model knows {} tokens")
            longest = int(self.lengths.max())
            if longest + n > about.max_positions:
                raise ValueError(
                    f"a row of {longest} tokens and a prompt of {n} do not fit into the model's "
                    f"{about.max_positions} positions; encode the texts with n_positions={n}"
                )
            least = 0 if about.mask_id is None else 1  # a decoder may answer right after its prompt
            wrong = (self.answer_position < least) | (self.answer_position >= self.lengths)
            if wrong.any():
                row = int(np.argmax(wrong))
                raise ValueError(
                    f"answer_position of row {row} is {self.answer_position[row]}; it must lie "
                    f"{'after the first token and ' * least}inside the row of {self.lengths[row]} tokens"
                )
        if self.prompt_place is not None:
            self._check_places(self.prompt_place)

    @property
    def after(self) -> bool:
        """Whether there are prompts, and each row says where its own stands."""
        return self.prompt_place is not None and self.prompt_ids.shape[1] > 0

    def with_prompt(self, row: int) -> np.ndarray:
        """A row's tokens with its prompt among them."""
        place = self.first if self.prompt_place is None else self.prompt_place[row]
        own = self.texts[row]
        return np.concatenate([own[:place], self.prompt_ids[self.prompt_index[row]], own[place:]])

    @property
    def words(self) -> bool:
        """Whether label words are scored by all their tokens."""
        return self.label_ids.ndim == 2 and not self.pooling

    def alike(self, rows: np.ndarray, cut: Cut, before: int | None = None) -> list[np.ndarray]:
        """Rows in chunks of like length, so that little is padding.

        before: tokens of each that are read elsewhere, and its prompt with them; None: all is read here.
        Where a graph takes each token once, those of one prompt stand together: a chunk reads it once.
        """
        lengths, prompts, n = self.lengths[rows], self.prompt_index[rows], self.prompt_ids.shape[1]
        if cut.tokens is None or not len(rows):
            order = rows[np.argsort(lengths, kind="stable")]  # `stable` makes it unique
            here = n if before is None else -before
            return cut(order, self.lengths[order] + here, self.cells(order))
        before = before or 0
        shared = n > 0 and len(set(prompts.tolist())) < len(rows)
        order = rows[np.lexsort((lengths, prompts * shared))]
        common = self._in_common(rows, before)
        tokens = self.lengths[order] - before - common
        if n:
            tokens[1:] += (n + common) * (np.diff(self.prompt_index[order]) != 0)  # behind another prompt, read anew
        return cut(order, tokens, self.cells(order), common)

    def cells(self, rows: np.ndarray) -> np.ndarray:
        """Of each row, what `Cut` counts: its tokens squared. Label words of several tokens take more than that, the
        scores of all tokens behind each beginning of a word: of these a chunk has no more rows than it is said to."""
        whole = (self.lengths[rows] + self.prompt_ids.shape[1]) ** 2
        return np.maximum(whole, CELLS) if self.words else whole

    def _in_common(self, rows: np.ndarray, before: int) -> int:
        """Tokens that all of these rows go on with: a chunk reads them once."""
        texts = [self.texts[row][before:].tolist() for row in rows]
        least, most = min(texts), max(texts)
        equal = [a == b for a, b in zip(least, most)] + [False]
        return equal.index(False) if len(texts) > 1 else 0

    def feeds(self, chunk: np.ndarray, start: np.ndarray | None = None, multiple: int = 1) -> dict[str, np.ndarray]:
        """The inputs of these rows; start (rows,): without so many tokens of each row's beginning.

        They are padded to the longest, with its beginning and its prompt to a `multiple` of tokens.
        """
        start = np.zeros(len(chunk), np.int64) if start is None else start
        lengths = self.lengths[chunk] - start
        longest, before = int(lengths.max()), int(start.max()) + self.prompt_ids.shape[1]
        longest = max(longest, min(-(-(longest + before) // multiple) * multiple, self._longest) - before)
        text_ids = np.full((len(chunk), longest), self.pad_id, np.int64)
        for i, row in enumerate(chunk):
            text_ids[i, : lengths[i]] = self.texts[row][start[i] :]
        visible = np.arange(longest) < lengths[:, None]  # (rows, L)
        used, prompt_index = np.unique(self.prompt_index[chunk], return_inverse=True)
        feeds = {
            "text_ids": text_ids,
            "attention_mask": visible.astype(np.int64),
            "prompt_ids": self.prompt_ids[used],
            "prompt_offset": self.prompt_offset[used],
            "prompt_index": prompt_index,
        }
        if self.pooling:
            return feeds | {"label_embeddings": self.label_ids}
        return feeds | {"answer_position": self.answer_position[chunk] - start, "label_ids": self.label_ids}

    def _check_places(self, places: np.ndarray) -> None:
        count = len(self.texts)
        if places.shape != (count,):
            raise ValueError(f"prompt_place must have shape ({count},), one entry a row of text, got {places.shape}")
        wrong = (places < self.first) | (places > self.answer_position + 1)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"prompt_place of row {row} is {places[row]}; it must lie between {self.first} and "
                f"{self.answer_position[row] + 1}, right after the answer's place in the row"
            )


def _require_range(name: str, values: np.ndarray, limit: int, reason: str) -> None:
    if values.size and (values.min() < 0 or values.max() >= limit):
        wrong = values[(values < 0) | (values >= limit)].flat[0]
        raise ValueError(f"{name} holds {wrong}, but {reason.format(limit)}: expected 0 to {limit - 1}")
