"""Kinds of values in JSON that a stranger may have written, and reading a file as the dataclass that it should hold."""

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from zopog_models.files.quoting import quoted
from zopog_ref.app.errors import InputError

Kind = Callable[[Any], bool]
T = TypeVar("T")
_ABSENT = object()
_LARGEST = 2**53  # whole numbers that a float holds too


def whole(value: Any) -> bool:
    """A count."""
    return type(value) is int and 0 <= value < _LARGEST


def token_id(value: Any) -> bool:
    """A token's number, in the 32 bits that the tokenizers library counts in."""
    return whole(value) and value < 2**31


def seed(value: Any) -> bool:
    """A seed of 64 bits."""
    return type(value) is int and 0 <= value < 2**64


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
            raise damaged(path, f"{name} is {quoted(values[name]) if name in values else 'missing'}")


def damaged(path: Path, what: str) -> InputError:
    """The error of a file that does not hold what a run writes."""
    return InputError(f"{path}: {what:.800}, not what a run writes there: it was edited or damaged")


# -- a dataclass says what an object holds -------------------------------------------------------------------------

Whole = Annotated[int, whole]
TokenId = Annotated[int, token_id]
Seed = Annotated[int, seed]
_KINDS: dict[Any, Kind] = {
    int: lambda value: type(value) is int and number(value),
    float: number,
    bool: lambda value: type(value) is bool,
    str: text,
    Path: text,
}


def from_fields(kind: type[T], values: Mapping[str, Any]) -> T:
    """The dataclass with these values, each of its field's type; a field with a default may be missing.

    Errors: ValueError, which names the value; TypeError, which names an entry that is no field.
    """
    hints, found = get_type_hints(kind, include_extras=True), dict(values)
    for name in [name for name in hints if name in values]:
        try:
            found[name] = _typed(hints[name], values[name])
        except (ValueError, TypeError) as error:
            raise ValueError(f"{name} is {quoted(values[name])}" + f" ({error})" * bool(str(error))) from None
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{field.name} is missing")
    return kind(**found)


def _typed(hint: Any, value: Any) -> Any:
    """The value as a field of this type holds it. Errors: ValueError, TypeError."""
    outer, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if outer in (Union, UnionType):  # X | None
        return None if value is None else _typed(inner[0], value)
    if is_dataclass(hint) or outer is Mapping:
        if not isinstance(value, dict):
            raise ValueError
        if outer is Mapping:
            return {key: _typed(inner[1], entry) for key, entry in value.items()}
        return from_fields(hint, value)  # a class
    if outer in (list, tuple):
        if not isinstance(value, list):
            raise ValueError
        return outer(_typed(inner[0], entry) for entry in value)
    if outer is Literal:
        right = value in inner
    else:
        right = (hint.__metadata__[0] if outer is Annotated else _KINDS[hint])(value)
    if not right:
        raise ValueError
    return Path(value) if hint is Path else value
