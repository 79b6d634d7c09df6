"""requests.jsonl on a disk that takes no more: no answer is lost, no line is torn, nothing leaves any more."""

import errno
import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest

from zopog_models.files import durable
from zopog_models.files.durable import DiskFull
from zopog_models.served.request_log import RequestLog

SCORES = np.array([[0.25, -1.5]], np.float32)


def full(monkeypatch: pytest.MonkeyPatch, folder: Path, number: int, short: int) -> None:
    """Writes fail with this error, after `short` bytes, until the space held back is given up."""
    real, held = os.write, folder / ".requests.reserve"
    torn = itertools.count()

    def write(handle: int, data: bytes) -> int:
        if not held.exists():
            return real(handle, data)
        if short and next(torn) % 2 == 0:
            return real(handle, bytes(data)[:short])
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(durable.os, "write", write)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("short", [0, 7])
def test_an_answer_under_way_is_kept_and_nothing_else_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, short: int
) -> None:
    path, log = tmp_path / "requests.jsonl", RequestLog()
    log.sending("a", 1)  # before there is a file, as a probe does
    log.keep(path)
    log.sending("b", 1)
    with monkeypatch.context() as patch:
        full(patch, tmp_path, number, short)
        with pytest.raises(DiskFull, match=r"on the disk of .*requests\.jsonl: .*make room, then zopog tune --resume"):
            log.sending("c", 1)
        assert log.sent == 2  # it did not leave
        with pytest.raises(DiskFull, match="all that was paid for is kept"):
            log.answered("b", SCORES)
        log.answered("a", SCORES)  # another that was under way: the space is there now
    assert set(log.answers()) == {"a", "b"}
    log.close()
    assert [next(iter(json.loads(line))) for line in path.read_text().splitlines()] == ["sent"] * 2 + ["answered"] * 2
    again = RequestLog()
    again.keep(path)
    assert (again.sent, set(again.answers())) == (2, {"a", "b"})
    assert np.array_equal(again.answer("b"), SCORES)
    again.close()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["requests.jsonl"]


def test_an_answer_that_the_disk_takes_nowhere_counts_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = RequestLog()
    log.keep(tmp_path / "requests.jsonl")

    def write(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(durable.os, "write", write)
    with pytest.raises(DiskFull, match="the last answer could not be kept"):
        log.answered("a", SCORES)
    assert np.array_equal(log.answer("a"), SCORES)


def test_without_room_for_the_reserve_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(durable.os, "write", write)
    with pytest.raises(DiskFull, match="nothing was asked of the model; make room"):
        RequestLog().keep(tmp_path / "requests.jsonl")
    assert not list(tmp_path.iterdir())
