"""zopog bench: a loss evaluation, an iteration or a whole run, here and in peers, processes in turn, as ratios.

A loss evaluation is one API call: one prompt of n tokens on a batch, for the label words' logits. An iteration is one
step of a method: of ZO-PoG 20 prompts and 10 antithetic pairs, 40 calls. A run is a budget of calls and its dev scores.
Processes are kept warm and asked in turn, because in one process two runtimes disturb each other, and machines drift.
A peer is any command that takes --worker FOLDER (config.json, model.safetensors, inputs.npz), --threads, --device,
--n-positions, --method and --budget, and speaks the same lines (benchmarks/torch_peer.py is PyTorch's):

    it prints a JSON object once it is ready; for every line it reads, loss, iteration or run, it does that once and
    prints {"seconds": ..., "logits": [[...], ...]}, or {"seconds": ..., "loss": the mean loss of a step}
"""

import argparse
import shlex
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.runners.cores import usable_cores
from zopog_models.runners.local import REDUCED
from zopog_ref.app.bench.random_model import (
    LABEL_WORDS,
    LEAST_LENGTH,
    SHAPES,
    TOKENS,
    write_random_inputs,
    write_random_model,
)
from zopog_ref.app.bench.sides import Side, in_turn, machine, spread
from zopog_ref.app.bench.worker import Work, evaluation_flops, work
from zopog_ref.app.errors import InputError
from zopog_ref.app.output import say, show, show_json
from zopog_ref.app.run.config import versions
from zopog_ref.app.tune.backends import BACKENDS
from zopog_ref.app.tune.options import plain_name
from zopog_ref.app.tune.precision import PRECISIONS, SCOPES

WHAT = {"loss": "one loss evaluation", "iteration": "one iteration", "run": "one run"}
LOGIT_TOLERANCE = 1e-3
LOSS_TOLERANCE = 0.1  # of fewer bits, and of the mean loss of a step, where each side draws its own prompts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=tuple(WHAT))
    parser.add_argument("--shape", choices=tuple(SHAPES), default="mini", help="random weights of this shape")
    parser.add_argument("--n-positions", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--text-length", type=int, default=64, help="tokens of a row without the prompt")
    parser.add_argument(
        "--method", type=plain_name, choices=("zo-pog", "bbt"), default="zo-pog", help="of an iteration or a run"
    )
    parser.add_argument("--budget", type=int, default=400, help="calls of a run (default 400: ten iterations)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of our policy step; see zopog tune")
    parser.add_argument("--precision-scope", choices=SCOPES, default="policy")
    parser.add_argument("--backend", choices=BACKENDS, default="numpy", help="of an iteration or a run; see zopog tune")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--rounds", type=int, help="measurements of each side (default: 15 losses, 5 others)")
    peer = 'a command to compare with, any number of times: "/path/to/python benchmarks/torch_peer.py"'
    parser.add_argument("--peer", action="append", default=[], metavar="COMMAND", help=peer)
    parser.add_argument("--official", type=Path, metavar="PATH", help="ZO-PoG's repository: its model code as a peer")
    parser.add_argument("--official-python", default=sys.executable, help="a Python in which that code imports")
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print; exit code 1 when two sides do not compute the same."""
    if arguments.worker is not None:
        return work(Work(**{field.name: getattr(arguments, field.name) for field in fields(Work)}))
    arguments.rounds = arguments.rounds or (15 if arguments.what == "loss" else 5)
    _check(arguments)
    with tempfile.TemporaryDirectory() as folder:
        say(f"writing random weights of shape {arguments.shape}")
        shape = SHAPES[arguments.shape]
        write_random_model(Path(folder), shape)
        sizes = arguments.n_positions, arguments.batch_size, arguments.text_length
        write_random_inputs(Path(folder) / "inputs.npz", shape, *sizes)
        with ExitStack() as stack:
            sides = {name: stack.enter_context(Side(c)) for name, c in _commands(arguments, folder).items()}
            report = _measure(sides, arguments)
    if arguments.json:
        show_json(report, indent=2)
    else:
        show(_text(report))
    return 0 if report["same"] else 1


def _check(arguments: argparse.Namespace) -> None:
    """Errors: InputError for what no side could do, before weights are written."""
    a = arguments
    if a.rounds < 2:
        raise InputError(f"--rounds is {a.rounds}; a spread needs at least 2")
    least = {"n_positions": int(a.what != "loss"), "batch_size": 1, "text_length": LEAST_LENGTH}
    for name, number in least.items():
        if getattr(a, name) < number:
            raise InputError(f"--{name.replace('_', '-')} is {getattr(a, name)}; it must be at least {number}")
    if a.n_positions + a.text_length > TOKENS:
        raise InputError(
            f"--n-positions {a.n_positions} and --text-length {a.text_length} do not fit into the {TOKENS} tokens "
            "of these shapes"
        )
    if a.precision != "fp32" and REDUCED[a.precision] != a.device:
        raise InputError(
            f"--precision {a.precision} is for --device {REDUCED[a.precision]}, and this is --device {a.device}"
        )
    if a.official is not None and not (a.official / "models" / "modeling_roberta.py").is_file():
        raise InputError(f"--official {a.official}: there is no models/modeling_roberta.py in it")


def _commands(arguments: argparse.Namespace, folder: str) -> dict[str, list[str]]:
    a = arguments
    numbers = ("n_positions", "threads", "device", "method", "budget")
    shared = [f"--worker={folder}", *(f"--{name.replace('_', '-')}={getattr(a, name)}" for name in numbers)]
    names = ("shape", "precision", "precision-scope", "backend")
    ours = [f"--{name}={getattr(a, name.replace('-', '_'))}" for name in names]
    commands = {"zopog": [sys.executable, "-m", "zopog_ref.app.command_line", "bench", a.what, *shared, *ours]}
    for number, peer in enumerate(a.peer, start=1):
        commands["peer" if len(a.peer) == 1 else f"peer {number}"] = [*shlex.split(peer), *shared]
    if a.official is not None:
        peer = Path(__file__).parents[3] / "benchmarks" / "torch_peer.py"
        commands["official"] = [*shlex.split(a.official_python), str(peer), f"--official={a.official}", *shared]
    return commands


def _measure(sides: dict[str, Side], arguments: argparse.Namespace) -> dict[str, Any]:
    warm_up = 2 if arguments.what == "loss" else 1
    answers = in_turn(sides, arguments.what, arguments.rounds, warm_up)
    seconds = {name: [answer["seconds"] for answer in found] for name, found in answers.items()}
    names = ["shape", "n_positions", "batch_size", "text_length", "threads", "device", "precision", "precision_scope"]
    names += [] if arguments.what == "loss" else ["method", "backend"]
    report: dict[str, Any] = {
        "what": WHAT[arguments.what],
        **{name: getattr(arguments, name) for name in names},
        **({"budget": arguments.budget, "calls": answers["zopog"][-1]["calls"]} if arguments.what == "run" else {}),
        "machine": machine(),
        "versions": versions(),
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "sides": {name: side.about for name, side in sides.items()},
        "ratios": {
            name: spread([peer / ours for peer, ours in zip(values, seconds["zopog"])])
            for name, values in seconds.items()
            if name != "zopog"
        },
    }
    report |= _same(sides, answers, arguments)
    if arguments.precision == "fp32" and arguments.what == "loss":
        report["gflops"] = _gflops(sides["zopog"], seconds["zopog"], arguments)
    return report


def _same(
    sides: dict[str, Side], answers: dict[str, list[dict[str, Any]]], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Whether the sides computed the same: each logit, or the mean loss of a step on prompts drawn by each side."""
    what = "logits" if arguments.what == "loss" else "loss"
    found = {name: np.mean([answer[what] for answer in given], axis=0) for name, given in answers.items()}
    largest, same = {}, True
    for name, value in found.items():
        if name == "zopog":
            continue
        largest[name] = float(np.abs(value - found["zopog"]).max())
        exact = what == "logits" and arguments.precision == "fp32"
        exact = exact and sides[name].about.get("dtype", "float32") == "float32"
        same = same and largest[name] < (LOGIT_TOLERANCE if exact else LOSS_TOLERANCE)
    return {"largest_differences": largest, "compared": what, "same": same}


def _gflops(ours: Side, seconds: list[float], arguments: argparse.Namespace) -> dict[str, Any]:
    """What an evaluation reaches beside what the same runtime reaches on its matrix products alone, in turn."""
    shape, positions = SHAPES[arguments.shape], arguments.n_positions + arguments.text_length
    flops = evaluation_flops(shape, arguments.batch_size, positions, LABEL_WORDS)
    reached, peak = [], []
    ours.ask("gemm")
    for _ in range(min(arguments.rounds, 9)):
        product = ours.ask("gemm")
        peak.append(product["flops"] / product["seconds"] / 1e9)
        reached.append(flops / ours.ask("loss")["seconds"] / 1e9)
    share = spread([a / b for a, b in zip(reached, peak)])
    return {"evaluation": spread(reached), "products_alone": spread(peak), "share": share}


def _text(report: dict[str, Any]) -> str:
    bits = "" if report["precision"] == "fp32" else f", {report['precision']} ({report['precision_scope']})"
    budget = f" of {report['method']}, {report['calls']} calls" if "budget" in report else ""
    lines = [
        f"{report['what']}{budget}: {report['shape']}, batch {report['batch_size']}, prompt {report['n_positions']} + "
        f"text {report['text_length']} tokens, {report['device']}, {report['threads']} threads{bits}",
        report["machine"],
        "",
        f"{'':<10}{'median':>14}{'quartiles':>28}{'peer / zopog':>16}{'quartiles of pairs':>22}",
    ]
    for name, s in report["seconds"].items():
        line = f"{name:<10}{1e3 * s['median']:>11.1f} ms{1e3 * s['low']:>14.1f} to {1e3 * s['high']:>7.1f} ms"
        if name in report["ratios"]:
            r = report["ratios"][name]
            line += f"{r['median']:>14.2f} x{r['low']:>13.2f} to {r['high']:.2f} x"
        lines.append(line)
    for name, difference in report["largest_differences"].items():
        of = "a logit" if report["compared"] == "logits" else "the mean loss of a step (each draws its own prompts)"
        lines.append(f"{name}: largest difference of {of} {difference:.1e}")
    if "gflops" in report:
        g = report["gflops"]
        reached, peak, share = (g[name]["median"] for name in ("evaluation", "products_alone", "share"))
        lines.append(f"{reached:.0f} GFLOP/s, {share:.0%} of the {peak:.0f} that its matrix products reach alone")
    return "\n".join(lines)
