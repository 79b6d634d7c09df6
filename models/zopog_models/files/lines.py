"""Files of lines that are appended to: what a kill in the middle of a write leaves is half a line, and it goes."""

from pathlib import Path

from zopog_models.files.atomic import write_atomically
from zopog_models.files.untrusted import read_untrusted

__all__ = ["LARGEST", "whole_lines"]

LARGEST = 2 * 10**9  # bytes


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file. A torn last one is taken off the file too, so that appending can continue.

    Raises UnusableFile: no regular file, or more than 2 GB.
    """
    *lines, torn = read_untrusted(path, LARGEST).split(b"\n")
    if torn:
        write_atomically(path, [line + b"\n" for line in lines])
    return lines
