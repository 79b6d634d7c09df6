"""How an object says in a line, and in a notebook in a table, what it is; its arrays are left out."""

from html import escape
from typing import Any

__all__ = ["Shown"]

_LONGEST = 200  # letters of a value, which may come from a file


class Shown:
    """`repr` and a notebook's table, both of `facts`."""

    def facts(self) -> dict[str, Any]:
        """What a person wants to know first, by name."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={_short(value)}' for name, value in self.facts().items())})"

    def _repr_html_(self) -> str:
        left = 'style="text-align:left"'
        rows = "".join(
            f"<tr><th {left}>{escape(name)}</th><td {left}>{escape(_short(value))}</td></tr>"
            for name, value in self.facts().items()
        )
        return f"<table><caption>{escape(type(self).__name__)}</caption>{rows}</table>"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
