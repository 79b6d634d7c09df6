"""JSON files of a model folder: small, and one object each."""

from pathlib import Path
from typing import Any

from zopog_models.errors import CheckpointError, RepeatedKey, UnusableFile
from zopog_models.files.repeated_keys import parse_json
from zopog_models.files.untrusted import read_untrusted

__all__ = ["read_object"]

_MAX_BYTES = 32_000_000  # the largest that is published, an index of shards, has 9 million


def read_object(path: Path, most: int = _MAX_BYTES) -> dict[str, Any]:
    """The JSON object in a file. Raises CheckpointError: unreadable, too large, no JSON object, a key twice."""
    value = read_value(path, most)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return value


def read_value(path: Path, most: int = _MAX_BYTES) -> Any:
    """Any JSON value in a file. Raises CheckpointError: unreadable, too large, not JSON, a key twice."""
    try:
        return parse_json(read_untrusted(path, most).decode("utf-8"))
    except UnusableFile as error:
        raise CheckpointError(str(error)) from None
    except RepeatedKey as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from None
