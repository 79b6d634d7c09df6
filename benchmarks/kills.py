"""python benchmarks/kills.py [--kills 200]: kill runs of every method at random moments, resume, compare the ends.

SIGKILL and SIGTERM in turn, shared out over all methods, on a tiny random model. Exit code 1 unless every run ended
bit for bit as an undisturbed one.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.faults.killing import OPTIONS, Tiny, kill_often, starter


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    kills = runs = same = 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, starter() as starts:
        tiny = Tiny.make(Path(scratch))
        for place, method in enumerate(OPTIONS):
            share = (arguments.kills * (place + 1)) // len(OPTIONS) - (arguments.kills * place) // len(OPTIONS)
            killed = kill_often(starts, tiny, method, share, Path(scratch), arguments.seed)
            kills, runs, same = kills + killed.kills, runs + killed.runs, same + killed.same
            print(f"{method:14} {killed.kills:4} kills, {killed.same} of {killed.runs} runs identical", flush=True)
    print(f"{kills} kills, {same} of {runs} resumed runs identical, {time.monotonic() - started:.0f} s")
    return 0 if same == runs and kills == arguments.kills else 1


if __name__ == "__main__":
    sys.exit(main())
