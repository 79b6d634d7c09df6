"""A decoder people have, on labelled text: 4,000 calls of ZO-PoG on AG News, as `zopog tune` runs them."""

import json
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.gpu.place import Place
from benchmarks.gpu.runner import Skipped

BUDGET, REHEARSED = 4000, 160  # a step of 40 calls, and what the readouts keep back


def tune(place: Place) -> None:
    """The result as the command prints it, and the seconds. Skipped where the files are not here."""
    if place.data is None or not place.data.is_dir():
        raise Skipped(f"there are no files of AG News: --data is {place.data}")
    with tempfile.TemporaryDirectory(prefix="zopog-") as name:
        model = place.model or ("embedded" if place.rehearse else "")
        if model != "embedded" and not Path(model).is_file() and not (Path(model) / "config.json").is_file():
            raise Skipped(f"there is no model: --model is {model or 'not given'}")
        command = [sys.executable, "-m", "zopog_ref.app.command_line", "tune", "--json", f"--out={name}/run"]
        command += [f"--model={model}", f"--device={place.device}"]
        if model == "embedded":  # it has no word of one token for one of AG News's labels
            command += [f"--budget={REHEARSED}", "--task=supersense", "--n-positions=4", "--batch-size=4"]
        else:
            command += [f"--budget={REHEARSED if place.rehearse else BUDGET}", "--task=agnews", f"--data={place.data}"]
            command += shlex.split(place.tune)
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        place.put("seconds", round(time.perf_counter() - start, 2))
        place.put("command", shlex.join(command[1:]))
        if done.returncode:
            raise RuntimeError(f"zopog tune ended with {done.returncode}: {done.stderr[-1500:]}")
        place.put("result", json.loads(done.stdout))
