"""A process that reads inputs, and what watches it: whatever a parser does to the process, the count goes on.

A parser may take the whole process with it (a library that aborts, a crash in compiled code) or stay inside a library
for good, where Python cannot interrupt it. The next process goes on behind the input that did it.
"""

import codecs
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.fuzz import engine
from tests.fuzz.engine import Folder, Outcome
from tests.fuzz.target import Target

Make = Callable[[Path], list[Target]]

WARM = 20  # inputs that are read before a target's count begins: whatever is imported late is imported now
BATCH_SECONDS = 2.0
STUCK = 3  # times what one input may take: it is inside a library, or Python had ended it
IDLE = 300.0  # seconds without any processor time: it waits for something that does not come
_WARMING = -1
_CODINGS = (
    "utf_8_sig",
    "utf_16",
    "utf_16_be",
    "utf_16_le",
    "utf_32",
    "utf_32_be",
    "utf_32_le",
    "idna",
)  # of JSON, of URLs


def serve(make: Make, scratch: str, seconds_each: float, warm_up: int, asked: Connection, current: Any) -> None:
    """In the process: (target's name, seed, first, most) in, an Outcome out. current: the input that is being read."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # the tokenizers library describes each panic there
    engine.SECONDS_EACH = seconds_each
    warnings.simplefilter("ignore")  # one is shown with its line of source, which is opened for it
    for coding in _CODINGS:
        codecs.lookup(coding)  # so that none is imported while an input is read
    made = Path(scratch, "made")
    made.mkdir()
    targets = {target.name: target for target in make(made)}
    folder, warm = Folder(Path(scratch, "root")), ""
    while (question := asked.recv()) is not None:
        name, seed, first, most = question
        target = targets[name]
        if name != warm:
            current.value, warm = _WARMING, name
            engine.free_memory()
            folder.clear()
            for number in range(warm_up):
                engine.try_one(target, number, target.input(-1, number), folder, Outcome())
            engine.bound_memory()
        outcome, started, until = Outcome(), time.process_time(), time.monotonic() + BATCH_SECONDS
        for number in range(first, first + most):
            current.value = number
            engine.try_one(target, number, target.input(seed, number), folder, outcome)
            if time.monotonic() > until or len(outcome.found) >= 10:
                break
        outcome.seconds = time.process_time() - started
        asked.send(outcome)


class Worker:
    """The process, started when there is something to read and again when it is gone."""

    def __init__(self, make: Make, seconds_each: float = engine.SECONDS_EACH, warm: int = WARM) -> None:
        self._make, self._seconds_each, self._warm = make, seconds_each, warm
        self._context = multiprocessing.get_context("spawn")
        self._current = self._context.RawValue("q", 0)
        self._process: Any = None

    def run(self, name: str, seed: int, first: int, most: int) -> Iterator[Outcome]:
        """Inputs first to first + most - 1 of a target, in parts that take a few seconds each."""
        end = first + most
        deadly: set[int] = set()
        while first < end:
            if first in deadly:
                first += 1
                continue
            here = min((number for number in deadly if number > first), default=end)
            outcome, died = self._batch(name, seed, first, here - first)
            if outcome is not None:
                first += outcome.inputs
                yield outcome
            elif (number := self._current.value) == _WARMING:
                yield Outcome(found=[(0, f"{died} before the first input", {})])
                return
            else:
                deadly.add(number)  # those before it are read again, and counted then
                yield Outcome(1, found=[(number, died, {})])

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._pipe.close()
            self._process.kill()
            self._process.join()
            self._process = None
            self._scratch.cleanup()

    def _batch(self, name: str, seed: int, first: int, most: int) -> tuple[Outcome | None, str]:
        """(outcome, ""), or (None, what became of the process)."""
        if self._process is None:
            self._pipe, theirs = self._context.Pipe()
            memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
            self._scratch = tempfile.TemporaryDirectory(dir=memory, ignore_cleanup_errors=True)
            given = self._make, self._scratch.name, self._seconds_each, self._warm, theirs, self._current
            self._process = self._context.Process(target=serve, args=given, daemon=True)
            self._process.start()
            theirs.close()
        self._pipe.send((name, seed, first, most))
        last, spent, moved = None, 0.0, time.monotonic()
        busy, stuck = 0.0, STUCK * self._seconds_each
        while not self._pipe.poll(0.5):
            now, processor = self._current.value, _processor_seconds(self._process.pid)
            if now != last:
                last, spent = now, processor
            if processor > busy:
                busy, moved = processor, time.monotonic()
            if processor - spent > stuck and now != _WARMING:
                self.close()
                return None, f"more than {stuck:g} s of processor time inside a library"
            if time.monotonic() - moved > IDLE:
                self.close()
                return None, f"it stood still for {IDLE:g} s"
        try:
            return self._pipe.recv(), ""
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self.close()
            return None, f"the process died (exit code {code})"


def _processor_seconds(pid: int) -> float:
    """That a process has used so far, all its threads together; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
