"""python -m tests.fuzz [--seconds 60] [--inputs N] [--seed S] [--only NAME]: every parser in turn, counts at the end.

The exit code is 1 when something was found; the inputs are kept in the folder --keep, one folder each.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz import engine
from tests.fuzz.targets import targets


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for all parsers together")
    parser.add_argument("--inputs", type=int, default=1 << 60, help="of each parser, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="targets whose name holds this")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    arguments = parser.parse_args()
    total = found = 0
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # the tokenizers library describes each panic there
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as scratch:
        made = Path(scratch, "made")
        made.mkdir()
        chosen = [target for target in targets(made) if arguments.only in target.name]
        for target in chosen:  # whatever is imported late is imported now
            engine.run(target, Path(scratch, "warm"), seed=-1, seconds=60, most=20)
        engine.bound_memory()
        left, until = sum(target.share for target in chosen), time.monotonic() + arguments.seconds
        for target in chosen:
            seconds = (until - time.monotonic()) * target.share / left
            left -= target.share
            outcome = engine.run(
                target, Path(scratch, "root"), seed=arguments.seed, seconds=seconds,
                most=max(1, int(arguments.inputs * target.share)),
            )  # fmt: skip
            total, found = total + outcome.inputs, found + len(outcome.found)
            errors = ", ".join(f"{count} {name}" for name, count in outcome.errors.items())
            print(f"{target.name:24} {outcome.inputs:8} inputs {outcome.values:8} values  {errors}; slowest {outcome.slowest:.2f} s", flush=True)
            for number, (what, files) in enumerate(outcome.found):
                print(f"  FOUND {what}", flush=True)
                for name, content in files.items():
                    path = arguments.keep / target.name.replace(" ", "-") / str(number) / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
    print(f"{total} inputs, {found} findings, seed {arguments.seed}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
