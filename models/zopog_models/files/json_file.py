"""JSON files of a model folder: small, and one object each."""

import json
from pathlib import Path
from typing import Any

from zopog_models.errors import CheckpointError

__all__ = ["read_object"]

_MAX_BYTES = 32_000_000  # the largest that is published, an index of shards, has 9 million


def read_object(path: Path, most: int = _MAX_BYTES) -> dict[str, Any]:
    """The JSON object in a file. Raises CheckpointError: unreadable, too large, not JSON, not an object."""
    value = read_value(path, most)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return value


def read_value(path: Path, most: int = _MAX_BYTES) -> Any:
    """Any JSON value in a file. Raises CheckpointError: unreadable, too large, not JSON."""
    try:
        size = path.stat().st_size
        if size > most:
            raise CheckpointError(f"{path}: {size} bytes, at most {most} are allowed")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from None
