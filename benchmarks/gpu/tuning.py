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
from tests.models.tiny_decoders import write_decoder

BUDGET, REHEARSED = 4000, 80


def tune(place: Place) -> None:
    """The result as the command prints it, and the seconds. Skipped where the files are not here."""
    if place.data is None or not place.data.is_dir():
        raise Skipped(f"there are no files of AG News: --data is {place.data}")
    with tempfile.TemporaryDirectory(prefix="zopog-") as name:
        model = place.model
        if place.rehearse and not model:
            model = str(write_decoder(Path(name) / "model", "llama", max_position_embeddings=512))
        elif not model or not Path(model).exists():
            raise Skipped(f"there is no model: --model is {model or 'not given'}")
        budget = REHEARSED if place.rehearse else BUDGET
        command = [sys.executable, "-m", "zopog_ref.app.command_line", "tune", "--task", "agnews", "--json"]
        command += [f"--data={place.data}", f"--model={model}", f"--device={place.device}", f"--budget={budget}"]
        command += [f"--out={name}/run", *shlex.split(place.tune)]
        if place.rehearse:
            command += ["--n-positions=4", "--n-candidates=8", "--dim=4", "--batch-size=4"]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        place.put("seconds", round(time.perf_counter() - start, 2))
        place.put("command", shlex.join(command[1:]))
        if done.returncode:
            raise RuntimeError(f"zopog tune ended with {done.returncode}: {done.stderr[-1500:]}")
        place.put("result", json.loads(done.stdout))
