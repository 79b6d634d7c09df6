"""verify.html: the lines with their formulas, numbers, plots and links, in one file that needs nothing else."""

# ruff: noqa: E501 (HTML text)

import os
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from zopog_ref.app.verify.figures import Figure
from zopog_ref.app.verify.formulas import FORMULAS
from zopog_ref.app.verify.listing import ROOT, span, verdict
from zopog_ref.app.verify.mathml import mathml
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


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>zopog verify: the convergence analysis, line by line</title><style>{style}</style></head>
<body><main>{body}</main></body></html>
"""
_HEAD = """<header><p class="eyebrow">zopog verify</p><h1>The convergence analysis of ZO-PoG, line by line</h1>
<p class="lead">Every assumption, identity, bound and rate of the analysis as a number. <em>Proved</em> lines are derived in
docs/theory.md and hold whatever the paper's appendix says; <em>reported</em> ones come from the official code and published
reviews. Most comparisons are exact: an estimator is called on everything its inputs can be, and the other side is an
enumeration that does not call it.</p>
<div class="tiles"><div class="tile {tone}"><b>{state} {required}</b><span>proved or confirmed rows hold</span></div>
<div class="tile"><b>{others}</b><span>rows shown without being required: reported lines, measurements</span></div>
<div class="tile"><b>|z| ≤ {threshold:.2f}</b><span>for {sampled} sampled comparisons: any false alarm at all has probability
{family:g}</span></div><div class="tile"><b>{seconds:.0f} s</b><span>seed {seed}, effort {effort}, one process</span></div>
</div></header>"""
_ROW = """<article class="{kind}" id="{key}"><div class="label">{label}</div>
<div class="what"><h3>{statement}</h3><div class="formula">{formula}</div><div class="links">{links}</div></div>
<div class="numbers"><span class="status {colour}">{status}</span><span class="sides">{left} <b>{sign}</b> {right}</span>
<span class="measure">{measure}</span>{bar}<span class="case">{case}</span></div><div class="verdict">{verdict}</div></article>"""
_GREEK = (
    ("sigma_alpha^2", "σ_α²"), ("sigma_g^2", "σ_g²"), ("sigma_z^2", "σ_z²"), ("L_alpha", "L_α"), ("alpha", "α"), ("tau", "τ"),
    ("eta_z", "η_z"), ("rho ", "ρ "), ("rho-", "ρ-"), ("mu^2", "μ²"), ("eps^2", "ε²"), ("||", "‖"), ("^2", "²"), ("<=", "≤"), (">=", "≥"),
    ("sqrt(d)", "√d"), ("mu*", "μ*"), ("grad ", "∇"), ("I2", "I₂"), ("I1", "I₁"), (": -", ": −"), ("slope -", "slope −"), ("exponent -", "exponent −"), ("is -", "is −"),
)  # fmt: skip


def _greek(text: str) -> str:
    """Names of symbols as they are printed in the terminal, as symbols."""
    for name, symbol in _GREEK:
        text = text.replace(name, symbol)
    for name, symbol in (("eps", "ε"), ("mu", "μ")):  # whole words: "steps" and "must" stay what they are
        text = re.sub(rf"\b{name}\b", symbol, text)
    return escape(text)


def page(results: Sequence[Result], found: dict[str, Any], figures: Sequence[Figure], out: Path) -> str:
    """The whole page. out is where it will lie: links to functions and tests are relative to it where they can be."""
    base = os.path.relpath(ROOT, out.resolve()) if (ROOT / "tests").is_dir() else ""
    rows = {r["key"]: r for r in found["rows"]}
    body = [_head(found), _answers(found)]
    for title, lead, letters in GROUPS:
        group = [r for r in results if _letter(r) in letters]
        if group:
            items = "".join(_row(r, rows[r.line.key], base) for r in group)
            lines = f'<p class="lead">{lead}</p><div class="lines">{items}</div>'
            body.append(f"<section><h2>{title}</h2>{lines}</section>")
    body.append(_figures(figures))
    body.append(_runs(found))
    body.append(_foot(found))
    style = (Path(__file__).parents[1] / "report" / "verify_page.css").read_text(encoding="utf-8")
    return _PAGE.format(style=style, body="".join(body))


def _letter(result: Result) -> str:
    return "M" if result.line.key.startswith("model") else result.line.label[0]


def _head(found: dict[str, Any]) -> str:
    s = found["summary"]
    whole = s["required_holding"] == s["required"]
    return _HEAD.format(
        tone="good" if whole else "bad", state="All" if whole else f"{s['required_holding']} of", required=s["required"],
        others=s["rows"] - s["required"], threshold=s["z_threshold"], sampled=s["sampled_comparisons"],
        family=s["family_wise_error"], seconds=found.get("seconds", 0), seed=found["seed"], effort=found["effort"],
    )  # fmt: skip


def _answers(found: dict[str, Any]) -> str:
    """Questions that readers of the paper and of its reviews ask, answered with this run's numbers."""
    rows = {r["key"]: r for r in found["rows"]}
    slope, unbiased, paper = rows["slope-I"], rows["V4"], rows["V4-paper"]
    far = (slope["left"] + 2) / slope["uncertainty"]
    items = [
        ("Does the shared baseline bias the policy gradient?",
         f"No. Over all tuples of prompts its mean is the gradient to {abs(unbiased['z']) * 1e-10:.0e}, and at n = 20, N = 100, "
         f"I = 20 it is {paper['left']:.4f} ± {paper['uncertainty']:.4f} times it [V4]."),
        ("Is its variance of order 1/I², as the reported Proposition 1 has it?",
         f"No. The slope is {_short(round(slope['left'], 3))} ± {slope['uncertainty']:.3f}, {far:.0f} standard errors from −2; it follows an "
         "exact formula [V5], and the bound holds with 1/I [V7]."),
        ("Do rows of α shrink when they are clipped at 1e-11?",
         "No: a step never shrinks a row, clipped or not [S5]. But an entry on the floor has a score of up to 1e11."),
        ("Does the analysis cover the algorithm as run?",
         "With a fresh mini-batch and a fresh Gumbel noise in each half step, yes: under per_step noise, the default, with the variance "
         "over the noise added [G2] [G4], which no number of samples lowers. One batch for both halves and one noise for two, as the "
         "algorithm and the official code have it, cost a further term each, and both are needed [T1]. Clipping is covered [T1b]."),
    ]  # fmt: skip
    cells = "".join(f"<div><dt>{escape(q)}</dt><dd>{escape(a)}</dd></div>" for q, a in items)
    return f'<section><h2>In short</h2><dl class="answers">{cells}</dl></section>'


def _row(result: Result, row: dict[str, Any], base: str) -> str:
    line, c = result.line, result.shown
    measure, bar = _measure(result)
    return _ROW.format(
        kind="good" if result.holds else ("bad" if line.required else "not"), key=escape(line.key),
        label=escape(line.label), statement=_greek(line.statement), formula=mathml(FORMULAS[line.key]),
        links="".join(_link(row[what], base) for what in ("function", "test")), colour=line.status.split(",")[0],
        status=line.status, left=_short(c.left), sign="=" if row["relation"] == "=" else "≤", right=_short(c.right),
        measure=measure, bar=bar, case=_greek(c.case), verdict=verdict(result),
    )  # fmt: skip


def _measure(result: Result) -> tuple[str, str]:
    """How left and right compare, in words, and for a bound the bar of how much of it is used."""
    c = result.shown
    if isinstance(c, Equality):
        if not c.exact:
            return f"z = {_short(round(c.z, 2))}", ""
        return f"largest difference {_short(float(f'{abs(c.gap):.1g}'))}", ""
    if c.ratio != c.ratio:
        return "", ""
    share = 100 * min(1.0, max(0.0, c.ratio))
    return (
        f"ratio {span(result)}",
        f'<span class="bar" title="share of the bound used"><i style="width:{share:.1f}%"></i></span>',
    )


def _link(place: str, base: str) -> str:
    return f'<a href="{escape(os.path.join(base, place) if base else place)}">{escape(place)}</a>'


def _short(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")


def _figures(figures: Sequence[Figure]) -> str:
    cells = "".join(
        f'<figure><figcaption><b>{escape(f.title)}</b><span class="tags">{escape(f.labels)}</span></figcaption>{f.body}</figure>'
        for f in figures
    )
    return (
        '<section><h2>The rates, measured</h2><p class="lead">Dots with bars of two standard errors; dashed, what the line '
        f'predicts without any fit.</p><div class="figures">{cells}</div></section>'
    )


def _runs(found: dict[str, Any]) -> str:
    """Tables of what runs of Algorithm 1 did."""
    out = []
    if found["final_loss"]:
        body = "".join(
            f"<tr><td>{escape(r['mode'])}</td><td>{escape(r['directions'])}</td><td>{r['loss']:.3f} ± {r['error']:.3f}</td></tr>"
            for r in found["final_loss"]
        )
        out.append("<h3>Where runs end, by noise and directions</h3><p>Loss at the deployed prompt after 100 steps of 40 calls, "
                   "Gaussian wells with n = 4, N = 5, d = 4, the same step sizes for all.</p><div class=scroll><table><tr><th>"
                   f"Gumbel noise</th><th>directions</th><th>loss</th></tr>{body}</table></div>")  # fmt: skip
    if found.get("noise_modes"):
        body = "".join(
            f"<tr><td>{escape(r['alpha'])}</td><td>{escape(r['mode'])}</td><td>{r['gradient2']:.4f}</td>"
            f"<td>{r['variance']:.4f}</td><td>{r['ratio']:.2f}</td></tr>"
            for r in found["noise_modes"]
        )
        out.append("<h3>Signal and noise of the policy gradient, by mode of Gumbel noise</h3><p>Exact, I = 20, binary vocabulary "
                   "with n = 2; medians over 50 random problems.</p><div class=scroll><table><tr><th>row of α</th><th>Gumbel noise"
                   f"</th><th>‖∇L‖²</th><th>tr Cov</th><th>ratio</th></tr>{body}</table></div>")  # fmt: skip
    if found["model"]:
        body = "".join(f"<tr><td>{_greek(k)}</td><td>{escape(str(v))}</td></tr>" for k, v in found["model"].items())
        out.append(f"<h3>Measured on the embedded model</h3><div class=scroll><table>{body}</table></div>")
    return f"<section><h2>Runs</h2>{''.join(out)}</section>" if out else ""


def _foot(found: dict[str, Any]) -> str:
    skipped = "".join(f"<p>Skipped: {escape(reason)}.</p>" for reason in found["summary"]["skipped"])
    return (
        f"<footer>{skipped}<p>zopog-ref {escape(found['zopog-ref'])}, NumPy {escape(found['numpy'])}, Python "
        f"{escape(found['python'])}, {escape(found['machine'])}. All numbers of this page are in verify.json.</p></footer>"
    )
