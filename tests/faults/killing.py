"""Runs that are killed and resumed: on a tiny random model, every method, at moments of the run's own progress.

A moment is never a time since the start: how long a start takes is the machine's business. It is a few random
milliseconds after it takes its folder (`start`), after some more finished steps (`step`), or after the last one
(`end`, in which prompts are evaluated and results written); or it is exactly before the run changes a file (`file`).
"""

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.app.conftest import same_run
from zopog_ref.app.bench.random_model import Shape, write_random_model

ROOT = Path(__file__).parents[2]
PHASES = ("start", "step", "file", "end")
END_FILES = ("prompt", "predictions", "result")
PATIENCE = 600  # seconds for one start; only a hang takes as long
COMMON = ["--settings", "embedded", "--n-positions", "3", "--dim", "6", "--n-candidates", "10", "--batch-size", "8",
          "--shots", "4", "--readout", "none", "--threads", "1", "--json"]  # fmt: skip
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

    def start(self, arguments: list[str], output: Path, die: tuple[Any, ...] | None = None) -> int:
        """The new process's number. die: as of `starter.die_before`."""
        assert self._process.stdin is not None
        request = {"arguments": arguments, "output": str(output), "die": die}
        self._process.stdin.write(json.dumps(request) + "\n")
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
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=ROOT, env=environment
    )
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


def go(starts: Starter, arguments: list[str], output: Path, die: tuple[Any, ...] | None = None) -> int:
    """Run to the end, whatever it is; the exit code, or minus the signal."""
    starts.start(arguments, output, die)
    code = starts.ended(PATIENCE)
    assert code is not None, f"no end after {PATIENCE} s: {arguments}"
    return code


@dataclass(frozen=True)
class Whole:
    """What an undisturbed run is like: finished steps, and seconds from the last of them to the end."""

    steps: int
    ending: float

    @classmethod
    def of(cls, folder: Path) -> "Whole":
        written = [(folder / name).stat().st_mtime for name in ("curve.jsonl", "result.json")]
        return cls(steps(folder), max(0.0, written[1] - written[0]))


@dataclass(frozen=True)
class Moment:
    """Before the so-many-th change to files with such names (operation > 0); else after so many steps, and later."""

    phase: str
    steps: int = 0  # that the curve has; -1: as soon as the folder is taken
    later: float = 0.0  # seconds
    operation: int = 0
    names: tuple[str, ...] = ()

    @classmethod
    def drawn(cls, phase: str, there: int, whole: Whole, rng: random.Random) -> "Moment":
        """Anywhere in what is left. there: steps that are finished."""
        left = max(1, whole.steps - there)
        if phase == "file":
            return cls(phase, operation=rng.randint(1, 7 * left + 15))  # a step changes seven files
        if phase == "end" and rng.random() < 0.5:
            return cls(phase, operation=rng.randint(1, 9), names=END_FILES)
        if phase == "end":
            return cls(phase, whole.steps, rng.uniform(0, whole.ending))
        return cls(phase, -1 if phase == "start" else there + rng.randint(1, left), rng.uniform(0, 0.02))


def kill(starts: Starter, arguments: list[str], folder: Path, number: int, moment: Moment) -> bool:
    """Start or resume a run and kill it at that moment; False when it was done before. Its exit code must be right."""
    output = folder.parent / f"{folder.name}.said"
    if moment.operation:
        code = go(starts, arguments, output, (moment.operation, number, str(folder), moment.names))
    else:
        here = folder.parent / f"{folder.name}.here"
        here.unlink(missing_ok=True)
        process = starts.start(arguments, output, (1, 0, str(folder), ()))
        code = _reached(starts, folder, moment, here)
        if code is None:
            code = starts.ended(moment.later)
        if code is None:
            os.kill(process, number)
            code = starts.ended(PATIENCE)
    # Of a run that is finished and says its result, SIGTERM is the end as of any program.
    finished = (folder / "result.json").exists()
    allowed = (-signal.SIGKILL, 0) if number == signal.SIGKILL else (130, 0, *[-signal.SIGTERM] * finished)
    said = f"exit code {code} after {signal.Signals(number).name} at {moment}: {output.read_text()[-2000:]}"
    assert code in allowed, said
    return code != 0


def _reached(starts: Starter, folder: Path, moment: Moment, here: Path) -> int | None:
    """Wait for a run's own progress; how it ended if it did before."""
    until = time.monotonic() + PATIENCE
    while (code := starts.ended(0.001)) is None:
        assert time.monotonic() < until, f"no progress in {PATIENCE} s: {folder}"
        if here.exists() and steps(folder) >= moment.steps:
            break
    return code


@dataclass
class Killed:
    """What a method went through."""

    kills: Counter[str]  # of each phase
    same: int  # runs whose end is that of the undisturbed run, bit for bit
    runs: int


def kill_often(
    starts: Starter, tiny: Tiny, method: str, kills: int, scratch: Path, seed: int = 0, each: int = 8
) -> Killed:
    """Kill a method's runs `kills` times, SIGKILL and SIGTERM in turn, and finish every run. All must end alike.

    each: how often one run is killed before it is left alone.
    """
    rng, folder = random.Random(f"{seed} {method}"), scratch / f"{method}-whole"
    tune = ["tune", *tiny.options(method)]
    code = go(starts, [*tune, "--out", str(folder)], scratch / f"{method}.said")
    assert code == 0, (scratch / f"{method}.said").read_text()
    whole = Whole.of(folder)
    done: Counter[str] = Counter()
    runs = same = here = 0
    while done.total() < kills or here:
        folder = scratch / f"{method}-{runs}"
        known = (folder / "config.json").exists()
        arguments = ["tune", "--resume", str(folder), "--json"] if known else [*tune, "--out", str(folder)]
        if done.total() < kills and here < each:
            phase = min(rng.sample(PHASES, len(PHASES)), key=lambda name: done[name])  # all as often
            # Asked to stop after its last step, a run finishes: only SIGKILL is an end there.
            number = signal.SIGKILL if phase == "end" or done.total() % 2 == 0 else signal.SIGTERM
            if kill(starts, arguments, folder, number, Moment.drawn(phase, steps(folder), whole, rng)):
                done[phase] += 1
                here += 1
                continue
        else:
            assert go(starts, arguments, scratch / f"{method}.said") == 0, (scratch / f"{method}.said").read_text()
        runs, same, here = runs + 1, same + same_run(scratch / f"{method}-whole", folder), 0
        assert not list(folder.glob("**/.*.part"))
    return Killed(done, same, runs)
