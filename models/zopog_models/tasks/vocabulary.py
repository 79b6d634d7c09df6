"""Candidate tokens for the discrete prompt, from the training texts: n-grams kept together by their PMI.

PMI(a, b) = log( pairs · count(a b) / (count(a) · count(b)) ) for neighbouring words a b: how much more often they meet
than chance would have them.
"""

from __future__ import annotations  # signatures show names, not what these stand for

import math
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from zopog_models.checkpoints.description import Described
from zopog_models.errors import VocabularyError

__all__ = ["VocabularyError", "pmi_candidates", "pmi_ngrams"]


def pmi_candidates(
    texts: Iterable[str],
    model: Described,
    size: int,
    *,
    min_count: int = 5,
    threshold: float = 1.0,
    max_words: int = 5,
    fewer: bool = False,
) -> np.ndarray:
    """The first `size` token ids (N,) of the PMI-ranked n-grams, each once, most frequent n-gram first.

    As the official code reads its lists: every n-gram is tokenised (as it stands after a space) and the ids are joined
    into one list of single tokens. Few texts give few n-grams; then the texts' other tokens follow, most frequent
    first. Special tokens are never candidates. fewer: where the texts hold less than `size`, take what there is, two at
    least. Raises VocabularyError when the texts hold fewer tokens.
    """
    texts = list(texts)
    phrases = pmi_ngrams(texts, min_count=min_count, threshold=threshold, max_words=max_words)
    encode = model.tokenizer.encode_batch
    found: dict[int, None] = {}  # a set that keeps its order
    for encoding in encode([model.space + phrase for phrase in phrases], add_special_tokens=False):
        found.update(dict.fromkeys(encoding.ids))
    if len(found.keys() - model.special_ids) < size:
        counts: Counter[int] = Counter()
        for encoding in encode([model.space + text for text in texts], add_special_tokens=False):
            counts.update(encoding.ids)
        found.update(dict.fromkeys(sorted(counts, key=lambda token: (-counts[token], token))))
    tokens = [token for token in found if token not in model.special_ids]
    if size < 1 or len(tokens) < (min(size, 2) if fewer else size):
        raise VocabularyError(
            f"{size} candidate tokens were asked for, the {len(texts)} texts hold {len(tokens)} different tokens; "
            "give more texts or ask for fewer candidates"
        )
    return np.array(tokens[:size], np.int64)


def pmi_ngrams(texts: Iterable[str], *, min_count: int = 5, threshold: float = 1.0, max_words: int = 5) -> list[str]:
    """Phrases of 1 to max_words words, most frequent first (equal counts: last in the alphabet first).

    A text is cut between two neighbouring words unless both words and the pair occur more than min_count times and
    PMI ≥ threshold. Pieces that occur more than min_count times are recounted wherever they stand in the texts; those
    seen more than min_count times stay. From the right end, what is no letter or digit is stripped.
    """
    sentences = [text.split() for text in texts]
    words = Counter(word for sentence in sentences for word in sentence)
    pairs = Counter(pair for sentence in sentences for pair in pairwise(sentence))
    total = pairs.total()
    together = {
        (a, b)
        for (a, b), count in pairs.items()
        if min(count, words[a], words[b]) > min_count and math.log(total * count / (words[a] * words[b])) >= threshold
    }
    pieces: Counter[tuple[str, ...]] = Counter()
    for sentence in sentences:
        start = 0
        for end in range(1, len(sentence) + 1):
            if end == len(sentence) or (sentence[end - 1], sentence[end]) not in together:
                pieces[tuple(sentence[start:end])] += 1
                start = end
    kept = {piece for piece, count in pieces.items() if count > min_count and len(piece) <= max_words}
    recounted: Counter[tuple[str, ...]] = Counter()
    for sentence in sentences:
        for length in range(1, max_words + 1):
            spans = zip(*(sentence[i:] for i in range(length)), strict=False)
            recounted.update(span for span in spans if span in kept)
    ranked = sorted(((count, span) for span, count in recounted.items() if count > min_count), reverse=True)
    phrases = dict.fromkeys(_without_tail(" ".join(span)) for _, span in ranked)
    return [phrase for phrase in phrases if phrase]


def _without_tail(phrase: str) -> str:
    end = len(phrase)
    while end and not phrase[end - 1].isalnum():
        end -= 1
    return phrase[:end]
