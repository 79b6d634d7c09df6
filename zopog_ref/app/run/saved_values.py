"""Kinds of values in JSON that a stranger may have written, and checking what a file holds against them."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zopog_models.files.quoting import quoted
from zopog_ref.app.errors import InputError

Kind = Callable[[Any], bool]
_ABSENT = object()
_LARGEST = 2**53  # whole numbers that a float holds too


def whole(value: Any) -> bool:
    """A count."""
    return type(value) is int and 0 <= value < _LARGEST


def token_id(value: Any) -> bool:
    """A token's number, in the 32 bits that the tokenizers library counts in."""
    return whole(value) and value < 2**31


def number(value: Any) -> bool:
    """A finite number."""
    return type(value) in (int, float) and abs(value) < _LARGEST and math.isfinite(value)


def share(value: Any) -> bool:
    """A number from 0 to 1."""
    return number(value) and 0 <= value <= 1


def text(value: Any) -> bool:
    """A string that UTF-8 can write."""
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


def maybe(kind: Kind) -> Kind:
    """The kind, or null."""
    return lambda value: value is None or kind(value)


def optional(kind: Kind) -> Kind:
    """The kind, or null, or not there at all: what older versions did not write."""
    return lambda value: value is _ABSENT or value is None or kind(value)


def each(kind: Kind) -> Kind:
    """A list of the kind."""
    return lambda value: isinstance(value, list) and all(map(kind, value))


def named(kinds: Mapping[str, Kind]) -> Kind:
    """An object with these entries at least."""
    return lambda value: isinstance(value, dict) and all(kind(value.get(name, _ABSENT)) for name, kind in kinds.items())


def check(values: Mapping[str, Any], kinds: Mapping[str, Kind], path: Path) -> None:
    """Errors: InputError, which names the first entry that is missing or of another kind."""
    for name, kind in kinds.items():
        if not kind(values.get(name, _ABSENT)):
            found = quoted(values[name]) if name in values else "missing"
            raise InputError(f"{path}: {name} is {found}, not what a run writes there: it was edited or damaged")
