"""One way to read a file that somebody else named: a regular file, of a bounded size, and nothing that waits.

A name can lead to a FIFO that nobody writes to, to a device that never ends, or to a file that holds no bytes on the
disk and gigabytes when it is read. What a name leads to is asked of the opened file, so it cannot change in between.
"""

import gzip
import os
import stat
import sys
from pathlib import Path
from typing import IO

from zopog_models.errors import UnusableFile
from zopog_models.files.quoting import quoted

__all__ = ["check_regular", "read_at_most", "read_untrusted", "read_untrusted_text", "refuse_pointer"]

# Opened without waiting for the other end, and without becoming the process's terminal; as bytes.
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))
_COPIED = 4 * 10**9  # bytes of tensors: a prompt, a checkpoint, predictions
_BLOCK = 1 << 20
_POINTER = b"version https://git-lfs.github.com/spec/"
_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe (FIFO)", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}  # fmt: skip


def read_untrusted(path: str | Path, most: int) -> bytes:
    """The bytes of a regular file, at most `most` of them. Links are followed.

    Raises UnusableFile: not there, not allowed, a folder, a pipe, a device, a socket, more bytes, a git-lfs pointer.
    """
    descriptor = _opened(path, most)
    try:
        with open(descriptor, "rb", closefd=False) as file:
            content = read_at_most(file, most)  # the size that was told need not be that of a file in /proc
    except OSError as error:
        raise UnusableFile(f"cannot read {path}: {error.strerror or error}") from None
    finally:
        os.close(descriptor)
    if content.startswith(_POINTER):
        raise UnusableFile(_pulled(path))
    if len(content) > most:
        raise UnusableFile(f"{path}: more than {most} bytes, at most {most} are allowed")
    return content


def read_at_most(file: IO[bytes] | gzip.GzipFile, most: int) -> bytes:
    """What is left of a file; of one with more than `most` bytes, more than that. Memory grows with what there is."""
    found = []
    left = most + 1
    while left > 0 and (block := file.read(min(left, _BLOCK))):
        found.append(block)
        left -= len(block)
    return b"".join(found)


def check_regular(path: str | Path, most: int = _COPIED) -> None:
    """The same of a file whose tensors are copied into memory. Raises UnusableFile."""
    os.close(_opened(path, most))


def _opened(path: str | Path, most: int) -> int:
    """A descriptor of a regular file that says that it is no larger. Raises UnusableFile."""
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        raise UnusableFile(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:  # a NUL in the name
        raise UnusableFile(f"cannot read {quoted(str(path))}: {error}") from None
    about = os.fstat(descriptor)
    if stat.S_ISREG(about.st_mode) and about.st_size <= most:
        return descriptor
    os.close(descriptor)
    if stat.S_ISREG(about.st_mode):
        raise UnusableFile(f"{path}: {about.st_size} bytes, at most {most} are allowed")
    kind = _KINDS.get(stat.S_IFMT(about.st_mode), "something else")
    raise UnusableFile(f"cannot read {path}: it is {kind}, not a file; save its content to a file first")


def refuse_pointer(path: str | Path) -> None:
    """Raises UnusableFile for what git-lfs leaves in a file's place; of a file that is mapped and not read."""
    with open(_opened(path, sys.maxsize), "rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise UnusableFile(_pulled(path))


def _pulled(path: str | Path) -> str:
    return f"{path} is a git-lfs pointer in place of the file: run `git lfs pull` in its repository"


def read_untrusted_text(path: str | Path, most: int) -> str:
    """The same as UTF-8, without a byte order mark. Raises UnusableFile, for other bytes too, naming the line."""
    content = read_untrusted(path, most)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnusableFile(f"{path}, line {line}: not UTF-8 ({error.reason} at byte {error.start})") from None
