"""python -m tests.fuzz [--inputs N] [--seconds S] [--seed S] [--only NAME]: every parser in turn, counts at the end.

--inputs: in all. Every target gets a floor, the rest goes where the time is shared equally. With --counts FILE the
counts are kept there, and the same command goes on behind them: a long run in pieces of --seconds each. --each N
instead: N of every target (of a slow one its share of N), as the tests have it. --first N --only NAME reads one input
again.

The exit code is 1 when something was found; the inputs are kept in the folder --keep, one folder each.
"""

import argparse
import json
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.fuzz.engine import Outcome
from tests.fuzz.target import Target
from tests.fuzz.targets import targets
from tests.fuzz.worker import Worker

FLOOR = 2000  # inputs of every target, of a million
AT_ONCE = 20.0  # seconds of one target before the next has its turn
MOST_FINDINGS = 10  # of a target, which is left alone then

Counts = dict[str, Outcome]


def more(counts: Counts, most: int) -> dict[str, int]:
    """How many further inputs each target gets, `most` in all: up to the floor first, then the rest in equal times."""
    floor = min(FLOOR, most // len(counts))
    if short := {name: floor - done.inputs for name, done in counts.items() if done.inputs < floor}:
        return short
    left = most - sum(done.inputs for done in counts.values())
    speeds = {name: done.inputs / max(done.seconds, 1e-3) for name, done in counts.items()}
    seconds = min(AT_ONCE, max(left, 0) / sum(speeds.values()))
    parts = {name: int(seconds * speed) for name, speed in speeds.items()}
    return parts if any(parts.values()) else {max(speeds, key=lambda name: speeds[name]): left}


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # the worker ends with it
    until = time.monotonic() + arguments.seconds
    with tempfile.TemporaryDirectory() as scratch:
        chosen = {target.name: target for target in targets(Path(scratch)) if re.search(arguments.only, target.name)}
    saved = json.loads(arguments.counts.read_text()) if arguments.counts and arguments.counts.exists() else {}
    counts = {name: _restored(saved.get(name, {})) for name in chosen}
    worker = Worker(targets)
    try:
        while time.monotonic() < until:
            if arguments.first is not None:
                parts = dict.fromkeys(counts, 1)
            elif arguments.each is not None:
                parts = {
                    name: max(1, int(arguments.each * chosen[name].share)) - counts[name].inputs for name in counts
                }
            else:
                parts = more(counts, arguments.inputs)
            parts = {name: n for name, n in parts.items() if n > 0 and len(counts[name].found) < MOST_FINDINGS}
            for name, part in parts.items():
                first, turn = arguments.first or counts[name].inputs, time.monotonic() + AT_ONCE
                for outcome in worker.run(name, arguments.seed, first, part):
                    counts[name].add(outcome)
                    _keep(arguments, chosen[name], outcome)
                    if time.monotonic() > min(until, turn) or len(counts[name].found) >= MOST_FINDINGS:
                        break
                if arguments.counts:
                    saved |= {name: _to_save(done) for name, done in counts.items()}
                    arguments.counts.write_text(json.dumps(saved, indent=1))
                if time.monotonic() > until:
                    break
            if not parts or arguments.first is not None:
                break
    finally:
        worker.close()
    for name, done in counts.items():
        print(_line(name, done))
    inputs, found = sum(done.inputs for done in counts.values()), sum(len(done.found) for done in counts.values())
    seconds = sum(done.seconds for done in counts.values())
    print(f"{inputs} inputs, {found} findings, {seconds:.0f} s of processor time, seed {arguments.seed}")
    return 1 if found else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--each", type=int, help="of every target, times its share; in place of --inputs")
    parser.add_argument("--first", type=int, help="this one input of every target; in place of --inputs")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="after which no further part is begun")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="targets with a name of this pattern")
    parser.add_argument("--counts", type=Path, help="where counts are kept, to go on behind them")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    return parser.parse_args()


def _restored(saved: dict[str, Any]) -> Outcome:
    found = [(number, what, {}) for number, what in saved.get("found", [])]
    rest = {name: saved[name] for name in ("inputs", "values", "slowest", "seconds") if name in saved}
    return Outcome(errors=Counter(saved.get("errors", {})), found=found, **rest)


def _to_save(done: Outcome) -> dict[str, Any]:
    rest = {name: round(getattr(done, name), 3) for name in ("inputs", "values", "slowest", "seconds")}
    return {**rest, "errors": done.errors, "found": [[number, what] for number, what, _ in done.found]}


def _line(name: str, done: Outcome) -> str:
    errors = ", ".join(f"{count} {error}" for error, count in done.errors.most_common())
    return (f"{name:24} {done.inputs:8} inputs {len(done.found):3} findings {done.seconds:7.1f} s "
            f"{done.inputs / max(done.seconds, 1e-3):7.0f}/s {done.values:8} values, {errors}; slowest {done.slowest:.2f} s")  # fmt: skip


def _keep(arguments: argparse.Namespace, target: Target, outcome: Outcome) -> None:
    """Show what was found, and keep its files."""
    for number, what, files in outcome.found:
        print(f"FOUND {target.name}, input {number}: {what}", flush=True)
        for name, content in (files or target.input(arguments.seed, number)).items():
            path = arguments.keep / target.name.replace(" ", "-") / str(number) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
