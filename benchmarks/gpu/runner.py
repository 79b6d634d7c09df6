"""Stages one after the other, a process each: killed at its limit, failures passed over, results written at once."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SKIPPED = 3  # exit code of a stage that cannot be run here; its last result says why
RESERVE = 2.0  # seconds that ending a stage may take
TAIL = 2000  # characters of a stage's output that its record keeps


class Skipped(Exception):
    """A stage that cannot be run here, and why."""


@dataclass(frozen=True)
class Stage:
    """name; about; limit: seconds, its own process included; environment: variables besides those of all stages."""

    name: str
    about: str
    limit: float
    environment: Mapping[str, str] = field(default_factory=dict)


class Results:
    """One line of JSON for each result, on the disk before `put` returns."""

    def __init__(self, path: Path, stage: str) -> None:
        self.path, self.stage = path, stage

    def put(self, name: str, value: Any) -> None:
        line = json.dumps({"stage": self.stage, "name": name, "value": value}) + "\n"
        with self.path.open("a", encoding="utf-8") as file:  # opened anew: two processes write to it
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        print(line, end="", flush=True)


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    """stage -> name -> value; of two of one name the later. A last line that was cut off is left out."""
    found: dict[str, dict[str, Any]] = {}
    for line in path.read_text("utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        found.setdefault(entry["stage"], {})[entry["name"]] = entry["value"]
    return found


def run_stages(
    stages: Sequence[Stage], command: Sequence[str], results: Path, log: Path, limit: float, environment: dict[str, str]
) -> dict[str, str]:
    """Run `command NAME` for each stage within `limit` seconds in all. Returns how each ended.

    ok, failed (exit code other than 0), skipped (it said why), killed (at its limit), no time (not started).
    """
    end, ended = time.monotonic() + limit, {}
    for stage in stages:
        allowed = min(stage.limit, end - time.monotonic() - RESERVE)
        record = Results(results, stage.name)
        if allowed <= 0:
            record.put("stage", {"status": "no time", "limit": stage.limit})
            ended[stage.name] = "no time"
            continue
        start = time.monotonic()
        code, output = _run([*command, stage.name], allowed, environment | dict(stage.environment))
        with log.open("a", encoding="utf-8") as file:
            file.write(f"==== {stage.name}\n{output}\n")
        status = "killed" if code is None else {0: "ok", SKIPPED: "skipped"}.get(code, "failed")
        seconds = round(time.monotonic() - start, 2)
        kept = {} if status in ("ok", "skipped") else {"code": code, "tail": output[-TAIL:]}
        record.put("stage", {"status": status, "seconds": seconds, "limit": round(allowed, 1), **kept})
        ended[stage.name] = status
    return ended


def _run(command: list[str], limit: float, environment: dict[str, str]) -> tuple[int | None, str]:
    """Exit code, None where the limit ended it, and what it printed. What it started ends with it."""
    with tempfile.TemporaryFile() as output:  # a pipe would be held open by grandchildren
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
        )
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its children too: a peer that waits for a line, say
            process.wait()
        output.seek(0)
        return code, output.read().decode("utf-8", "replace")
