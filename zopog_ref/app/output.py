"""What a command writes: its answer on stdout, messages on stderr. Nothing in them steers the terminal.

Machine output is UTF-8, whatever the terminal's encoding is: it is read by programs, ours too.
"""

import json
import logging
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def printable(text: str) -> str:
    """Without control characters: a name or a text from a file must not steer the terminal."""
    return "".join(c if c in "\n\t" or not unicodedata.category(c).startswith("C") else repr(c)[1:-1] for c in text)


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


def show(text: str) -> None:
    """An answer for people, on stdout."""
    _flush(sys.stdout, printable(text) + "\n")


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
    stream.write(text)
    stream.flush()
