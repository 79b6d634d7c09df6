"""JSON that a stranger may have written, as dataclasses: names and types checked from the fields, and back again."""

from dataclasses import MISSING, dataclass, fields
from functools import cache
from types import UnionType
from typing import Any, Self, dataclass_transform, get_args, get_origin, get_type_hints

from zopog_models.files.quoting import quoted
from zopog_ref.app.errors import InputError


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
    def from_json(cls, saved: Any, where: str) -> Self:
        """What to_json gave. Errors: InputError, which names the first entry that is not one of `where`."""
        found: Self = _read(cls, saved, where)
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the order of the fields; those that are ABSENT are left out."""
        found = ((f.name, getattr(self, f.name)) for f in fields(self))  # type: ignore[arg-type]
        return {name: _plain(value) for name, value in found if value is not ABSENT}


@cache
def _fields(kind: type[Json]) -> dict[str, tuple[Any, bool]]:
    """Of each field its type, and whether it has to be there."""
    hints = get_type_hints(kind)
    return {f.name: (hints[f.name], f.default is MISSING) for f in fields(kind)}  # type: ignore[arg-type]


def _read(kind: Any, value: Any, where: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else _read(inner[0], value, where)
    if origin is list and isinstance(value, list):
        return [_read(inner[0], each, where) for each in value]
    if origin is tuple and isinstance(value, list) and len(value) == len(inner):
        return tuple(_read(part, each, where) for part, each in zip(inner, value))
    if origin is dict and isinstance(value, dict):
        return {name: _read(inner[1], each, f"{where}: {name}") for name, each in value.items()}
    if isinstance(kind, type) and issubclass(kind, Json) and isinstance(value, dict):
        known = _fields(kind)  # type: ignore[arg-type]
        missing = [name for name, (_, needed) in known.items() if needed and name not in value]
        if wrong := [*missing, *sorted(value.keys() - known.keys())]:
            what = "missing" if missing else "not what is written there"
            raise InputError(f"{where}: {quoted(wrong[0])} is {what}: it was edited or damaged")
        return kind(**{name: _read(known[name][0], each, f"{where}: {name}") for name, each in value.items()})
    if kind is Any or type(value) is kind or (kind is float and type(value) is int):
        return value
    raise InputError(f"{where} is {quoted(value)}, not what is written there: it was edited or damaged")


def _plain(value: Any) -> Any:
    if isinstance(value, Json):
        return value.to_json()
    if isinstance(value, dict):
        return {name: _plain(inside) for name, inside in value.items()}
    return [_plain(inside) for inside in value] if isinstance(value, list | tuple) else value
