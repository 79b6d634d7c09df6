"""Target: run folders in which something else stands where a file was: a pipe, a device, a folder, a link, nothing.

Nothing may wait for the other end of a pipe, read a device to its end, or follow a link in circles.
"""

import contextlib
import json
import os
import random
from pathlib import Path

from tests.fuzz.run_folders import read_run, run_folders
from tests.fuzz.target import Target, as_json
from zopog_models.errors import UnusableFile
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.saved_run import read_result

KINDS = ("pipe", "device", "folder", "to a pipe", "to a folder", "to itself", "to nothing", "gone", "empty")
_ODD = "odd.json"


def odd_folders(scratch: Path) -> list[Target]:
    files = run_folders(scratch)[0].files | {"result.json": as_json({"method": "zo-pog"})}
    inside = {f"run/{name}": content for name, content in files.items()}
    return [Target("run folder, odd files", inside | {_ODD: b"{}"}, {_ODD: _odd}, _read, (InputError, UnusableFile), 0.25, ("run/",), writes=True)]  # fmt: skip


def _odd(rng: random.Random, content: bytes) -> bytes:
    names = [".lock", ".reserve", "config.json", "curve.jsonl", "checkpoint.safetensors", "checkpoint.previous.safetensors",
             "journal", "journal/000001.jsonl", "journal/000002.jsonl", "result.json"]  # fmt: skip
    return as_json({name: rng.choice(KINDS) for name in rng.sample(names, rng.choice((1, 1, 1, 2, 4)))})


def _put(path: Path, kind: str) -> None:
    """Something of this kind in the place of a file or a folder."""
    if not path.parent.is_dir() or path.parent.is_symlink():
        return
    if path.is_dir():
        _clear(path)
    path.unlink(missing_ok=True)
    beside = path.with_name(path.name + ".beside")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        try:
            os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5))  # /dev/zero's numbers
        except OSError:  # only root may
            os.mkfifo(path)
    elif kind in ("folder", "to a folder"):
        (beside if kind == "to a folder" else path).mkdir()
    elif kind == "to a pipe":
        os.mkfifo(beside)
    elif kind == "empty":
        path.touch()
    if kind.startswith("to "):
        target = {"to itself": path.name, "to nothing": "nothing"}.get(kind, beside.name)
        os.symlink(target, path)


def _clear(folder: Path) -> None:
    """Remove all of it by whole paths, which the watch can place."""
    for place, folders, files in os.walk(folder, topdown=False):
        for name in files + [name for name in folders if os.path.islink(os.path.join(place, name))]:
            os.remove(os.path.join(place, name))
        os.rmdir(place)


def _read(folder: Path) -> None:
    run = folder / "run"
    try:
        for name, kind in json.loads((folder / _ODD).read_bytes()).items():
            _put(run / name, kind)
        try:
            read_run(run)
        finally:
            with contextlib.suppress(InputError, UnusableFile):  # it need not be whole: it must not be waited for
                read_result(run)
    finally:
        _clear(run)
