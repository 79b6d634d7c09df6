"""A run on a larger budget begins with the steps of the same run on a smaller one, which are not paid again.

No method is told its budget, so step t is the same whatever the budget is (not where `--settings auto` makes the
settings for it: then they differ, and nothing is shared). Only the last step differs: it is always
scored on dev, also where no score is due yet. So the longer run begins with the checkpoint before the shorter one's
last step, and takes that step again with the losses of its journal. All its files are those of a run from the start, to
the byte, but for `seconds`.
"""

from pathlib import Path
from typing import Any

from zopog_models.files.atomic import write_atomically
from zopog_models.files.tensor_file import read_metadata, read_tensors, write_tensors
from zopog_models.files.untrusted import check_regular, read_untrusted
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.curve import read_curve
from zopog_ref.app.run.folder import CHECKPOINT, LARGEST_JSON, PREVIOUS, read_json


def grow(shorter: Path, longer: Path) -> bool:
    """Put a finished run's steps into the folder of a new one. False, and nothing is done, where they do not serve.

    They do where the two config.json are the same but for the budget: the same rows, model, settings and versions.
    """
    try:
        if not (shorter / "result.json").exists() or _but_for_the_budget(shorter) != _but_for_the_budget(longer):
            return False
        lines = read_curve(shorter / "curve.jsonl")
        last = shorter / "journal" / f"{len(lines) - 1:06d}.jsonl"
        if not lines or not last.exists():
            return False
        paid = read_untrusted(last, LARGEST_JSON)
        checkpoint = _before_the_last_step(shorter, len(lines) - 1) if len(lines) > 1 else None
    except (InputError, OSError, KeyError, ValueError):
        return False
    # Wherever this is cut off, a run is there that can be continued: `load` cuts the curve to its checkpoint.
    write_atomically(longer / "curve.jsonl", [line + b"\n" for line in lines])
    if checkpoint is not None:
        write_tensors(longer / CHECKPOINT, *checkpoint)
    (longer / "journal").mkdir(exist_ok=True)
    write_atomically(longer / "journal" / last.name, [paid])
    return True


def _but_for_the_budget(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json", f"{folder} holds no run")
    config["preset"] = {name: value for name, value in config["preset"].items() if name != "budget"}
    return config


def _before_the_last_step(folder: Path, step: int) -> tuple[dict[str, Any], dict[str, str]]:
    """The checkpoint's arrays and what is said of it. Errors: ValueError for one of another step."""
    path = folder / PREVIOUS
    check_regular(path)
    about = read_metadata(path)
    if about["step"] != str(step):
        raise ValueError(f"{path} stands after step {about['step']}, not {step}")
    return dict(read_tensors(path)), {name: value for name, value in about.items() if name != "config"}
