"""Runs that are killed and resumed: on a tiny random model, every method, at moments of the run's own progress.

A moment is a number of finished steps and a few random milliseconds, never a time since the start: how long a start
takes is the machine's business.
"""

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.app.conftest import same_run
from zopog_ref.app.random_model import Shape, write_random_model

ROOT = Path(__file__).parents[2]
PATIENCE = 600  # seconds for one start; only a hang takes as long
COMMON = ["--settings", "embedded", "--n-positions", "3", "--dim", "6", "--n-candidates", "10", "--batch-size", "8",
          "--shots", "4", "--threads", "1", "--json"]  # fmt: skip
# 20 to 40 steps each
OPTIONS = {
    "zo-pog": ["--policy-samples", "2", "--direction-pairs", "1", "--budget", "120"],
    "bdpl": ["--samples", "4", "--budget", "120"],
    "bbt": ["--popsize", "4", "--budget", "120"],
    "catcma": ["--popsize", "4", "--budget", "120"],
    "sspt": ["--direction-pairs", "2", "--keep", "3", "--budget", "120"],
    "ensembles": ["--members", "2", "--popsize", "4", "--budget", "240"],
    "cma-elbo": ["--members", "3", "--popsize", "4", "--draws", "2", "--budget", "240"],
    "abc-smc": ["--members", "4", "--samples", "4", "--budget", "120"],
    "clip-tuning": ["--networks", "2", "--popsize", "4", "--budget", "240"],
    "random-search": ["--samples", "4", "--budget", "120"],
}


@dataclass(frozen=True)
class Tiny:
    """A model and a task on which a step takes milliseconds."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "Tiny":
        write_random_model(folder, Shape(layers=1, hidden=16, heads=2, vocabulary=120))
        rng = random.Random(0)
        for split, rows in (("train", 40), ("test", 20)):
            texts = [" ".join(f"w{rng.randrange(20, 110)}" for _ in range(rng.randrange(2, 7))) for _ in range(rows)]
            lines = [f"{text}\t{row % 2}" for row, text in enumerate(texts)]
            (folder / f"{split}.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n")
        (folder / "tiny.toml").write_text(
            'name = "tiny"\ntemplate = "{text} {mask}"\ntrain = "train.tsv"\ntest = "test.tsv"\n'
            '[labels]\n0 = "w10"\n1 = "w11"\n'
        )
        return cls(folder)

    def options(self, method: str) -> list[str]:
        return ["--task", str(self.folder / "tiny.toml"), "--model", str(self.folder), "--method", method, *COMMON,
                *OPTIONS[method]]  # fmt: skip


class Starter:
    """Starts `zopog` after `zopog`, one at a time; each can be killed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, arguments: list[str], output: Path) -> int:
        """The new process's number."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"arguments": arguments, "output": str(output)}) + "\n")
        self._process.stdin.flush()
        return int(self._answer())

    def ended(self, seconds: float) -> int | None:
        """How it ended, waiting at most so long; None while it runs."""
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        return int(self._answer()) if ready else None

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the starter is gone"
        return line


@contextmanager
def starter() -> Iterator[Starter]:
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(["", *sys.path])}
    command = [sys.executable, "-u", "-m", "tests.faults.starter"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=ROOT, env=environment)
    try:
        yield Starter(process)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def steps(folder: Path) -> int:
    """Lines of the curve, torn or not."""
    try:
        return (folder / "curve.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def go(starts: Starter, arguments: list[str], output: Path) -> int:
    """Run to the end, undisturbed; the exit code."""
    starts.start(arguments, output)
    code = starts.ended(PATIENCE)
    assert code is not None, f"no end after {PATIENCE} s: {arguments}"
    return code


def kill(starts: Starter, arguments: list[str], folder: Path, number: int, rng: random.Random) -> bool:
    """Start or resume a run and kill it somewhere; False when it was done before. Its exit code must be right."""
    output = folder.parent / f"{folder.name}.said"
    behind = rng.choice(("folder", "step", "step", "step")), steps(folder)
    wanted, later = behind[1] + rng.randint(1, 12), rng.uniform(0, 0.02)
    process, until = starts.start(arguments, output), time.monotonic() + PATIENCE
    started = time.time()
    while (code := starts.ended(0.0005)) is None:
        assert time.monotonic() < until, f"no progress in {PATIENCE} s: {arguments}"
        locked = folder / ".lock"
        there = locked.exists() and locked.stat().st_mtime >= started - 1 and (folder / "config.json").exists()
        if steps(folder) >= wanted or (there and behind[0] == "folder"):
            break
    if code is None:
        code = starts.ended(later)
    if code is None:
        os.kill(process, number)
        code = starts.ended(PATIENCE)
    allowed = {signal.SIGKILL: (-signal.SIGKILL, 0), signal.SIGTERM: (130, 0)}[signal.Signals(number)]
    assert code in allowed, f"exit code {code} after {signal.Signals(number).name}: {output.read_text()[-2000:]}"
    return code != 0


@dataclass
class Killed:
    """What a method went through."""

    kills: int
    same: int  # runs whose end is that of the undisturbed run, bit for bit
    runs: int


def kill_often(starts: Starter, tiny: Tiny, method: str, kills: int, scratch: Path, seed: int = 0) -> Killed:
    """Kill a method's runs `kills` times, SIGKILL and SIGTERM in turn, and finish every run. All must end alike."""
    rng, whole = random.Random(f"{seed} {method}"), scratch / f"{method}-whole"
    tune = ["tune", *tiny.options(method)]
    code = go(starts, [*tune, "--out", str(whole)], scratch / f"{method}.said")
    assert code == 0, (scratch / f"{method}.said").read_text()
    done, runs, same, here = 0, 0, 0, 0
    while done < kills or here:
        folder = scratch / f"{method}-{runs}"
        known = (folder / "config.json").exists()
        arguments = ["tune", "--resume", str(folder), "--json"] if known else [*tune, "--out", str(folder)]
        if done < kills and here < 8:
            killed = kill(starts, arguments, folder, (signal.SIGKILL, signal.SIGTERM)[done % 2], rng)
            done, here = done + killed, here + killed
            if killed:
                continue
        else:
            assert go(starts, arguments, scratch / f"{method}.said") == 0, (scratch / f"{method}.said").read_text()
        runs, same, here = runs + 1, same + same_run(whole, folder), 0
        assert not list(folder.glob("**/.*.part"))
    return Killed(done, same, runs)
