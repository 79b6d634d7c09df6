"""Targets: run folders: what a run goes on from."""

import random
from pathlib import Path

import numpy as np

from tests.fuzz.mutation import mutated, mutated_json, mutated_lines, mutated_tensors
from tests.fuzz.target import Mutate, Target, as_json, tensor_bytes
from zopog_models.files import durable
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.curve import as_line, digest
from zopog_ref.app.run.folder import RunFolder
from zopog_ref.search import Record


def run_folders(scratch: Path) -> list[Target]:
    arrays = {"state.alpha": np.ones((2, 3)), "state.step": np.array(2)}
    curve = [Record(step, 8 * step, 32 * step, 100 * step, 0.5, 0.7, {"loss": 0.6}) for step in (1, 2, 3)]
    newest, before = ({"step": step, "seconds": "1.5", "sha256": digest(arrays)} for step in "21")
    del before["sha256"]  # as files had it before there was one: with it, every change is found at once
    files = {
        "config.json": as_json({"format": 1, "method": "zo-pog"}),
        "checkpoint.safetensors": tensor_bytes(scratch, arrays, newest),
        "checkpoint.previous.safetensors": tensor_bytes(scratch, arrays, before),
        "curve.jsonl": "".join(as_line(record) + "\n" for record in curve).encode(),
        "journal/000001.jsonl": b"[[0.5, 0.25]]\n[[1.0, 2.0]]\n", "journal/000002.jsonl": b"[[0.125, 1.0]]\n[[0.5",
    }  # fmt: skip
    changed: dict[str, Mutate] = {
        "config.json": mutated_json,
        "checkpoint.safetensors": mutated_tensors,
        "curve.jsonl": _mutated_or_torn,
        "journal/000001.jsonl": mutated_lines,
        "journal/000002.jsonl": mutated,
    }
    older = {name: content for name, content in files.items() if name != "checkpoint.safetensors"}
    older["checkpoint.safetensors"] = older.pop("checkpoint.previous.safetensors")
    return [
        Target("run folder", files, changed, read_run, (InputError,), 0.5, (".lock", ".reserve"), writes=True),
        Target("run folder, no hash", older, changed, read_run, (InputError,), 0.5, (".lock", ".reserve"), writes=True),
    ]  # fmt: skip


def _mutated_or_torn(rng: random.Random, content: bytes) -> bytes:
    return mutated(rng, content) if rng.random() < 0.5 else mutated_lines(rng, content[:-1]) + b"\n"


def read_run(folder: Path) -> None:
    durable.RESERVE_BYTES = 256  # a thousandth: random bytes are most of the time otherwise
    opened, _ = RunFolder.open(folder)
    try:
        found = opened.load()
        if found is not None:
            assert found[1]
        while (losses := opened.replay()) is not None:
            assert losses.ndim == 2
        assert opened.seconds >= 0
    finally:
        opened.close()
