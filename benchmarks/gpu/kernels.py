"""The kernels: parity with NumPy check by check, times against their floors, and the parity run under the sanitizer."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import kernels as script
from benchmarks.gpu.place import Place
from benchmarks.gpu.runner import Skipped
from zopog_kernels import KernelBackend

ENTRY = Path(__file__).parents[1] / "gpu.py"
SANITIZERS = ("compute-sanitizer", "/usr/local/cuda/bin/compute-sanitizer")
TOOLS = ("memcheck", "racecheck")
FOUND = 9  # exit code when the sanitizer found something


def check(place: Place, *, large: bool = True) -> None:
    """Every check, whatever the one before found."""
    backend, failed = KernelBackend(place.memory()), []
    checks = script.parity_checks()
    if not large or place.rehearse:
        checks = {name: work for name, work in checks.items() if name.startswith("check_")}
    for name, work in checks.items():
        try:
            work(backend)
            place.put(name, "as promised")
        except AssertionError as error:
            failed.append(name)
            place.put(name, f"NOT as promised: {str(error)[:500]}")
    if failed:
        raise AssertionError(f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}")


def measure(place: Place) -> None:
    """benchmarks/kernels.py, each number as soon as it is there."""
    if place.rehearse:
        from tests.kernels.host_bench import SMALL, host_bench

        for name, small in SMALL.items():
            setattr(script, name, small)
        kind: Any = host_bench(script)
    else:
        kind = script.Bench

    class Recorded(kind):  # type: ignore[misc]
        def add(self, name: str, value: float, **more: Any) -> float:
            place.put(name, {"value": value, "expected_h200": script.EXPECTED.get(name, ""), **more})
            return float(super().add(name, value, **more))

    record = script.measure(Recorded(20))
    place.put("machine", record["machine"])
    place.put("targets", record["targets"])


def sanitize(place: Place) -> None:
    """The parity run (its small sizes) under compute-sanitizer, one tool after the other."""
    sanitizer = next((found for name in SANITIZERS if (found := shutil.which(name))), None)
    if sanitizer is None:
        raise Skipped("there is no compute-sanitizer on this machine")
    results = place.results.path.with_suffix(".sanitized")
    for tool in TOOLS:
        run = [sanitizer, "--tool", tool, "--error-exitcode", str(FOUND), sys.executable, str(ENTRY), "one"]
        done = subprocess.run(
            [*run, "small-parity", f"--out={results}"], capture_output=True, text=True, env=os.environ, errors="replace"
        )
        text = done.stdout + done.stderr
        summary = [line for line in text.splitlines() if "ERROR SUMMARY" in line or "RACECHECK SUMMARY" in line]
        place.put(
            tool, {"code": done.returncode, "summary": summary, "tail": "" if not done.returncode else text[-1500:]}
        )


def small(place: Place) -> None:
    check(place, large=False)
