"""What a terminal shows: tables and lines that rewrite themselves, never wider than it is.

In a file, a pipe, a notebook or a dumb terminal there are plain lines, for which rich need not be installed.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TextIO

from zopog_ref.app.output import printable
from zopog_ref.app.packages import from_extra

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text


def terminal(stream: TextIO) -> "Console | None":
    """The terminal behind a stream, if what stands on it can be rewritten. Errors: MissingPackage without rich."""
    if not stream.isatty():
        return None
    with from_extra():
        from rich.console import Console
    console = Console(file=stream)
    return console if console.is_interactive else None


def rewritten(console: "Console") -> "Live":
    """A part of the terminal that each update draws anew, below what else is written on stderr; it ends with stop()."""
    from rich.live import Live

    live = Live(console=console, auto_refresh=False, redirect_stdout=False)  # stdout is the command's answer
    live.start()
    return live


def flowed(items: Iterable[str], width: int) -> "Text":
    """The items with two spaces between them; lines are broken between items, or inside one that is too wide."""
    from rich.cells import cell_len
    from rich.text import Text

    lines: list[str] = []
    for item in items:
        joined = f"{lines[-1]}  {item}" if lines else item
        if lines and cell_len(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(item)
    return Text("\n".join(lines), overflow="fold")


def table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str, least: Sequence[int] = ()) -> str:
    """A table for stdout. align: l or r a column; least: widths that columns have at least.

    Where the terminal is narrower, cells are broken before "(" or "+". Where that is not enough, every row becomes a
    paragraph: its texts, then each number with its column's name.
    """
    console, body = terminal(sys.stdout), [[printable(cell) for cell in row] for row in (header, *rows)]
    lines, head = _aligned(body, align, least), 1
    if console is None:
        return "\n".join(lines)
    if max(map(len, lines)) > console.width:
        parts = [[[*re.split(" (?=[(+])", cell, maxsplit=1), ""] for cell in row] for row in body]
        halves = [half for row in parts for half in ([cell[0] for cell in row], [cell[1] for cell in row]) if any(half)]
        lines, head = _aligned(halves, align, ()), 1 + any(cell[1] for cell in parts[0])
    from rich.text import Text

    with console.capture() as captured:
        if max(map(len, lines)) <= console.width:
            for i, line in enumerate(lines):
                console.print(Text(line, "bold" if i < head else ""))
        else:
            for row in body[1:]:
                texts = [cell for cell, side in zip(row, align) if side == "l" and cell]
                numbers = [
                    f"{n} {cell}" for n, cell, side in zip(header, row, align) if side == "r" and cell not in ("", "-")
                ]
                console.print(Text("  ".join(texts), "bold"), flowed(numbers, console.width), sep="\n")
    return captured.get().rstrip("\n")


def _aligned(body: Sequence[Sequence[str]], align: str, least: Sequence[int]) -> list[str]:
    widths = [max([*(len(row[i]) for row in body), *least[i : i + 1]]) for i in range(len(align))]
    return [
        "  ".join(cell.ljust(w) if side == "l" else cell.rjust(w) for cell, w, side in zip(row, widths, align)).rstrip()
        for row in body
    ]
