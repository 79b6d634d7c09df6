"""Label words of several tokens: log p(w_1 | row) + log p(w_2 | row, w_1) + ..., with the row read once.

What follows a row is read with the row's keys and values: of every beginning of a word its own tokens go through the
model, and the row's do not again.
"""

from collections.abc import Mapping

import numpy as np

from zopog_models.runners.session import Session
from zopog_models.tasks.label_words import NOTHING, beginnings

__all__ = ["word_scores"]


def word_scores(engine: Session, feeds: Mapping[str, np.ndarray], vocab_size: int) -> np.ndarray:
    """Log-probabilities (R, C) of words at the rows' answers. feeds: with the words (C, T) as label_ids."""
    words, every = feeds["label_ids"], np.arange(vocab_size)
    own = feeds["answer_position"] + feeds["prompt_ids"].shape[1] + 1  # (R,), positions up to the answer
    after = list(beginnings(words))
    keep = np.array([int(own.max()) if after else 0])
    logits, kept = engine.run_both({**feeds, "label_ids": every, "keep": keep})
    at: dict[tuple[int, ...], np.ndarray] = {(): _log_softmax(logits)}  # after which tokens -> (R, V)
    if after:
        found = _log_softmax(engine.run("logits", _continued(feeds, kept, own, after) | {"label_ids": every}))
        at |= dict(zip(after, found.reshape(len(after), len(own), vocab_size), strict=True))
    scores = at[()][:, words[:, 0]]  # (R, C), of the first tokens
    for c in np.flatnonzero((words[:, 1:] != NOTHING).any(axis=1)) if after else ():
        word = [int(token) for token in words[c] if token != NOTHING]
        for t in range(1, len(word)):
            scores[:, c] += at[tuple(word[:t])][:, word[t]]
    return scores.astype(np.float32)


def _continued(
    feeds: Mapping[str, np.ndarray], kept: np.ndarray, own: np.ndarray, after: list[tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """The rows once for each beginning of a word, which is all that is left of them to read."""
    rows, times = len(own), len(after)
    before = feeds["prefix_length"][feeds["prefix_index"]]  # (R,)
    total = before + own
    layers, two, _, _, width = kept.shape
    prefix = np.zeros((layers, two, rows, int(total.max()), width), np.float32)
    for r, index in enumerate(feeds["prefix_index"]):
        prefix[:, :, r, : before[r]] = feeds["prefix"][:, :, index, : before[r]]
        prefix[:, :, r, before[r] : total[r]] = kept[:, :, r, : own[r]]
    lengths = np.repeat([len(tokens) for tokens in after], rows)
    text = np.zeros((times, max(map(len, after))), np.int64)
    for i, tokens in enumerate(after):
        text[i, : len(tokens)] = tokens
    return {
        "text_ids": np.repeat(text, rows, axis=0),
        "attention_mask": (np.arange(text.shape[1]) < lengths[:, None]).astype(np.int64),
        "answer_position": lengths - 1,
        "prompt_ids": feeds["prompt_ids"][:1, :0],
        "prompt_offset": feeds["prompt_offset"][:1, :0],
        "prompt_index": np.zeros(times * rows, np.int64),
        "prefix": prefix,
        "prefix_length": total,
        "prefix_index": np.tile(np.arange(rows), times),
        "keep": np.zeros(1, np.int64),
    }


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """In float64, over all tokens."""
    x = logits.astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=-1, keepdims=True)))
