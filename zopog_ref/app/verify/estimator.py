"""zopog verify --estimator module:function: which lines someone else's estimator violates, and by what factor.

A policy gradient has the signature policy_gradient(losses, tokens, alpha, p, tau), a zeroth-order estimate
two_point_gradient(losses_plus, losses_minus, directions, mu); arguments are given by position. Which of the two it is
comes from --kind, or from its parameters' names: `directions` means zeroth-order, `tokens` a policy gradient.
"""

import argparse
import importlib
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zopog_ref.app.errors import InputError
from zopog_ref.app.verify import listing as verify_report
from zopog_ref.convergence.cases import FULL, QUICK, Bench
from zopog_ref.convergence.exact import policy_moments
from zopog_ref.convergence.lines import Result, evaluate
from zopog_ref.convergence.lines_continuous import CONTINUOUS
from zopog_ref.convergence.lines_descent import DESCENT
from zopog_ref.convergence.lines_discrete import DISCRETE
from zopog_ref.convergence.prompt_lemmas import exact_policy_gradient
from zopog_ref.convergence.smoothing_lemmas import shared_moments, smoothed_gradient

FLOAT64 = NDArray[np.float64]
ROWS = {
    "policy": ("V1", "V4", "V4-paper", "V5", "V5-paper", "V6", "S5-rows", "V7-exact", "V7", "G2", "D1"),
    "zeroth": ("Z1", "Z1b", "Z2", "Z3-quadratic", "Z3", "Z3-hessian", "Z4-quadratic", "Z4", "Z5-exact", "Z5",
               "Z5b-exact", "Z5b", "D2"),
}  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Check the estimator; exit code 1 when it violates a line."""
    function = load(arguments.estimator)
    kind = arguments.kind or kind_of(function, arguments.estimator)
    bench = _bench(arguments, function, kind)
    lines = [line for line in DISCRETE + CONTINUOUS + DESCENT if line.key in ROWS[kind]]
    try:
        results = evaluate(lines, bench)
        found = [explain(result, bench, kind) for result in results]
    except Exception as error:
        raise InputError(
            f"{arguments.estimator} raised {type(error).__name__}: {error}. It was called as a {kind} estimator; see "
            "zopog verify --help for the signatures, and --kind"
        ) from error
    answer = {
        "estimator": arguments.estimator, "kind": kind, "seed": bench.seed,
        "fresh_noise": bench.with_fresh_noise, "violated": [f["label"] for f in found if not f["holds"]], "rows": found,
    }  # fmt: skip
    _write(arguments, results, answer)
    return 1 if answer["violated"] else 0


def load(name: str) -> Callable[..., Any]:
    """module:function, found from the current folder or among installed packages."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise InputError(f"--estimator is {name!r}; it must be MODULE:FUNCTION, as in my_estimators:my_gradient")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise InputError(f"--estimator {name}: no module {error.name!r} here or among installed packages") from error
    except AttributeError as error:
        raise InputError(f"--estimator {name}: the module has no {attribute!r}") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    if not callable(found):
        raise InputError(f"--estimator {name} is a {type(found).__name__}, not a function")
    return found


def kind_of(function: Callable[..., Any], name: str) -> str:
    """policy or zeroth, by the names of the parameters."""
    parameters = set(inspect.signature(function).parameters)
    if "directions" in parameters:
        return "zeroth"
    if "tokens" in parameters:
        return "policy"
    raise InputError(
        f"{name} has the parameters {', '.join(sorted(parameters))}: neither `tokens` nor `directions`; "
        "say --kind policy or --kind zeroth"
    )


def _bench(arguments: argparse.Namespace, function: Callable[..., Any], kind: str) -> Bench:
    bench = Bench(seed=arguments.seed, effort=QUICK if arguments.quick else FULL)
    if kind == "zeroth":
        return replace(bench, zeroth=function, cache={})
    bench = replace(bench, policy=function, cache={})
    atoms, losses = bench.fresh_case.atoms, bench.fresh_case.losses
    k = np.array([0, 1])
    try:  # does it take one p a sample?
        shape = np.shape(function(losses[k], atoms.tokens[k], atoms.alpha, atoms.probabilities_of(k), atoms.tau))
        takes = shape == atoms.alpha.shape
    except Exception:
        takes = False
    return bench if takes else replace(bench, with_fresh_noise=False, cache={})


def explain(result: Result, bench: Bench, kind: str) -> dict[str, Any]:
    """A row, and for one that fails by what factor."""
    out = verify_report.row(result)
    out["explanation"] = ""
    if result.holds:
        return out
    if out["key"] == "V4":
        out["explanation"] = "; ".join(_policy_factor(case, sizes[0], bench) for case, sizes in bench.policy_cases)
    elif out["key"] == "Z2":
        out["explanation"] = "; ".join(_zeroth_factor(case, bench) for case in (bench.on_quadratic(), bench.on_wells()))
    elif out["relation"] == "=" and out["ratio"] is not None:
        cases = [f"{c['case']}: {c['ratio']:.4g}" for c in out["cases"] if c["ratio"] is not None]
        out["explanation"] = "left / right, " + "; ".join(dict.fromkeys(cases))
    elif out["ratio"] is not None:
        out["explanation"] = f"{out['ratio']:.4g} times the bound"
    return out


def _factor(mean: FLOAT64, truth: FLOAT64, case: str) -> str:
    """mean = factor * truth + rest."""
    factor = float((mean * truth).sum() / (truth * truth).sum())
    rest = float(np.linalg.norm(mean - factor * truth) / np.linalg.norm(mean)) if np.any(mean) else 0.0
    if rest < 1e-8:
        return f"{case}: exactly {factor:.6g} times the gradient"
    return f"{case}: not along the gradient; nearest {factor:.4g} times it, {rest:.1%} beside it"


def _policy_factor(case: Any, samples: int, bench: Bench) -> str:
    mean = policy_moments(bench.policy, case.atoms, case.losses, samples).mean
    return _factor(mean, exact_policy_gradient(case), case.name)


def _zeroth_factor(case: Any, bench: Bench) -> str:
    mean = shared_moments(case, np.arange(case.problem.rows), 1, bench.zeroth).mean
    return _factor(mean, smoothed_gradient(case), case.name)


def _write(arguments: argparse.Namespace, results: list[Result], answer: dict[str, Any]) -> None:
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "estimator.json").write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    if arguments.json:
        sys.stdout.write(json.dumps(answer) + "\n")
        return
    sys.stdout.write(verify_report.table(results) + "\n\n")
    if not answer["fresh_noise"] and answer["kind"] == "policy":
        sys.stdout.write("It takes one p (n, N) only: the cases with fresh noise for each sample were left out.\n")
    for found in answer["rows"]:
        if not found["holds"]:
            sys.stdout.write(f"[{found['label']}] {found['statement']} VIOLATED. {found['explanation']}\n")
    if not answer["violated"]:
        sys.stdout.write(f"{answer['estimator']} violates none of these lines.\n")
