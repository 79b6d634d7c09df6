"""The formulas of the pages as mathematics: indices as indices, and each labelled line with its formula as MathML.

Pages are written in plain Unicode, which reads well in an editor and where the code is kept. A browser fetches nothing.
"""

import re
from collections.abc import Callable, Mapping

_TAG = re.compile(r"(<[^>]*>)")
_LEFT_ALONE = re.compile(r"<(/?)(?:code|pre|math|svg|script|style)\b")
# What may bear an index: a letter, a symbol, a bracket. `_min`, `_max`, `_ij` and one sign are indices, or what stands
# in braces, as are `^k`, `^-2.5` and so on; a sign before a word or a digit, as in n_positions and sm_80, is none.
_INNER = r"\{((?:[^{}]|\{[^{}]*\})*)\}"
_BASE = r"(?<=[A-Za-zα-ωΑ-Ωℓ∇ΣΠ∂∫ĝĥ\u0302\u0304⁻²³⁺)\]‖>*])"
_INDEX = re.compile(rf"{_BASE}_(?:{_INNER}|(min|max|ij|ik|i\d|kb|km|sr|GG|ξ|[A-Za-z0-9α-ω](?![a-z]{{2}}|\d)))")
_POWER = re.compile(rf"(?<=[\w)\]‖>])\^(?:{_INNER}|([−-]?\d+(?:\.\d+)?|[+*⁺]|[A-Za-z](?![a-z]{{2}})))")
_LABELLED = re.compile(r"(<(?:li|p)>\s*(?:<p>)?<strong>)((?:\[[A-Z]\d[a-z]?\](?:, )?)+)([^<]*</strong>)")


def with_indices(html: str) -> str:
    """E_t and s^k as they are set in print, outside code."""
    parts, inside = [], 0
    for part in _TAG.split(html):
        if part.startswith("<"):
            if (found := _LEFT_ALONE.match(part)) and not part.endswith("/>"):
                inside += -1 if found[1] else 1
        elif not inside:
            part = _set(part)
        parts.append(part)
    return "".join(parts)


def _set(text: str) -> str:
    def lower(found: re.Match[str]) -> str:
        return f"<sub>{_set(found[1] or found[2])}</sub>"

    def upper(found: re.Match[str]) -> str:
        return f"<sup>{_set(found[1] or found[2])}</sup>"

    return _POWER.sub(upper, _INDEX.sub(lower, text))


def with_formulas(html: str, formulas: Mapping[str, str], drawn: Callable[[str], str]) -> str:
    """The formula of each label behind it, where a line begins with labels that have one."""

    def line(found: re.Match[str]) -> str:
        shown = [drawn(formulas[label]) for label in re.findall(r"\[(\w+)\]", found[2]) if label in formulas]
        return f"{found[1]}{found[2]}{found[3]}{''.join(shown)} "

    return _LABELLED.sub(line, html)
