"""Inputs through a parser, watched: a value or a named error; nothing else run, opened or written; memory and time bound.

The watch sees what Python does (its audit events) and the folder on the disk. What a compiled library opens by itself it
does not see; those are given a path inside the folder, and what the folder holds afterwards is looked at.
"""

import os
import random
import resource
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.targets import Target

SECONDS_EACH = 20.0  # of processor time, for one input
MEMORY = 1 << 30  # bytes beyond what the process has when it starts
LONGEST_MESSAGE = 4000
_FORBIDDEN = ("exec", "compile", "pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn",
              "socket.connect", "socket.bind", "os.fork", "ctypes.dlopen", "code.__new__", "marshal.loads")  # fmt: skip
_WATCHED = ("open", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")


class TooSlow(BaseException):
    """One input took longer than it may."""


@dataclass
class Watch:
    """Paths outside `inside`, and events that no parser needs, while it is on."""

    inside: str = ""
    seen: list[str] = field(default_factory=list)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.inside:
            return
        if event in _FORBIDDEN:
            self.seen.append(f"{event} {arguments!r:.200}")
        elif event in _WATCHED:
            paths = arguments[:2] if event in ("os.rename", "os.link", "os.symlink") else arguments[:1]
            for path in paths:
                if isinstance(path, (str, bytes, os.PathLike)) and not self._is_inside(os.fsdecode(path)):
                    self.seen.append(f"{event} {path!r}")

    def _is_inside(self, path: str) -> bool:
        return os.path.abspath(path).startswith(self.inside + os.sep) or path == self.inside


_WATCHES: list[Watch] = []


def watch() -> Watch:
    """The process's one watch: an audit hook cannot be taken off again."""
    if not _WATCHES:
        _WATCHES.append(Watch())
        sys.addaudithook(_WATCHES[0])
    return _WATCHES[0]


@dataclass
class Outcome:
    """Counts of a target, and what it did that it must not do: (what, the files)."""

    inputs: int = 0
    values: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    found: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    slowest: float = 0.0


def bound_memory(more: int = MEMORY) -> None:
    """No more address space than there is now and `more` bytes."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more, now + more))


@contextmanager
def _bounded_time(seconds: float) -> Iterator[None]:
    def late(number: int, frame: object) -> None:
        raise TooSlow(f"more than {seconds:g} s of processor time")

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def inputs(target: Target, rng: random.Random) -> Iterator[dict[str, bytes]]:
    """The valid files first, then mutants of them without end."""
    yield dict(target.files)
    names = list(target.changed)
    while True:
        files = dict(target.files)
        for name in rng.sample(names, 1 if rng.random() < 0.8 else rng.randint(1, len(names))):
            files[name] = target.changed[name](rng, files[name])
        yield files


def try_one(target: Target, files: dict[str, bytes], root: Path, outcome: Outcome) -> None:
    """One input; what it must not do goes to outcome.found."""
    folder = root / "here"
    if not folder.exists():
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    looked, started, what = watch(), time.process_time(), ""
    try:
        with _bounded_time(SECONDS_EACH):
            looked.inside = str(folder)
            target.read(folder)
        outcome.values += 1
    except target.errors as error:
        outcome.errors[type(error).__name__] += 1
        if len(str(error)) > LONGEST_MESSAGE:
            what = f"a message of {len(str(error))} characters"
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # an oracle: whatever it is, it is no named error
        what = f"{type(error).__name__}: {error!s:.300}"
    finally:
        looked.inside = ""
    outcome.inputs += 1
    outcome.slowest = max(outcome.slowest, time.process_time() - started)
    if looked.seen:
        what, looked.seen = f"it did {looked.seen[:3]}", []
    if outside := [entry.name for entry in root.iterdir() if entry.name != "here"]:
        what = f"files outside: {outside}"
        for name in outside:
            (root / name).unlink()
    inside = {entry.relative_to(folder).as_posix() for entry in folder.rglob("*") if entry.is_file()}
    if inside != files.keys():
        shutil.rmtree(folder)
        if surplus := inside - files.keys() - set(target.keep):
            what = what or f"files left behind: {sorted(surplus)}"
    if what:
        outcome.found.append((what, files))


def run(target: Target, root: Path, *, seed: int, seconds: float, most: int) -> Outcome:
    """Fuzz a target for a time, or for a number of inputs, whichever ends first; at most ten findings."""
    outcome, until = Outcome(), time.monotonic() + seconds
    rng = random.Random(f"{seed} {target.name}")
    root.mkdir(parents=True, exist_ok=True)
    target_files = inputs(target, rng)
    while outcome.inputs < most and time.monotonic() < until and len(outcome.found) < 10:
        try_one(target, next(target_files), root, outcome)
    shutil.rmtree(root / "here", ignore_errors=True)
    return outcome
