"""What a server, or a log of what it answered, may hold: found by fuzzing, each refused in a few words."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")
pytest.importorskip("tokenizers", reason="served models need a tokenizer (extra cpu)")

from tests.fuzz import servers
from tests.fuzz.mutation import http_answer
from tests.fuzz.target import as_json
from zopog_models.errors import ServiceError, SetupError
from zopog_models.served.pace import asked_pause
from zopog_models.served.request_log import RequestLog


def refused(folder: Path, answer: bytes) -> str:
    """The error's message for an answer to a question of two rows and two labels."""
    (folder / "infer.http").write_bytes(answer)
    with pytest.raises(ServiceError) as caught:
        servers._ask(False)(folder)
    assert len(str(caught.value)) < 2500
    return str(caught.value)


def test_the_valid_answer_is_read(tmp_path: Path) -> None:
    (tmp_path / "infer.http").write_bytes(http_answer(as_json(servers.LOGITS)))
    servers._ask(False)(tmp_path)


def test_a_chunk_of_more_bytes_than_there_can_be(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert "connection lost" in refused(tmp_path, head + b"9" * 30 + b"\r\n{}")
    assert "connection lost" in refused(tmp_path, head + b"no number\r\n{}")


def test_a_broken_status_line_is_not_repeated_whole(tmp_path: Path) -> None:
    assert "BadStatusLine" in refused(tmp_path, b"x" * 20_000 + b"\r\n\r\n")


@pytest.mark.parametrize(
    "text", ["Wed, 99 Oct 99999 07:28:00 GMT", "Wed, 21 Oct 99999 07:28:00 GMT", "soon", "1e9", ""]
)
def test_a_date_that_is_none_asks_for_no_pause(text: str) -> None:
    assert asked_pause({"retry-after": text}) is None


LINES = {
    "deep": b"[" * 100_000,
    "long": b'{"sent": "q", "attempt": ' + b"9" * 6000 + b"x}",
    "unknown": b'{"' + b"x" * 6000 + b'": 1}',
    "size": b'{"answered": "q", "shape": [9223372036854775808], "scores": ""}',
    "minus": b'{"answered": "q", "shape": [-5], "scores": "AAAA"}',
    "no list": b'{"failed": "q", "why": []}',
    "number": b"5",
    "why": b'{"failed": "q", "why": NaN}',
    "attempt": b'{"sent": "q", "attempt": "1"}',
    "who": b'{"sent": 5, "attempt": 1}',
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_log_that_somebody_edited(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(line + b"\n")
    with pytest.raises(ValueError, match="line 1 is no event of a request") as caught:
        RequestLog().keep(tmp_path / "log")
    assert len(str(caught.value)) < 500


def test_an_answer_in_the_log_that_does_not_fit_is_asked_again(tmp_path: Path) -> None:
    """Of another shape, or not finite: the server's is taken, and the log goes on."""
    (tmp_path / "infer.http").write_bytes(http_answer(as_json(servers.LOGITS)))
    servers._ask(False)(tmp_path)
    requests = servers._model(servers.open_remote, servers.URL, "bert", encoding="json").runner.requests
    ((identity, right),) = requests.log._answers.items()
    for wrong in (np.ones((2, 3), np.float32), np.full((2, 2), np.nan, np.float32)):
        log = RequestLog()
        log.answered(identity, wrong)
        requests.log = requests.transport.log = log
        assert np.array_equal(
            requests.ask("/v2/models/m/infer", b"", {}, identity, (2, 2), lambda answer: right), right
        )
        assert log.sent == 1


@pytest.mark.parametrize("change", [{"name": "x" * 9000}, {"name": "text_ids", "datatype": "x" * 9000}])
def test_a_model_that_describes_itself_at_length(change: dict[str, str], tmp_path: Path) -> None:
    (target,) = (target for target in servers.servers(tmp_path) if target.name == "kserve metadata")
    folder = tmp_path / "here"
    folder.mkdir()
    about = servers.METADATA | {"inputs": [servers.METADATA["inputs"][0] | change, *servers.METADATA["inputs"][1:]]}
    for name, content in (target.files | {"metadata.http": http_answer(as_json(about))}).items():
        (folder / name).write_bytes(content)
    with pytest.raises(SetupError) as caught:
        target.read(folder)
    assert len(str(caught.value)) < 1500
