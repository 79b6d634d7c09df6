"""zopog bench loss: one loss evaluation here and in a peer, processes in turn, as a ratio with its spread.

A loss evaluation is one API call: one prompt of n tokens on a batch, for the label words' logits. Two processes are
kept warm and asked in turn, because in one process two runtimes disturb each other, and machines drift. A peer
is any command that takes --worker FOLDER (config.json, model.safetensors, inputs.npz) and --threads, and speaks the
same lines (benchmarks/loss_peer.py is PyTorch's):

    the peer prints a JSON object once it is ready; for every line it reads, it evaluates once and prints
    {"seconds": ..., "logits": [[...], ...]}
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.runtime import load_model
from zopog_ref.app.errors import InputError
from zopog_ref.app.experiment import versions
from zopog_ref.app.random_model import SHAPES, write_random_inputs, write_random_model
from zopog_ref.app.run_folder import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("what", choices=("loss",))
    parser.add_argument("--shape", choices=tuple(SHAPES), default="mini", help="random weights of this shape")
    parser.add_argument("--n-positions", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--text-length", type=int, default=64, help="tokens of a row without the prompt")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each side")
    parser.add_argument("--peer", help='a command to compare with: "/path/to/python benchmarks/loss_peer.py"')
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print; exit code 1 when the two sides' logits differ."""
    if arguments.worker is not None:
        return _work(arguments)
    if arguments.rounds < 2:
        raise InputError(f"--rounds is {arguments.rounds}; a spread needs at least 2")
    with tempfile.TemporaryDirectory() as folder:
        say(f"writing random weights of shape {arguments.shape}")
        shape, threads = SHAPES[arguments.shape], f"--threads={arguments.threads}"
        write_random_model(Path(folder), shape)
        write_random_inputs(
            Path(folder) / "inputs.npz", shape, arguments.n_positions, arguments.batch_size, arguments.text_length
        )
        command = [sys.executable, "-m", "zopog_ref.app.command_line", "bench", "loss"]
        commands = {"zopog": [*command, f"--worker={folder}", threads]}
        if arguments.peer:
            commands["peer"] = [*shlex.split(arguments.peer), f"--worker={folder}", threads]
        with ExitStack() as stack:
            report = _measure({name: stack.enter_context(_Side(c)) for name, c in commands.items()}, arguments)
    if arguments.json:
        print(json.dumps(report, indent=2))  # noqa: T201
    else:
        print(_text(report))  # noqa: T201
    return 0 if report.get("largest_difference", 0.0) < 1e-3 else 1


class _Side:
    """One warm process that evaluates when asked."""

    def __init__(self, command: list[str]) -> None:
        self.command = command

    def __enter__(self) -> "_Side":
        self._process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            self.about = self._answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *reason: object) -> None:
        self._process.communicate(timeout=30)  # closes its input, which ends it

    def evaluate(self) -> dict[str, Any]:
        """One evaluation: {"seconds": ..., "logits": ...}."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise InputError(f"{shlex.join(self.command)} ended before it answered")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _measure(sides: dict[str, _Side], arguments: argparse.Namespace) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    logits: dict[str, Any] = {}
    for round_ in range(arguments.rounds + 2):
        for name, side in sides.items():
            answer = side.evaluate()
            logits[name] = np.array(answer["logits"])
            if round_ >= 2:  # two rounds to warm up
                seconds[name].append(answer["seconds"])
    report: dict[str, Any] = {
        "what": "one loss evaluation",
        **{name: getattr(arguments, name) for name in ("shape", "n_positions", "batch_size", "text_length", "threads")},
        "machine": machine(),
        "versions": versions(),
        "seconds": {name: _spread(values) for name, values in seconds.items()},
        "sides": {name: side.about for name, side in sides.items()},
    }
    if "peer" in sides:
        report["ratio"] = _spread([peer / ours for peer, ours in zip(seconds["peer"], seconds["zopog"])])
        report["largest_difference"] = float(np.abs(logits["zopog"] - logits["peer"]).max())
    return report


def _spread(values: list[float]) -> dict[str, float]:
    quartiles = statistics.quantiles(values, n=4)
    return {"median": statistics.median(values), "low": quartiles[0], "high": quartiles[2], "count": len(values)}


def machine() -> str:
    """The processor as the system names it, and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        name = models[0] if models else name
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"


def _work(arguments: argparse.Namespace) -> int:
    """Our side: ready, then one evaluation for every line read."""
    model = load_model(arguments.worker, threads=arguments.threads)
    with np.load(arguments.worker / "inputs.npz") as file:  # no pickled objects: NumPy's default refuses them
        inputs = dict(file)
    inputs["prompt_index"] = np.zeros(len(inputs["text_ids"]), np.int64)
    sys.stdout.write(json.dumps({"runtime": "ONNX Runtime", "versions": versions()}) + "\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        start = time.perf_counter()
        logits = model.logits(**inputs)
        seconds = time.perf_counter() - start
        sys.stdout.write(json.dumps({"seconds": seconds, "logits": logits.tolist()}) + "\n")
        sys.stdout.flush()
    return 0


def _text(report: dict[str, Any]) -> str:
    lines = [
        f"{report['what']}: {report['shape']}, batch {report['batch_size']}, prompt {report['n_positions']} + text "
        f"{report['text_length']} tokens, {report['threads']} threads",
        report["machine"],
        "",
        f"{'':<8}{'median':>12}{'quartiles':>26}",
    ]
    for name, s in report["seconds"].items():
        lines.append(f"{name:<8}{1e3 * s['median']:>9.1f} ms{1e3 * s['low']:>15.1f} to {1e3 * s['high']:.1f} ms")
    if "ratio" in report:
        r = report["ratio"]
        lines.append(
            f"{'ratio':<8}{r['median']:>10.2f} x{r['low']:>16.2f} to {r['high']:.2f} x   (peer / zopog, pairs)"
        )
        lines.append(f"largest difference of a logit: {report['largest_difference']:.1e}")
    return "\n".join(lines)
