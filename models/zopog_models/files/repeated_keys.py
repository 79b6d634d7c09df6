"""Maps that people and programs write: a key that is there twice is an error that names it, never a silent choice."""

import json
from collections.abc import Iterable
from typing import Any

from zopog_models.errors import RepeatedKey
from zopog_models.files.quoting import quoted

__all__ = ["once", "parse_json"]


def once(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """The pairs as a dict. Raises RepeatedKey."""
    pairs = list(pairs)
    found = dict(pairs)
    if len(found) != len(pairs):
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise RepeatedKey(f"the key {quoted(key)} is there twice; leave one of the two out")
            seen.add(key)
    return found


def parse_json(text: str | bytes) -> Any:
    """As json.loads. Raises ValueError (not JSON), RepeatedKey (an object with a key twice), RecursionError."""
    return json.loads(text, object_pairs_hook=once)
