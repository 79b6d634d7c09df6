"""zopog verify --estimator module:function: is someone else's estimator unbiased, how noisy, and which lines it meets.

A policy gradient has the signature policy_gradient(losses, tokens, alpha, p, tau), a zeroth-order estimate
two_point_gradient(losses_plus, losses_minus, directions, mu); arguments are given by position. Which of the two it is
comes from --kind, or from its parameters' names: `directions` means zeroth-order, `tokens` a policy gradient.

The verdict comes first: unbiased or not, its variance beside the reference's, its cost. A line that it does not meet is
*violated* when it is biased, and only *differs* when it is another correct estimator.
"""

import importlib
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.files.atomic import write_atomically
from zopog_ref.app.errors import InputError
from zopog_ref.app.output import show_json
from zopog_ref.app.verify import listing as verify_report
from zopog_ref.app.verify.assessment import Assessed, assess, seconds_a_call, threshold_of
from zopog_ref.app.verify.guarded import Guarded
from zopog_ref.convergence.cases import FULL, QUICK, Bench
from zopog_ref.convergence.comparison import ROUNDING, Equality, loosened
from zopog_ref.convergence.lines import Line, Result, evaluate
from zopog_ref.convergence.lines_continuous import CONTINUOUS
from zopog_ref.convergence.lines_descent import DESCENT
from zopog_ref.convergence.lines_discrete import DISCRETE
from zopog_ref.policy_gradient import policy_gradient
from zopog_ref.zeroth_order import two_point_gradient

ROWS = {
    "policy": ("V1", "V4", "V4-paper", "V5", "V5-paper", "V6", "S5-rows", "V7-exact", "V7", "V7-noise", "G2", "D1"),
    "zeroth": ("Z1", "Z1b", "Z2", "Z3-quadratic", "Z3", "Z3-hessian", "Z3-kink", "Z4-quadratic", "Z4", "Z5-exact", "Z5",
               "Z5b-exact", "Z5b", "G4", "D2", "D2-limit"),
}  # fmt: skip
OF_THE_MEAN = {"V4", "V4-paper", "Z2", "Z3-quadratic", "Z3-kink"}  # an estimator that fails one of these is biased
REPETITIONS = 30  # of a randomised estimator, unless --repetitions says otherwise


@dataclass(frozen=True)
class Options:
    """What is asked of MODULE:FUNCTION; kind, repetitions and tolerance are found out where they are None."""

    estimator: str
    kind: str | None = None  # policy or zeroth
    seed: int = 0
    quick: bool = False
    repetitions: int | None = None
    tolerance: float | None = None
    out: Path | None = None  # a folder that exists
    json: bool = False


def run(options: Options) -> int:
    """Check the estimator; exit code 1 when it is biased, not finite or writes into its arguments."""
    _refuse_unusable(options)
    name = options.estimator
    function = load(name)
    kind = options.kind or kind_of(function, name)
    guarded = Guarded(function, name, kind)
    bench = _bench(Bench(seed=options.seed, effort=QUICK if options.quick else FULL), guarded, kind)
    randomised = _is_randomised(guarded, bench, kind)
    sampled = kind == "zeroth" and (randomised or not _is_linear(guarded))
    repetitions = options.repetitions or (REPETITIONS if randomised or sampled else 1)
    say(f"the verdict: {name} on all that its inputs can be, {repetitions} time{'s' * (repetitions > 1)}")
    assessed = assess(bench, kind, max(2, repetitions) if sampled else repetitions, sampled)
    rows = ("Z1", "Z1b") if sampled else ROWS[kind]
    lines = [line for line in DISCRETE + CONTINUOUS + DESCENT if line.key in rows]
    results = evaluate(lines, bench, _progress(len(lines), guarded))
    tolerance = guarded.tolerance if options.tolerance is None else options.tolerance
    if tolerance > ROUNDING:
        results = [replace(r, comparisons=tuple(loosened(c, tolerance) for c in r.comparisons)) for r in results]
    if randomised:
        results = [r for r in results if not any(isinstance(c, Equality) and c.exact for c in r.comparisons)]
    answer = _answer(name, bench, guarded, assessed, results, tolerance, repetitions, sampled)
    _write(options, results, answer)
    return 0 if answer["sound"] else 1


def _refuse_unusable(options: Options) -> None:
    """Everything that can be refused before the work is."""
    if options.repetitions is not None and options.repetitions < 1:
        raise InputError(f"--repetitions is {options.repetitions}; it must be 1 or more")
    if options.tolerance is not None and not 0 < options.tolerance < 1:
        raise InputError(f"--tolerance is {options.tolerance}; it must lie between 0 and 1")


def say(message: str) -> None:
    """Progress, on stderr."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def _progress(total: int, guarded: Guarded) -> Callable[[Line], None]:
    count = [0]

    def tell(line: Line) -> None:
        count[0] += 1
        say(f"[{count[0]:2}/{total}] {line.label:4} {line.statement} ({guarded.calls:,} calls so far)")

    return tell


def load(name: str) -> Callable[..., Any]:
    """module:function, found from the current folder or among installed packages."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise InputError(f"--estimator is {name!r}; it must be MODULE:FUNCTION, as in my_estimators:my_gradient")
    sys.path.insert(0, str(Path.cwd()))
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f"--estimator {name}: no module {error.name!r} here or among installed packages") from error
    except SyntaxError as error:
        place = f"{error.filename}, line {error.lineno}"
        raise InputError(f"--estimator {name}: {place} is not Python: {error.msg}") from error
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}{': ' if str(error) else ''}{error}"
        raise InputError(
            f"--estimator {name}: importing {module} raised {what} ({last.filename}, line {last.lineno})"
        ) from error
    finally:
        sys.path.remove(str(Path.cwd()))
    try:
        found = getattr(imported, attribute)
    except AttributeError as error:
        raise InputError(f"--estimator {name}: the module has no {attribute!r}") from error
    if not callable(found):
        raise InputError(f"--estimator {name} is a {type(found).__name__}, not a function")
    return found


def kind_of(function: Callable[..., Any], name: str) -> str:
    """policy or zeroth, by the names of the parameters."""
    try:
        parameters = set(inspect.signature(function).parameters)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} does not say what its parameters are; say --kind policy or --kind zeroth") from error
    if "directions" in parameters:
        return "zeroth"
    if "tokens" in parameters:
        return "policy"
    raise InputError(
        f"{name} has the parameters {', '.join(sorted(parameters))}: neither `tokens` nor `directions`; "
        "say --kind policy or --kind zeroth"
    )


def _bench(bench: Bench, guarded: Guarded, kind: str) -> Bench:
    """The estimator in the reference's place."""
    if kind == "zeroth":
        return replace(bench, zeroth=guarded, cache={})
    bench = replace(bench, policy=guarded, cache={})
    atoms, losses = bench.fresh_case.atoms, bench.fresh_case.losses
    k = np.array([0, 1])
    try:  # does it take one p a sample?
        guarded(losses[k], atoms.tokens[k], atoms.alpha, atoms.probabilities_of(k), atoms.tau)
    except InputError:
        return replace(bench, with_fresh_noise=False, cache={})
    return bench


def _is_randomised(guarded: Guarded, bench: Bench, kind: str) -> bool:
    if kind == "zeroth":
        u = np.array([[0.3, -0.8], [1.1, 0.2]])
        return guarded.is_randomised(np.array([0.3, 0.7]), np.array([0.1, 0.9]), u, 0.1)
    atoms, losses = bench.noisy_case.atoms, bench.noisy_case.losses
    k = np.array([0, 4, 7])
    return guarded.is_randomised(losses[k], atoms.tokens[k], atoms.alpha, atoms.p, atoms.tau)


def _is_linear(guarded: Guarded) -> bool:
    """In `directions`: then Gauss nodes are exact for it on quadratics."""
    losses, u = (np.array([30.0, -0.7]), np.array([0.1, 90.0])), np.array([[0.3, -0.8], [1.1, 0.2]])
    once, twice, other = (guarded(*losses, v, 0.1) for v in (u, 2 * u, u * np.array([[1.0, 5.0]])))
    expected = (2 * once, np.array([1.0, 5.0]) * once)
    return all(np.allclose(a, b, rtol=1e-3, equal_nan=True) for a, b in zip((twice, other), expected))


def _answer(name: str, bench: Bench, guarded: Guarded, assessed: list[Assessed], results: list[Result],
            tolerance: float, repetitions: int, sampled: bool) -> dict[str, Any]:  # fmt: skip
    threshold = threshold_of(assessed)
    of_mean = [r for r in results if r.line.key in OF_THE_MEAN]
    unbiased = all(a.unbiased(max(tolerance, 1e-9), threshold) for a in assessed) and all(r.holds for r in of_mean)
    failing = [r for r in results if not r.holds]
    kind = guarded.kind
    reference: Callable[..., Any] = policy_gradient if kind == "policy" else two_point_gradient
    return {
        "estimator": name, "kind": kind, "seed": bench.seed, "fresh_noise": bench.with_fresh_noise,
        "sound": bool(unbiased and not guarded.not_finite and not guarded.writes),
        "unbiased": bool(unbiased), "repetitions": repetitions, "sampled": sampled, "tolerance": tolerance,
        "calls": guarded.calls,
        "not_finite": guarded.not_finite, "first_not_finite": guarded.first_not_finite,
        "writes_into": sorted(guarded.writes),
        "seconds_a_call": _seconds(guarded), "reference_seconds_a_call": seconds_a_call(reference, kind),
        "cases": [{**{k: _number(v) for k, v in vars(a).items()}, "ratio": _number(a.ratio)} for a in assessed],
        "in_words": [a.in_words() for a in assessed],
        "violated": [] if unbiased else [r.line.label for r in failing],
        "differs": [r.line.label for r in failing] if unbiased else [],
        "rows": [{**verify_report.row(r), "explanation": explain(r, assessed)} for r in results],
    }  # fmt: skip


def _seconds(guarded: Guarded) -> float | None:
    try:
        return seconds_a_call(guarded.function, guarded.kind)
    except Exception:
        return None  # it takes small arrays and not these


def _number(value: Any) -> Any:
    return (value if np.isfinite(value) else None) if isinstance(value, float) else value


def explain(result: Result, assessed: list[Assessed]) -> str:
    """Why a row fails: by what factor, or by how much."""
    if result.holds:
        return ""
    c = result.shown
    if result.line.key in ("V4", "Z2"):
        return "; ".join(a.in_words() for a in assessed)
    if not all(np.isfinite(one.left) for one in result.comparisons):
        return "it is not a number where the verdict says so"
    if isinstance(c, Equality):
        cases = [f"{one.case}: {one.ratio:.4g}" for one in result.comparisons if np.isfinite(one.ratio)]
        if cases and any(one.left != one.right for one in result.comparisons):
            return "left / right, " + "; ".join(dict.fromkeys(cases))
        return f"off by {abs(c.gap):.3g}"
    return f"{c.left:.4g} where at most {c.right:.4g} is allowed ({c.case})"


def _write(options: Options, results: list[Result], answer: dict[str, Any]) -> None:
    if options.out is not None:
        write_atomically(options.out / "estimator.json", [(json.dumps(answer, indent=1) + "\n").encode()])
    if options.json:
        show_json(answer)
        return
    sys.stdout.write("\n".join(verdict_in_words(answer)) + "\n")
    if not results:  # randomised, and every line needs exact sums
        return
    rows = verify_report.table(results, "differs" if answer["unbiased"] else "FAILS")
    sys.stdout.write(f"\n{rows}\n\n")
    word = "differs from the reference." if answer["unbiased"] else "VIOLATED."
    for found in answer["rows"]:
        if not found["holds"]:
            sys.stdout.write(f"[{found['label']}] {found['statement']} {word} {found['explanation']}\n")
    if not answer["violated"] and not answer["differs"]:
        sys.stdout.write(f"{answer['estimator']} violates none of these lines.\n")


def verdict_in_words(answer: dict[str, Any]) -> list[str]:
    """What people ask first: unbiased? how noisy? how dear?"""
    exact = "" if answer["repetitions"] == 1 else f", over {answer['repetitions']} repetitions"
    if answer["repetitions"] > 1 and answer["unbiased"]:
        largest = max(c["error"] / c["gradient"] for c in answer["cases"])
        exact += f" (standard error: at most {largest:.1%} of the gradient)"
    out = [f"Unbiased: {'yes' if answer['unbiased'] else 'NO'}{exact}."]
    if not answer["unbiased"]:
        out += [f"  {words}" for words in answer["in_words"]]
    ratios = [c["ratio"] for c in answer["cases"] if c["ratio"] is not None]
    if ratios:
        least, most = (0.0 if abs(ratio) < 1e-12 else ratio for ratio in (min(ratios), max(ratios)))  # rounding
        span = f"{least:.3g}" + (f" to {most:.3g}" if most > 1.005 * least else "")
        out.append(f"Variance: {span} times the reference's, over {len(ratios)} cases.")
    if answer["seconds_a_call"] is not None:
        times = answer["seconds_a_call"] / answer["reference_seconds_a_call"]
        out.append(f"Cost: {1e6 * answer['seconds_a_call']:.0f} µs a call, {times:.2g} times the reference's.")
    if answer["not_finite"]:
        often = f"{answer['not_finite']:,} of {answer['calls']:,} calls"
        out.append(f"NOT FINITE in {often}, first with {answer['first_not_finite']}.")
    if answer["writes_into"]:
        out.append(f"WRITES into its arguments: {', '.join(answer['writes_into'])}. It got copies here; copy in it.")
    if answer["tolerance"] > ROUNDING:
        out.append(f"Compared to {answer['tolerance']:.0e}, relative: its numbers are no finer; see --tolerance.")
    if answer["sampled"]:
        out.append("Not linear in `directions`, or randomised: no exact sum over directions. They were drawn, and the")
        out.append("lines that need such a sum were left out; --repetitions N averages over more. Which smoothed loss")
        out.append("it is unbiased for was not judged: mu is so small that all are alike.")
    elif answer["repetitions"] > 1:
        out.append("Randomised or repeated: exact rows are left out; --repetitions N averages over more. An estimator")
        out.append("that remembers earlier calls is not judged rightly: they come in a fixed order here.")
    if not answer["fresh_noise"] and answer["kind"] == "policy":
        out.append("It takes one p (n, N) only: the cases with fresh noise for each sample were left out.")
    return out
