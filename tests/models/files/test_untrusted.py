"""untrusted: a regular file of an agreed size is read; whatever would wait, or never end, is refused at once."""

import os
import re
import socket
from pathlib import Path

import pytest

from zopog_models import TaskError, load_task, make_task, read_rows
from zopog_models.errors import UnusableFile
from zopog_models.files.untrusted import read_untrusted, read_untrusted_text


def test_regular_files_and_links_to_them(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\xef\xbb\xbfa \xc3\xbc")
    (tmp_path / "link").symlink_to(file)
    assert read_untrusted(tmp_path / "link", 7) == file.read_bytes()
    assert read_untrusted_text(str(file), 7) == "a ü"
    with pytest.raises(UnusableFile, match="7 bytes, at most 5 are allowed"):
        read_untrusted(file, 5)
    file.write_bytes(b"a\n\xff")
    with pytest.raises(UnusableFile, match="line 2: not UTF-8"):
        read_untrusted_text(file, 100)


@pytest.mark.parametrize("kind", ["a pipe", "a device", "a folder", "a socket"])
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.tsv"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a folder":
        path.mkdir()
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.close()
    with pytest.raises(
        UnusableFile, match=rf"cannot read .*x\.tsv: ({'No such device' if kind == 'a socket' else f'it is {kind}'})"
    ):
        read_untrusted(path, 100)
    with pytest.raises(TaskError, match=re.escape(str(path))):
        read_rows(path, make_task("{text} {mask}", {"0": "bad", "1": "good"}))
    with pytest.raises(TaskError, match=r"x\.toml"):
        load_task(path.rename(tmp_path / "x.toml"))


def test_sizes_that_are_not_told(tmp_path: Path) -> None:
    """A file of /proc says 0 bytes; a sparse one says what it is."""
    with pytest.raises(UnusableFile, match="more than 10 bytes"):
        read_untrusted("/proc/self/status", 10)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(3_000_000_000)
    with pytest.raises(UnusableFile, match="3000000000 bytes, at most 1000000 are allowed"):
        read_untrusted(tmp_path / "sparse", 1_000_000)


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(UnusableFile, match=r"cannot read .*nothing: No such file"):
        read_untrusted(tmp_path / "nothing", 10)
    with pytest.raises(UnusableFile, match=r"cannot read 'a.x00b'"):
        read_untrusted("a\0b", 10)
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(UnusableFile, match="Too many levels"):
        read_untrusted(tmp_path / "a", 10)
