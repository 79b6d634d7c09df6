"""One input through a parser, watched: a value or a named error; nothing else run, opened or written; time bound.

The watch sees what Python does (its audit events) and the folder on the disk. What a compiled library opens by itself it
does not see; those are given a path inside the folder, and what the folder holds afterwards is looked at.
"""

import os
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

from tests.fuzz.target import Target

SECONDS_EACH = 20.0  # of processor time, for one input
MEMORY = 1 << 30  # bytes beyond what the process has when a target's inputs begin
LONGEST_MESSAGE = 4000
_FORBIDDEN = frozenset({
    "exec", "compile", "pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork",
    "socket.connect", "socket.bind", "ctypes.dlopen", "code.__new__", "marshal.loads",
})  # fmt: skip
_WATCHED = frozenset({
    "open", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
})  # fmt: skip


class TooSlow(BaseException):
    """One input took longer than it may."""


@dataclass
class Watch:
    """Paths outside `inside`, and events that no parser needs, while it is on."""

    inside: str = ""
    own: tuple[str, ...] = ()  # folders that files may be read in too
    seen: list[str] = field(default_factory=list)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.inside:
            return
        if event in _FORBIDDEN:
            self.seen.append(f"{event} {arguments!r:.200}")
        elif event in _WATCHED and not (
            event == "open" and _only_reads(arguments) and str(arguments[0]).startswith(self.own)
        ):
            paths = arguments[:2] if event in ("os.rename", "os.link", "os.symlink") else arguments[:1]
            if event == "os.symlink":  # which leads on from where it stands
                paths = os.path.join(os.path.dirname(paths[1]), paths[0]), paths[1]
            for path in paths:
                if isinstance(path, (str, bytes, os.PathLike)) and not self._is_inside(os.fsdecode(path)):
                    self.seen.append(f"{event} {path!r:.200}")

    def _is_inside(self, path: str) -> bool:
        return os.path.abspath(path).startswith(self.inside + os.sep) or path == self.inside


def _only_reads(arguments: tuple[Any, ...]) -> bool:
    """Of an event `open`: (path, mode, flags), where os.open says no mode."""
    _, mode, flags = arguments
    return mode == "r" or (mode is None and not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


_WATCHES: list[Watch] = []


def watch() -> Watch:
    """The process's one watch: an audit hook cannot be taken off again."""
    if not _WATCHES:
        _WATCHES.append(Watch())
        sys.addaudithook(_WATCHES[0])
    return _WATCHES[0]


@dataclass
class Outcome:
    """Counts of a target, and what it did that it must not do: (input's number, what, the files)."""

    inputs: int = 0
    values: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    found: list[tuple[int, str, dict[str, bytes]]] = field(default_factory=list)
    slowest: float = 0.0  # of processor time, as seconds
    seconds: float = 0.0

    def add(self, other: "Outcome") -> None:
        self.inputs, self.values = self.inputs + other.inputs, self.values + other.values
        self.errors, self.found = self.errors + other.errors, self.found + other.found
        self.slowest, self.seconds = max(self.slowest, other.slowest), self.seconds + other.seconds


class Folder:
    """root/here, with an input's files in it; a file that is there already is not written again."""

    def __init__(self, root: Path) -> None:
        self.root, self.path = root, root / "here"
        self._there: dict[str, tuple[bytes, tuple[int, ...]]] = {}  # content, and how the disk described it
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)

    def write(self, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            there = self._there.get(name)
            if there is None or there[0] != content:
                path = self.path / name
                if not self._there:
                    self._make_folders(files)
                path.write_bytes(content)
                self._there[name] = content, self._described(os.stat(path))

    def clear(self) -> None:
        """Everything goes."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._there = {}

    def difference(self, target: Target) -> str:
        """What the parser did to the disk that it must not do, or ""; what it left is gone afterwards."""
        wrong = ""
        if outside := [entry.name for entry in os.scandir(self.root) if entry.name != "here"]:
            wrong = f"files outside: {outside}"
            for name in outside:
                path = self.root / name
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        folders = tuple(name for name in target.keep if name.endswith("/"))
        found = dict(self._scan(self.path))
        expected = {name: described for name, (_, described) in self._there.items()}
        if found != expected:
            surplus = [n for n in found.keys() - expected.keys() if n not in target.keep and not n.startswith(folders)]
            if surplus:
                wrong = wrong or f"files left behind: {sorted(surplus)[:3]}"
            elif not target.writes:
                changed = sorted(name for name in expected if found.get(name) != expected[name])
                wrong = wrong or (f"files changed: {changed}" if changed else "")
            self.clear()
        return wrong

    def _make_folders(self, files: dict[str, bytes]) -> None:
        for name in files:
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)

    def _scan(self, path: Path | str, prefix: str = "") -> Iterator[tuple[str, tuple[int, ...]]]:
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                yield from self._scan(entry.path, f"{prefix}{entry.name}/")
            else:
                yield prefix + entry.name, self._described(entry.stat(follow_symlinks=False))

    @staticmethod
    def _described(stat: os.stat_result) -> tuple[int, ...]:
        return stat.st_ino, stat.st_size, stat.st_mtime_ns


def bound_memory(more: int = MEMORY) -> None:
    """No more address space than there is now and `more` bytes."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more if hard < 0 else min(hard, now + more), hard))


def free_memory() -> None:
    """As much as there may be, for what is imported and made before inputs begin."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


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


def try_one(target: Target, number: int, files: dict[str, bytes], folder: Folder, outcome: Outcome) -> None:
    """One input; what it must not do goes to outcome.found."""
    folder.write(files)
    looked, started, what = watch(), time.process_time(), ""
    try:
        with _bounded_time(SECONDS_EACH):
            looked.own = tuple(map(str, target.own))
            looked.inside = str(folder.path)
            target.read(folder.path)
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
    what = folder.difference(target) or what
    if what:
        outcome.found.append((number, what, files))
