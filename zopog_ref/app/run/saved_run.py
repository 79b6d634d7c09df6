"""A run folder's config.json and result.json, read back: what they have to hold, whoever wrote them."""

from pathlib import Path
from typing import Any

from zopog_ref.app.run.folder import read_json
from zopog_ref.app.run.saved_values import (
    Kind,
    check,
    each,
    maybe,
    named,
    number,
    optional,
    share,
    text,
    token_id,
    whole,
)


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _seed(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**64


MODEL: dict[str, Kind] = {  # what config.json says of the model
    "model": text, "pooling": optional(text), "temperature": optional(number), "remote": optional(_object),
}  # fmt: skip
CONFIGURATION: dict[str, Kind] = MODEL | {
    "method": text, "settings": text, "seed": _seed,
    "shots": maybe(whole), "model_sha256": text, "tokenizer_sha256": text, "candidates": each(token_id),
    "task": named({
        "template": text, "labels": _object, "source": optional(text), "train": optional(text), "dev": optional(text),
        "test": optional(text), "name": optional(text), "description": optional(text), "metric": optional(text),
        "text_columns": optional(each(text)), "label_column": optional(text), "skip_labels": optional(each(text)),
    }),
    "preset": named({"method": _object}),
    "splits": _object, "backend": optional(text),
    "precision": optional(named({"precision": text, "scope": text})),
}  # fmt: skip
_SCORES = maybe(named({"rows": whole, "truncated": whole, "accuracy": share, "majority": share, "macro_f1": share}))
RESULT: dict[str, Kind] = {
    "method": text, "calls": whole, "sequences": whole, "tokens": whole, "best_step": whole, "stop_reason": text,
    "seconds": lambda value: number(value) and value >= 0, "dev_accuracy": share, "dev_loss": maybe(number),
    "test_accuracy": maybe(share), "test_metrics": _SCORES, "manual_metrics": _SCORES,
    "prompt_tokens": each(each(text)),
}  # fmt: skip


def read_configuration(folder: Path) -> dict[str, Any]:
    """A run's config.json. Errors: InputError for one that is missing or is not what a run writes."""
    path = folder / "config.json"
    found = read_json(path, f"{path} is missing")
    check(found, CONFIGURATION, path)
    return found


def read_result(folder: Path) -> dict[str, Any]:
    """A finished run's result.json. Errors: InputError for one that is missing or is not what a run writes."""
    path = folder / "result.json"
    found = read_json(path, f"{path} is missing")
    check(found, RESULT, path)
    return found
