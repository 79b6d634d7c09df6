"""What somebody may have meant who wrote a name that is not known."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean"]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'zo-pog'?`, of the known name that is nearest whatever its case; "" where none is near."""
    names = {_plain(name): name for name in known}
    near = get_close_matches(_plain(str(word)[:100]), names, n=1, cutoff=0.6)
    return f"; did you mean {names[near[0]]!r}?" if near else ""


def _plain(name: str) -> str:
    return name.casefold().replace("_", "-").strip()
