"""A run folder's config.json and result.json as they are written, checked, for whoever shows them."""

from pathlib import Path
from typing import Any

from zopog_ref.app.run.config import read_run
from zopog_ref.app.run.folder import read_json
from zopog_ref.app.run.saved_values import Kind, check, each, maybe, named, number, share, text, whole

_SCORES = maybe(named({"rows": whole, "truncated": whole, "accuracy": share, "majority": share, "macro_f1": share}))
RESULT: dict[str, Kind] = {
    "method": text, "calls": whole, "sequences": whole, "tokens": whole, "best_step": whole, "stop_reason": text,
    "seconds": lambda value: number(value) and value >= 0, "dev_accuracy": share, "dev_loss": maybe(number),
    "test_accuracy": maybe(share), "test_metrics": _SCORES, "manual_metrics": _SCORES,
    "prompt_tokens": each(each(text)),
}  # fmt: skip


def read_configuration(folder: Path) -> dict[str, Any]:
    """A run's config.json. Errors: InputError for one that is missing or is not what a run writes."""
    config, found = read_run(folder)
    return config.to_json(found)


def read_result(folder: Path) -> dict[str, Any]:
    """A finished run's result.json. Errors: InputError for one that is missing or is not what a run writes."""
    path = folder / "result.json"
    found = read_json(path, f"{path} is missing")
    check(found, RESULT, path)
    return found
