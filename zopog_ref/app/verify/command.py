"""zopog verify: every labelled line of the convergence analysis as a number that holds or does not."""

import argparse
import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.files.atomic import write_atomically
from zopog_ref import __version__
from zopog_ref.app.errors import InputError
from zopog_ref.app.output import say, show_json
from zopog_ref.app.verify import listing as verify_report
from zopog_ref.convergence.cases import FULL, QUICK, Bench
from zopog_ref.convergence.lines import Line, Result, evaluate
from zopog_ref.convergence.lines_continuous import CONTINUOUS
from zopog_ref.convergence.lines_descent import DESCENT
from zopog_ref.convergence.lines_discrete import DISCRETE
from zopog_ref.convergence.lines_joint import JOINT
from zopog_ref.convergence.lines_rates import RATES, complexity_runs, mode_results, noise_modes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--quick", action="store_true", help="fewer samples and runs: under a minute")
    parser.add_argument("--out", type=Path, help="folder for verify.json and verify.html")
    parser.add_argument("--seed", type=int, default=0, help="of the problems and of everything sampled")
    parser.add_argument("--estimator", metavar="MODULE:FUNCTION", help="check your own estimator instead of the core's")
    parser.add_argument(
        "--kind", choices=("policy", "zeroth"),
        help="what the estimator is; by default zeroth with a parameter `directions`, policy with `tokens`",
    )  # fmt: skip
    parser.add_argument(
        "--repetitions", type=int, metavar="N", help="of an estimator that is randomised; 30 by default"
    )
    parser.add_argument(
        "--tolerance", type=float, metavar="T",
        help="relative, of the estimator's exact rows; by default 1e-10, or that of float32 if it returns that",
    )  # fmt: skip
    parser.add_argument("--no-model", action="store_true", help="leave out the rows on the embedded language model")
    parser.add_argument("--json", action="store_true", help="machine-readable")


def run(arguments: argparse.Namespace) -> int:
    """Check, print, write; exit code 1 when a row that is proved, or confirmed, does not hold."""
    if not 0 <= arguments.seed < 2**63:
        raise InputError(f"--seed is {arguments.seed}; it must be 0 or more and less than 2^63")
    if arguments.out is not None:
        _make_folder(arguments.out)
    if arguments.estimator:
        from zopog_ref.app.verify import estimator as verify_estimator

        a = arguments
        return verify_estimator.run(
            verify_estimator.Options(a.estimator, a.kind, a.seed, a.quick, a.repetitions, a.tolerance, a.out, a.json)
        )
    started = time.perf_counter()
    bench = Bench(seed=arguments.seed, effort=QUICK if arguments.quick else FULL)
    lines: tuple[Line, ...] = (*DISCRETE, *CONTINUOUS, *JOINT, *DESCENT, *RATES)
    skipped: list[str]
    if arguments.no_model:
        skipped = ["the rows on the embedded model: --no-model"]
    else:
        model_lines, skipped = _model_lines(bench)
        lines += model_lines
    results = evaluate(lines, bench, progress(len(lines)))
    say("Algorithm 1 in its variants, and until it is stationary")
    found = document(bench, results, skipped)
    found["seconds"] = round(time.perf_counter() - started, 1)
    write(arguments, bench, results, found)
    return 0 if all(r.holds for r in results if r.line.required) else 1


def _make_folder(out: Path) -> None:
    """Now, and not after the work."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out} cannot be made a folder: {error.strerror}") from error
    if not os.access(out, os.W_OK):
        raise InputError(f"--out {out} cannot be written to; give another folder")


def _model_lines(bench: Bench) -> tuple[tuple[Line, ...], list[str]]:
    """The rows on the embedded model, or why they are left out: the message names the extra to install."""
    try:
        from zopog_models.runners.session import ProviderError
    except ModuleNotFoundError as missing:
        return (), [f"the rows on the embedded model: no package {missing.name!r} (pip install onnxruntime tokenizers)"]
    try:
        return importlib.import_module("zopog_ref.app.verify.model").model_lines(bench), []
    except ModuleNotFoundError as missing:
        return (), [f"the rows on the embedded model: no package {missing.name!r} (pip install onnxruntime tokenizers)"]
    except ProviderError as error:
        return (), [f"the rows on the embedded model: {error}"]


def progress(total: int) -> Any:
    """A line on stderr for each row that is checked."""
    count = [0]

    def tell(line: Line) -> None:
        count[0] += 1
        say(f"[{count[0]:2}/{total}] {line.label:4} {line.statement}")

    return tell


def document(bench: Bench, results: list[Result], skipped: list[str]) -> dict[str, Any]:
    """What verify.json holds."""
    return {
        "zopog-ref": __version__, "seed": bench.seed, "effort": bench.effort.name,
        "numpy": np.__version__, "python": platform.python_version(), "machine": platform.machine(),
        "summary": verify_report.summary(results, skipped),
        "rows": [verify_report.row(r) for r in results],
        "evaluations_to_reach": [
            {"rule": rule.rule, **vars(reached)} for rule in complexity_runs(bench) for reached in rule.reached
        ] if bench.effort.epsilons else [],
        "final_loss": [vars(m) for m in mode_results(bench)] if bench.effort.mode_runs else [],
        "noise_modes": noise_modes(bench),
        "model": bench.cache.get("model", {}),
    }  # fmt: skip


def write(arguments: argparse.Namespace, bench: Bench, results: list[Result], found: dict[str, Any]) -> None:
    """The table or the JSON on stdout, and with --out the files."""
    if arguments.out is not None:
        from zopog_ref.app.verify.figures import figures
        from zopog_ref.app.verify.page import page

        write_atomically(arguments.out / "verify.json", [(json.dumps(found, indent=1) + "\n").encode()])
        html = page(results, found, figures(bench))
        write_atomically(arguments.out / "verify.html", [html.encode()])
        say(f"wrote {arguments.out / 'verify.json'} and {arguments.out / 'verify.html'}")
    if arguments.json:
        show_json(found)
        return
    s = found["summary"]
    sys.stdout.write(verify_report.table(results) + "\n\n")
    sys.stdout.write(
        f"{s['required_holding']} of {s['required']} required rows hold. |z| must be at most {s['z_threshold']:.2f}: "
        f"over {s['sampled_comparisons']} sampled comparisons the chance of any false alarm is "
        f"{s['family_wise_error']:g}.\n"
    )
    for reason in s["skipped"]:
        sys.stdout.write(f"skipped: {reason}\n")
