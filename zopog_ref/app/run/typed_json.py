"""JSON that a stranger may have written, as dataclasses: names, types and ranges checked from the fields, and back."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Self,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from zopog_models.files.quoting import quoted
from zopog_ref.app.errors import InputError

T = TypeVar("T")
_LARGEST = 2**53  # whole numbers that a float holds too


def number(value: Any) -> bool:
    """A finite number."""
    return type(value) in (int, float) and abs(value) < _LARGEST and math.isfinite(value)


def whole(value: Any) -> bool:
    """A count."""
    return type(value) is int and 0 <= value < _LARGEST


def text(value: Any) -> bool:
    """A string that UTF-8 can write."""
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


Whole = Annotated[int, whole]
TokenId = Annotated[int, lambda value: whole(value) and value < 2**31]  # the bits that the tokenizers library counts in
Seed = Annotated[int, lambda value: type(value) is int and 0 <= value < 2**64]
Share = Annotated[float, lambda value: number(value) and 0 <= value <= 1]
Seconds = Annotated[float, lambda value: number(value) and value >= 0]
_KINDS: dict[Any, Callable[[Any], bool]] = {
    int: lambda value: type(value) is int and number(value),
    float: number,
    bool: lambda value: type(value) is bool,
    str: text,
    Path: text,
}


class _Absent:
    """Nothing, and no entry in the file; None is an entry, null."""

    def __bool__(self) -> bool:
        return False


ABSENT: Any = _Absent()


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Json:
    """Its subclasses are frozen dataclasses that are read from JSON and written as it."""

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, kw_only=True)(cls)

    @classmethod
    def from_json(cls, saved: Any, where: Path | str) -> Self:
        """What to_json gave. Errors: InputError, which names the first entry that is not one of `where`."""
        with damage_named(where):
            found: Self = _read(cls, saved, "")
            return found

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the order of the fields; those that are ABSENT are left out."""
        found: dict[str, Any] = plain(self)
        return found


class Part(Json):
    """What is read of an object that holds more."""


@contextmanager
def damage_named(where: Path | str) -> Iterator[None]:
    """Errors: InputError, for a file that does not hold what is written there."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise InputError(f"{where}: {error!s:.800}: it was edited or damaged") from None


def from_fields(kind: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """The dataclass with these values, each of its field's type; a field with a default may be missing.

    Errors: ValueError, which names the first entry that is missing, unknown, or of another type.
    """
    known, inside = _fields(kind), f"{where}: " if where else ""  # type: ignore[arg-type]
    given = {name: _read(hint, values[name], inside + name) for name, (hint, _) in known.items() if name in values}
    for name, (_, needed) in known.items():
        if needed and name not in given:
            raise ValueError(f"{inside}{name} is missing")
    if (unknown := sorted(values.keys() - known.keys())) and not issubclass(kind, Part):
        raise ValueError(f"{inside}{quoted(unknown[0])} is not what is written there")
    return kind(**given)


@cache
def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Of each field its type, and whether it has to be there."""
    hints = get_type_hints(kind, include_extras=True)
    return {f.name: (hints[f.name], f.default is f.default_factory is MISSING) for f in fields(kind)}


def _read(hint: Any, value: Any, where: str) -> Any:
    """The value as a field of this type holds it. Errors: ValueError."""
    outer, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if outer in (Union, UnionType):  # X | None
        return None if value is None else _read(inner[0], value, where)
    if isinstance(value, dict) and outer in (dict, Mapping):
        return {name: _read(inner[1], entry, f"{where}: {name}") for name, entry in value.items()}
    if isinstance(value, dict) and is_dataclass(hint):
        return from_fields(hint, value, where)  # type: ignore[arg-type]
    if isinstance(value, list) and outer is list:
        return [_read(inner[0], entry, where) for entry in value]
    if isinstance(value, list) and outer is tuple:
        kinds = inner[:1] * len(value) if inner[-1] is ... else inner
        if len(kinds) == len(value):
            return tuple(_read(kind, entry, where) for kind, entry in zip(kinds, value))
    if outer is Literal and value in inner:
        return value
    right = hint.__metadata__[0] if outer is Annotated else _KINDS.get(hint)
    if right is None or not right(value):
        raise ValueError(f"{where or 'it'} is {quoted(value)}, not what is written there")
    return Path(value) if hint is Path else value


def plain(value: Any) -> Any:
    """As JSON has it: lists, objects."""
    if is_dataclass(value):
        found = ((f.name, getattr(value, f.name)) for f in fields(value))
        return {name: plain(entry) for name, entry in found if entry is not ABSENT}
    if isinstance(value, Mapping):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
