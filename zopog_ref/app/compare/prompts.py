"""The learned prompts of a comparison's report: text, and the probabilities of its tokens where a method has them."""

# ruff: noqa: E501 (HTML text)

from html import escape
from typing import Any

from zopog_ref.app.compare.plan import MANUAL
from zopog_ref.app.compare.table import ranked

_SPACES = {"Ġ": "␣", "▁": "␣", "\n": "↵", "\t": "⇥"}  # a tokenizer's ways to write the space before a word


def prompts(task: dict[str, Any]) -> str:
    """Every method's prompts, a line a seed."""
    methods = [m for m in ranked(task) if m["name"] != MANUAL]
    cards = "".join(_method(m) for m in methods)
    return (
        '<h3>What was learned</h3><p class="note">The tokens that stand before the text, best run first; the continuous part that is added to them has no words. The number '
        "behind a token, and its shade, is its probability in the learned distribution where the method has one.</p>"
        f'<div class="prompts">{cards}</div>'
    )


def _method(method: dict[str, Any]) -> str:
    cells = sorted(method["cells"], key=lambda cell: -cell.get("test", {"accuracy": 0.0})["accuracy"])
    runs = "".join(_run(cell) for cell in cells)
    most = max(cell["prompts"] for cell in cells)
    about = "one prompt a run" if most == 1 else f"a distribution over prompts, {most} in a run"
    return f'<div class="prompt"><h4>{escape(method["name"])}<span>{about}</span></h4>{runs}</div>'


def _run(cell: dict[str, Any]) -> str:
    shown = f"{cell['test']['accuracy']:.1%}" if "test" in cell else f"dev {cell['dev_accuracy']:.1%}"
    texts = cell["prompt"]["texts"]
    several = cell["prompt"]["distinct"] > 1
    lines = "".join(_chips(text, several) for text in texts)
    more = cell["prompt"]["distinct"] - len(texts)
    rest = f'<div class="soft">and {more} more texts</div>' if more > 0 else ""
    return f'<div class="run"><span class="soft">seed {cell["seed"]} <b>{shown}</b></span><div>{lines}{rest}</div>{_positions(cell)}</div>'


def _chips(text: dict[str, Any], several: bool) -> str:
    weight = f'<span class="soft">{text["weight"]:.0%}</span>' if several else ""
    chances = text.get("probabilities") or [None] * len(text["tokens"])
    chips = "".join(_chip(token, p) for token, p in zip(text["tokens"], chances))
    return f'<div class="chips">{weight}{chips}</div>'


def _chip(token: str, p: float | None) -> str:
    if p is None:
        return f'<span class="chip">{escape(readable(token))}</span>'
    shade = f"background:color-mix(in srgb,var(--c1) {6 + 34 * p:.0f}%,var(--tint))"
    return f'<span class="chip" style="{shade}" title="probability {p:.3g}">{escape(readable(token))}<i>{_short(p)}</i></span>'


def _positions(cell: dict[str, Any]) -> str:
    positions = cell["prompt"]["positions"]
    if positions is None:
        return ""
    rows = "".join(
        f"<tr><td>{i}</td>" + "".join(f"<td>{_chip(token, p)}</td>" for token, p in row) + "</tr>"
        for i, row in enumerate(positions, 1)
    )
    return f'<details><summary>the likeliest tokens of every position</summary><div class="scroll"><table>{rows}</table></div></details>'


def _short(p: float) -> str:
    return "1" if p > 0.995 else f"{p:.2f}".removeprefix("0") if p >= 0.005 else "0"


def readable(token: str) -> str:
    """A token as a person reads it: the mark of a leading space as an open box."""
    for mark, shown in _SPACES.items():
        token = token.replace(mark, shown)
    return token
