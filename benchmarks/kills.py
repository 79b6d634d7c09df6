"""python benchmarks/kills.py [--kills 200] [--each 8]: kill runs of every method, resume them, compare the ends.

SIGKILL and SIGTERM in turn, shared out over all methods and over the phases of a run (tests/faults/killing.py says
what these are), on a tiny random model. Exit code 1 unless every run ended bit for bit as an undisturbed one.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.faults.killing import OPTIONS, PHASES, Tiny, kill_often, starter


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--each", type=int, default=8, help="kills of one run before it is left alone")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    kills: Counter[str] = Counter()
    runs = same = 0
    started = time.monotonic()
    print(f"{'':14}" + "".join(f"{phase:>8}" for phase in PHASES) + f"{'runs':>8}{'same':>8}{'s':>8}")
    with tempfile.TemporaryDirectory() as scratch, starter() as starts:
        tiny = Tiny.make(Path(scratch))
        for place, method in enumerate(OPTIONS):
            share = (arguments.kills * (place + 1)) // len(OPTIONS) - (arguments.kills * place) // len(OPTIONS)
            begun = time.monotonic()
            killed = kill_often(starts, tiny, method, share, Path(scratch), arguments.seed, arguments.each)
            kills, runs, same = kills + killed.kills, runs + killed.runs, same + killed.same
            counts = "".join(f"{killed.kills[phase]:8}" for phase in PHASES)
            print(f"{method:14}{counts}{killed.runs:8}{killed.same:8}{time.monotonic() - begun:8.0f}", flush=True)
    print(f"{kills.total()} kills, {same} of {runs} resumed runs identical, {time.monotonic() - started:.0f} s")
    return 0 if same == runs and kills.total() == arguments.kills else 1


if __name__ == "__main__":
    sys.exit(main())
