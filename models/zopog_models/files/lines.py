"""Files of lines that are appended to: what a kill in the middle of a write leaves is half a line, and it goes."""

from pathlib import Path

from zopog_models.files.atomic import write_atomically

__all__ = ["whole_lines"]


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file. A torn last one is taken off the file too, so that appending can continue."""
    *lines, torn = path.read_bytes().split(b"\n")
    if torn:
        write_atomically(path, [line + b"\n" for line in lines])
    return lines
