"""`zopog bench loss`: two processes in turn, a ratio, and a check that both computed the same."""

import json
import sys
from pathlib import Path

import pytest

from tests.app.conftest import Run

SMALL = ["--rounds", 2, "--batch-size", 2, "--n-positions", 3, "--text-length", 8, "--threads", 1, "--json"]
OURSELVES = f"{sys.executable} -m zopog_ref.app.command_line bench loss"


def test_against_itself_the_logits_are_equal(zopog: Run) -> None:
    code, out, _ = zopog("bench", "loss", *SMALL, "--peer", OURSELVES)
    report = json.loads(out)
    assert code == 0
    assert report["largest_difference"] == 0.0
    assert report["ratio"]["count"] == report["seconds"]["peer"]["count"] == 2
    assert report["ratio"]["median"] > 0
    assert {"machine", "versions", "threads"} <= report.keys()


def test_a_peer_that_computes_something_else_is_noticed(zopog: Run, tmp_path: Path) -> None:
    peer = tmp_path / "peer.py"
    peer.write_text(
        "import sys\nprint('{}', flush=True)\n"
        'for line in sys.stdin: print(\'{"seconds": 1.0, "logits": [[9, 9, 9], [9, 9, 9]]}\', flush=True)\n'
    )
    code, out, _ = zopog("bench", "loss", *SMALL, "--peer", f"{sys.executable} {peer}")
    assert code == 1
    assert json.loads(out)["largest_difference"] > 1


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--peer", f"{sys.executable} /no/such.py"], "before it answered"), (["--rounds", 1], "spread")],
)
def test_unusable_options(zopog: Run, options: list, words: str) -> None:
    code, _, error = zopog("bench", "loss", *SMALL, *options)
    assert code == 2
    assert words in error
