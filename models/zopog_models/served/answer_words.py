"""Which label word the first token of a chat model's answer begins, and the scores that follow from it.

A chat model answers in its own way: "Great", "great.", "**great", or with the first piece of a word that it writes in
several. A token counts for a label word

  1. where it is that word, but for the space, the quotes and the markup around it, and but for its case;
  2. else where that word begins with it, and no other label word does.

All tokens of one word add up. A token that two label words begin with tells nothing and counts for neither.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from zopog_models.served.log_probabilities import floored

__all__ = ["score_answers", "word_of"]

_AROUND = " \t\r\n\"'`*_#-.,:;!()[]{}<>“”‘’«»"


def word_of(token: str, words: Sequence[str]) -> int | None:
    """Which of the label words an answer that begins with this token begins, or None."""
    if token.strip() in words:  # a label word may hold such signs: "C#", ":)"
        return words.index(token.strip())
    bare = token.strip(_AROUND)
    if not bare:
        return None
    plain = [word.strip(_AROUND) for word in words]
    words = plain if len(set(plain)) == len(words) else words
    exact = [c for c, word in enumerate(words) if word == bare]
    if exact:
        return exact[0]
    folded = [word.casefold() for word in words]
    for same in (
        [c for c, word in enumerate(folded) if word == bare.casefold()],
        [c for c, word in enumerate(folded) if word.startswith(bare.casefold())],
    ):
        if same:
            return same[0] if len(same) == 1 else None
    return None


def score_answers(top: Mapping[str, float], words: Sequence[str]) -> np.ndarray:
    """(2, C), as `score_words`: log p of the tokens that begin each label word's answer, and 1 for a floor."""
    found: list[list[float]] = [[] for _ in words]
    for token, value in top.items():
        c = word_of(token, words)
        if c is not None:
            found[c].append(value)
    return floored(top, [math.nan if not values else float(np.logaddexp.reduce(values)) for values in found])
