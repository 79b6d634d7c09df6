"""Processes asked in turn: what `zopog bench` compares. Each stays warm; a ratio is that of a pair."""

import json
import platform
import shlex
import statistics
import subprocess
from pathlib import Path
from typing import Any

from zopog_models.runners.cores import usable_cores
from zopog_ref.app.errors import InputError


class Side:
    """One warm process that works when asked."""

    def __init__(self, command: list[str]) -> None:
        self.command = command

    def __enter__(self) -> "Side":
        self._process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            self.about = self._answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *reason: object) -> None:
        self._process.communicate(timeout=30)  # closes its input, which ends it

    def ask(self, what: str) -> dict[str, Any]:
        """One answer: {"seconds": ..., and what was computed}."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{what}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise InputError(f"{shlex.join(self.command)} ended before it answered") from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise InputError(f"{shlex.join(self.command)} ended before it answered")
        answer: dict[str, Any] = json.loads(line)
        return answer


def in_turn(sides: dict[str, Side], what: str, rounds: int, warm_up: int) -> dict[str, list[dict[str, Any]]]:
    """Each side's answers, one after the other in every round; the rounds that warm up are left out."""
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for round_ in range(warm_up + rounds):
        for name, side in sides.items():
            answer = side.ask(what)
            if round_ >= warm_up:
                answers[name].append(answer)
    return answers


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles; of one value, itself."""
    quartiles = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return {"median": statistics.median(values), "low": quartiles[0], "high": quartiles[2], "count": len(values)}


def machine() -> str:
    """The processor as the system names it, how many cores this process may use, and the arithmetic they have."""
    name, units = platform.processor() or platform.machine(), ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        values = {key.strip(): value.strip() for key, value in lines.items()}
        name = values.get("model name", name)
        known = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")
        flags = values.get("flags", "").split()
        units = "".join(f", {flag}" for flag in known if flag in flags)
    return f"{name}, {usable_cores()} cores, {platform.system()}{units}"
