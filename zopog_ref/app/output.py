"""What a command writes: its answer on stdout, messages on stderr. Nothing in them steers the terminal.

Machine output is UTF-8, whatever the terminal's encoding is: it is read by programs, ours too.
"""

import json
import logging
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def printable(text: str) -> str:
    """Without control characters: a name or a text from a file must not steer the terminal."""
    return "".join(c if c in "\n\t" or not unicodedata.category(c).startswith("C") else repr(c)[1:-1] for c in text)


_KEPT = re.compile(r"\b(zopog|pip|python) |\x1b")
_quiet = False


def be_quiet(quiet: bool) -> None:
    """--quiet: no messages but errors."""
    global _quiet
    _quiet = quiet


def say(message: str, error: bool = False) -> None:
    """A message to the user: stderr, so that stdout stays what the command answers. error: even if --quiet."""
    if _quiet and not error:
        return
    _flush(sys.stderr, printable(message) + "\n")


class _Said(logging.Handler):
    """Says what the packages log."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"{record.name}: {record.getMessage()}")


@contextmanager
def logged(verbosity: int) -> Iterator[None]:
    """-v: the packages' logs of level INFO are said, -vv: those of level DEBUG, too."""
    handler, level = _Said(), {0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    loggers = [logging.getLogger(name) for name in ("zopog_ref", "zopog_models")] if verbosity else []
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, its in zip(loggers, before):
            logger.removeHandler(handler)
            logger.setLevel(its)


def show(text: str, styled: bool = False) -> None:
    """An answer for people, on stdout. styled: what steers a terminal in it is ours."""
    _flush(sys.stdout, (text if styled else printable(text)) + "\n")


def folded(text: str, width: int) -> str:
    """Lines of at most this width, broken between words; below a column's text, what goes on there is indented.

    A command stays one line, so that it can be copied.
    """
    out = []
    for line in text.split("\n"):
        if len(line) > width and not _KEPT.search(line):
            gap = re.search(r"^ *\S*  +", line)  # before the text of a column
            indent = " " * gap.end() if gap and gap.end() <= width // 2 else ""
            line = textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        out.append(line)
    return "\n".join(out)


def show_json(value: Any, indent: int | None = None) -> None:
    """An answer for programs: one JSON value and a line's end, in UTF-8.

    Control characters and half surrogate pairs are written as JSON's own escapes, which a reader turns back.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    content = "".join(c if c == "\n" or c == " " or c.isprintable() else _escaped(c) for c in text) + "\n"
    binary = getattr(sys.stdout, "buffer", None)
    sys.stdout.flush()
    if binary is None:  # a stream of text alone, as in a notebook
        sys.stdout.write(content)
    else:
        binary.write(content.encode())
    sys.stdout.flush()


def never_fail_at_a_letter() -> None:
    """Letters that the terminal's encoding does not have are written as escapes."""
    for stream in (sys.stdout, sys.stderr):
        change: Callable[..., None] | None = getattr(stream, "reconfigure", None)
        if change is not None:
            change(errors="backslashreplace")


def _escaped(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass").hex()
    return re.sub("....", r"\\u\g<0>", units)


def _flush(stream: Any, text: str) -> None:
    width = shutil.get_terminal_size((0, 0)).columns if stream.isatty() else 0
    stream.write(folded(text, width) if width else text)
    stream.flush()
