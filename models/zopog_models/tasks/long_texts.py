"""Long texts, shortened before they are tokenised: rows are cut at a few hundred tokens, whatever a text's length.

A text of megabytes costs gigabytes as tokens. Of a text that is longer than any row needs, the middle is left out: the
row keeps tokens from the text's beginning, and the template's words after it are tokenised with the text's end. What is
left out begins and ends at a space between two words, or, in a text without spaces, anywhere. Tokens near that place
may change; so the tokens that a row keeps must end MARGIN characters before it. Where they do not (a megabyte of spaces
holds no token), more of the text is read, at last all of it.
"""

import re
from itertools import groupby
from typing import NamedTuple

__all__ = ["MARGIN", "PER_POSITION", "Shortened", "shortened", "without_endless_words"]

# Further than a word that WordPiece takes apart may reach (`checked_tokenizer.MAX_WORD`).
MARGIN = 12_000
PER_POSITION = 16  # characters of a text for each position of the row, to begin with


# Long runs, by the cheapest patterns: a repeated group would hold every turn in memory. Of a run of letters,
# digits and marks on them, what no step of BERT's parts: not the underscore, and none of the scripts without spaces.
_WORDS, _LETTERS = re.compile(r"[\w\u0300-\u036f]{100,}"), re.compile(r"[^_\u2e80-\U0010ffff]{100,}")
_MARKS = re.compile(r"[\u0300-\u036f]")
_PICTURES = re.compile(r"[\U0001f300-\U0001f64f]{100,}")
_UNSEEN = re.compile(
    r"[\s\x00-\x1f\x7f-\x9f\xad\u0300-\u036f\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff\ufffd]{100,}"
)


class Shortened(NamedTuple):
    """A text, and how many of its characters come before what was left out; None: nothing was."""

    text: str
    head: int | None


def shortened(text: str, characters: int, where: str) -> Shortened:
    """A text's beginning of `characters` and a margin, and its end.

    where: "anywhere", "at spaces" or "" (nowhere), see `CheckedTokenizer.can_leave_out`.
    """
    looked_at = MARGIN // 2  # for a space
    head, tail = characters + MARGIN + looked_at, len(text) - MARGIN
    if not where or head + MARGIN >= tail:
        return Shortened(text, None)
    first, last = (_space_before(text, place, place - looked_at) for place in (head, tail))
    if first is None or last is None:
        if where == "at spaces":
            return Shortened(text, None)
        first, last = head, tail
    return Shortened(text[:first] + text[last:], first)


def without_endless_words(text: str) -> str:
    """The text with its words of more than MARGIN letters cut there: either is one unknown word to WordPiece.

    So is a run of pictures, and a run of one character that nobody sees: either is one unknown word, or nothing.
    """
    if len(text) <= MARGIN:
        return text
    text = _UNSEEN.sub(_cut_repeats, text)
    text = _PICTURES.sub(lambda found: found[0][:MARGIN], text)
    return _WORDS.sub(lambda found: _LETTERS.sub(_cut_letters, found[0]), text)


def _cut_repeats(found: re.Match[str]) -> str:
    """Every one of its characters at most MARGIN times in a row."""
    return "".join(letter * min(sum(1 for _ in same), MARGIN) for letter, same in groupby(found[0]))


def _cut_letters(found: re.Match[str]) -> str:
    """Its beginning, of MARGIN letters at least: the marks on them may be left out later."""
    run, end = found[0], MARGIN
    while end < len(run) and len(_MARKS.sub("", run[:end])) < MARGIN:
        end *= 2
    return run[:end]


def _space_before(text: str, place: int, least: int) -> int | None:
    """The last place of a single space between two other characters, in text[least:place]."""
    while (found := text.rfind(" ", least, place)) > least:
        if not text[found - 1].isspace() and not text[found + 1].isspace():
            return found
        place = found
    return None
