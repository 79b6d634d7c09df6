"""verify.html: the lines with their formulas, numbers, plots and links, in one file that needs nothing else."""

import inspect
import re
from collections.abc import Sequence
from typing import Any

from zopog_ref.app.report.html import minus, render
from zopog_ref.app.report.svg import Svg
from zopog_ref.app.verify.figures import Figure
from zopog_ref.app.verify.formulas import FORMULAS, mathml
from zopog_ref.app.verify.listing import span, verdict
from zopog_ref.convergence.comparison import Equality
from zopog_ref.convergence.lines import Result

GROUPS = (
    ("Assumptions", "What a user has to grant, and what follows from it.", ("A",)),
    ("The discrete prompt", "Score, policy gradient, variance, Proposition 1.", ("S", "V")),
    ("Gumbel noise", "Fresh with every sample, once a step, or reused.", ("G",)),
    ("The continuous prompt", "Two-point estimates, shared and per-example directions.", ("Z",)),
    ("Convergence", "Descent of both half steps, Theorem 1, complexity.", ("D", "T", "W", "C")),
    ("On a real language model", "The embedded model, with every prompt enumerated.", ("M",)),
)
_GREEK = (
    ("sigma_alpha^2", "σ_α²"), ("sigma_g^2", "σ_g²"), ("sigma_z^2", "σ_z²"), ("L_alpha", "L_α"), ("alpha", "α"),
    ("tau", "τ"), ("eta_z", "η_z"), ("rho ", "ρ "), ("rho-", "ρ-"), ("mu^2", "μ²"), ("eps^2", "ε²"), ("||", "‖"),
    ("^2", "²"), ("<=", "≤"), (">=", "≥"), ("sqrt(d)", "√d"), ("mu*", "μ*"), ("grad ", "∇"), ("I2", "I₂"),
    ("I1", "I₁"), (": -", ": −"), ("slope -", "slope −"), ("exponent -", "exponent −"), ("is -", "is −"),
)  # fmt: skip


def page(results: Sequence[Result], found: dict[str, Any], figures: Sequence[Figure]) -> str:
    """The whole page: safe to send, since each line holds its function's source and links lead nowhere else."""
    rows = {r["key"]: r for r in found["rows"]}
    groups = [
        (title, lead, [_line(r, rows[r.line.key]) for r in results if _letter(r) in letters])
        for title, lead, letters in GROUPS
    ]
    model = [(greek(name), value) for name, value in found["model"].items()]
    return render("verify.html", found=found, rows=rows, groups=groups, figures=figures, model=model)


def greek(text: str) -> str:
    """Names of symbols as they are printed in the terminal, as symbols."""
    for name, symbol in _GREEK:
        text = text.replace(name, symbol)
    for name, symbol in (("eps", "ε"), ("mu", "μ")):  # whole words: "steps" and "must" stay what they are
        text = re.sub(rf"\b{name}\b", symbol, text)
    return text


def _letter(result: Result) -> str:
    return "M" if result.line.key.startswith("model") else result.line.label[0]


def _line(result: Result, row: dict[str, Any]) -> dict[str, Any]:
    """What the page shows of one line. used: the share of a bound that is used, in percent."""
    line, c = result.line, result.shown
    measure, used = f"ratio {span(result)}", None
    if isinstance(c, Equality):
        exact = f"largest difference {short(float(f'{abs(c.gap):.1g}'))}"
        measure = exact if c.exact else f"z = {short(round(c.z, 2))}"
    elif c.ratio != c.ratio:
        measure = ""
    else:
        used = 100 * min(1.0, max(0.0, c.ratio))
    return {
        "kind": "good" if result.holds else ("bad" if line.required else "not"), "key": line.key, "label": line.label,
        "statement": greek(line.statement), "formula": Svg(mathml(FORMULAS[line.key])), "status": line.status,
        "function": row["function"], "test": row["test"], "source": inspect.getsource(line.function).rstrip(),
        "left": short(c.left), "sign": "=" if row["relation"] == "=" else "≤", "right": short(c.right),
        "measure": measure, "used": used, "case": greek(c.case), "verdict": verdict(result),
    }  # fmt: skip


def short(value: float) -> str:
    return minus(f"{value:.4g}")
