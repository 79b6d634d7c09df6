"""The one blotter: a message or a traceback shows three stars in place of a secret, however it was written down.

A server may repeat a key as it is, as JSON (`\\/`, `\\u002f`), in a URL (`%2F`), in HTML (`&#47;`, `&amp;`), or as
Python shows it (`\\x2f`), and a message that quotes it may have been cut, at either end. So a secret is found by its
beginning, or by twelve characters anywhere in it, each in any of these forms, and is blotted as far as it goes. A text
is blotted before it is cut.
"""

import html
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

__all__ = ["Secrets"]

_LEAST = 6  # characters of a secret's beginning that are enough to know it by
_LEAST_WITHIN = 12  # that are enough anywhere else in it: a server may show the end alone
_STARS = "***"
_PARTS = re.compile(
    r"\\+|.", re.DOTALL
)  # characters; several backslashes are one part, for escaping makes more of them


class Secrets:
    """Texts that nobody may see. Empty ones are none."""

    def __init__(self, *secrets: str) -> None:
        known = [_PARTS.findall(secret) for secret in secrets if secret]
        self._known = [([re.compile(_forms(part)) for part in parts], _starts(parts)) for parts in known]

    def hide(self, text: str) -> str:
        """The text with *** for every secret, every beginning of one of six characters or more, and any twelve."""
        parts, copied = [], 0
        for start, end in _joined(
            span
            for characters, starts in self._known
            for first in starts
            for span in _spans(text, characters[first:], _LEAST_WITHIN if first else _LEAST)
        ):
            parts += [text[copied:start], _STARS]
            copied = end
        return "".join([*parts, text[copied:]])

    def brief(self, text: str, most: int) -> str:
        """The text without the secrets, and only then cut to `most` characters."""
        return self.hide(text)[:most]


def _starts(parts: list[str]) -> list[int]:
    """Where enough of a secret begins: not at the space of `Bearer KEY`, which is none of it."""
    return [0, *(i for i in range(1, len(parts) - _LEAST_WITHIN + 1) if parts[i] != " ")]


def _forms(character: str) -> str:
    """A pattern of all the ways in which one character, or so many backslashes, is written down."""
    if character.startswith("\\"):
        one = r"\\+u005[cC]|\\+x5[cC]|\\+|%5[cC]|&#0*92;|&#[xX]0*5[cC];"
        return f"(?:{one}){{1,{len(character)}}}"
    code = ord(character)
    written = {
        re.escape(character),
        re.escape(html.escape(character)),
        rf"\\+{re.escape(character)}",  # escaped, and escaped again
        f"(?i:{re.escape(quote(character, safe=''))})",
        f"(?i:%{code:02x})",
        rf"(?i:\\+u{code:04x})",
        rf"(?i:\\+x{code:02x})",
        f"&#0*{code};",
        f"(?i:&#x0*{code:x};)",
    }
    return "|".join(sorted(written, key=len, reverse=True))


def _spans(text: str, characters: list[re.Pattern[str]], least: int) -> Iterator[tuple[int, int]]:
    """From where to where the secret stands, or a beginning of it that is long enough."""
    start = 0
    while found := characters[0].search(text, start):
        end, matched = found.end(), 1
        while matched < len(characters) and (further := characters[matched].match(text, end)):
            end, matched = further.end(), matched + 1
        if matched >= min(least, len(characters)):
            yield found.start(), end
        start = found.start() + 1


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, those that overlap as one: two keys of one maker begin alike, and one may not cut the other."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
