"""What a run folder keeps in lines and arrays, written and read back with every line checked."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zopog_models.files.lines import LARGEST, whole_lines
from zopog_models.files.untrusted import read_untrusted
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.typed_json import from_fields
from zopog_ref.search import Arrays, Record


def digest(arrays: Arrays) -> str:
    """Over names, types, shapes and bytes: a flipped bit in a checkpoint is noticed."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        total.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def as_line(record: Record) -> str:
    """A step of the curve as JSON."""
    return json.dumps(dataclasses.asdict(record), allow_nan=False)


def read_curve(path: Path) -> list[bytes]:
    """The whole lines of a curve; [] where there is none. Errors: UnusableFile."""
    return read_untrusted(path, LARGEST).split(b"\n")[:-1] if os.path.exists(path) else []


def read_record(path: Path, step: int, line: bytes) -> Record:
    """A step of the curve. Errors: InputError for a line that is not what as_line wrote."""
    try:
        record = from_fields(Record, json.loads(line))
        if record.step != step:
            raise ValueError("not the numbers of a step")
        return record
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        what = f"not what was written ({error!s:.200})"
        raise InputError(f"{path}, line {step}: {what}: it was edited or damaged") from None


def read_journal(path: Path) -> list[NDArray[np.float64]]:
    """Losses (K, B) or scores (K, B, C) of one step. A torn last line (a kill in the middle of a write) goes, so that
    appending can continue.

    Errors: InputError for a whole line that is not what was written.
    """
    return [_read_losses(path, number, line) for number, line in enumerate(whole_lines(path), start=1)]


def _read_losses(path: Path, number: int, line: bytes) -> NDArray[np.float64]:
    try:
        losses = np.asarray(json.loads(line), np.float64)
        if losses.ndim not in (2, 3) or not np.isfinite(losses).all():
            raise ValueError(f"losses of shape {losses.shape}")
        return losses
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}, line {number}: no losses ({error!s:.200}): it was edited or damaged") from None
