"""Maps that people and programs write: a key that is there twice is an error that names it, never a silent choice."""

import json
from collections.abc import Iterable
from typing import Any

from zopog_models.files.quoting import quoted

__all__ = ["RepeatedKey", "once", "parse_json"]


class RepeatedKey(ValueError):
    """A key that a map has twice."""

    def __init__(self, key: Any) -> None:
        super().__init__(f"the key {quoted(key)} is there twice; leave one of the two out")
        self.key = key


def once(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """The pairs as a dict. Raises RepeatedKey."""
    pairs = list(pairs)
    found = dict(pairs)
    if len(found) != len(pairs):
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise RepeatedKey(key)
            seen.add(key)
    return found


def parse_json(text: str | bytes) -> Any:
    """As json.loads. Raises ValueError (not JSON), RepeatedKey (an object with a key twice), RecursionError."""
    return json.loads(text, object_pairs_hook=once)
