"""Values from other people's files inside error messages: short, however long or deep they are."""

import reprlib
from typing import Any

__all__ = ["quoted", "quoted_names"]

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 100
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = _REPR.maxset = 10
_REPR.maxlevel = 3


def quoted(value: Any) -> str:
    """Like repr, at most a few hundred characters; of a value nested without end, its outside."""
    try:
        return _REPR.repr(value)[:500]
    except ValueError:  # a whole number of thousands of digits
        return f"a {type(value).__name__}"


def quoted_names(names: Any) -> str:
    """a, b, c: at most ten of them, each cut; between quote marks where spaces at its ends could not be seen."""
    names = [name if name and name == name.strip() else repr(name) for name in map(str, names)]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(name if len(name) <= 100 else f"{name[:100]}..." for name in names[:10]) + more
