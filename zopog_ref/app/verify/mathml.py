"""Formulas for the page of zopog verify: a few TeX commands to MathML, which browsers draw without any library."""

import re
from html import escape

_SYMBOLS = {
    "alpha": "α", "tau": "τ", "mu": "μ", "eta": "η", "sigma": "σ", "rho": "ρ", "xi": "ξ", "nabla": "∇", "partial": "∂",
    "epsilon": "ε", "gamma": "γ",
    "ell": "ℓ", "kappa": "κ", "infty": "∞", "pi": "π", "cdots": "⋯", "E": "𝔼", "P": "ℙ",
}  # fmt: skip
_OPERATORS = {
    "le": "≤", "ge": "≥", "sum": "∑", "prod": "∏", "cdot": "·", "neq": "≠", "sim": "∼", "pm": "±", "to": "→", "in": "∈",
    "norm": "‖", "mid": "|", "propto": "∝", "approx": "≈", "ll": "≪", "times": "×",
}  # fmt: skip
_WORDS = {"log", "Var", "Cov", "tr", "max", "min", "softmax", "cov"}
_TOKEN = re.compile(r"\\[A-Za-z]+|\\[,{}]|\d+(?:\.\d+)?|[{}_^]|[A-Za-z]|\s+|.")


def mathml(source: str, block: bool = True) -> str:
    r"""A <math> element from TeX-like source: letters, \alpha, \frac{}{}, \sqrt{}, \hat{}, \bar{}, \text{}, _ and ^."""
    tokens = [token for token in _TOKEN.findall(_protect_text(source)) if not token.isspace()]
    body, rest = _row(tokens, None)
    if rest:
        raise ValueError(f"a formula has a closing brace too many: {source}")
    display = ' display="block"' if block else ""
    return f'<math xmlns="http://www.w3.org/1998/Math/MathML"{display}>{body}</math>'


def _protect_text(source: str) -> str:
    """Spaces inside \\text{...} survive tokenisation as \\, ."""
    return re.sub(r"\\text\{([^}]*)\}", lambda m: "\\text{" + m.group(1).replace(" ", "\\,") + "}", source)


def _row(tokens: list[str], end: str | None) -> tuple[str, list[str]]:
    out: list[str] = []
    while tokens:
        if tokens[0] == end:
            return f"<mrow>{''.join(out)}</mrow>", tokens[1:]
        if tokens[0] == "}":
            return f"<mrow>{''.join(out)}</mrow>", tokens
        item, tokens = _item(tokens)
        item, tokens = _scripts(item, tokens)
        out.append(item)
    if end is not None:
        raise ValueError("a formula has an open brace")
    return f"<mrow>{''.join(out)}</mrow>", tokens


def _scripts(base: str, tokens: list[str]) -> tuple[str, list[str]]:
    below = above = ""
    while tokens and tokens[0] in "_^":
        sign, tokens = tokens[0], tokens[1:]
        item, tokens = _item(tokens)
        below, above = (item, above) if sign == "_" else (below, item)
    limits = base in ("<mo>∑</mo>", "<mo>∏</mo>")
    if below and above:
        kind = "munderover" if limits else "msubsup"
        return f"<{kind}>{base}{below}{above}</{kind}>", tokens
    if below:
        kind = "munder" if limits else "msub"
        return f"<{kind}>{base}{below}</{kind}>", tokens
    return (f"<msup>{base}{above}</msup>" if above else base), tokens


def _item(tokens: list[str]) -> tuple[str, list[str]]:
    token, tokens = tokens[0], tokens[1:]
    if token == "{":
        return _row(tokens, "}")
    if token.startswith("\\"):
        return _command(token[1:], tokens)
    if token[0].isdigit():
        return f"<mn>{token}</mn>", tokens
    if token.isalpha():
        return f"<mi>{token}</mi>", tokens
    return f"<mo>{'−' if token == '-' else escape(token)}</mo>", tokens


def _command(name: str, tokens: list[str]) -> tuple[str, list[str]]:
    if name == "frac":
        top, tokens = _item(tokens)
        bottom, tokens = _item(tokens)
        return f"<mfrac>{top}{bottom}</mfrac>", tokens
    if name == "sqrt":
        inside, tokens = _item(tokens)
        return f"<msqrt>{inside}</msqrt>", tokens
    if name in ("hat", "bar"):
        inside, tokens = _item(tokens)
        return f'<mover accent="true">{inside}<mo>{"^" if name == "hat" else "¯"}</mo></mover>', tokens
    if name == "text":
        end = tokens.index("}")
        words = "".join("\u00a0" if t == "\\," else t for t in tokens[1:end])
        return f"<mtext>{escape(words)}</mtext>", tokens[end + 1 :]
    if name in "{}":
        return f"<mo>{name}</mo>", tokens
    if name == ",":
        return '<mspace width="0.35em"/>', tokens
    if name in _WORDS:
        return f"<mi>{name}</mi>", tokens
    if name in _SYMBOLS:
        return f"<mi>{_SYMBOLS[name]}</mi>", tokens
    if name in _OPERATORS:
        stretch = ' stretchy="false"' if name in ("norm", "mid") else ""
        return f"<mo{stretch}>{_OPERATORS[name]}</mo>", tokens
    raise ValueError(f"a formula uses \\{name}, which is not known here")
