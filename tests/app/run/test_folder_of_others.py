"""A run's folder and others: what stands beside it is left alone, and its end is written before others may come in."""

from pathlib import Path
from typing import Any

import pytest

from tests.app.conftest import Run
from zopog_models.files.atomic import write_atomically
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.folder import RunFolder
from zopog_ref.app.tune import command

FEW = ["--method", "none", "--shots", "2", "--threads", "1"]
ZEROS = f".{'0' * 16}.part"


def test_unfinished_writes_of_others_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--out may name a folder with other runs in it, which other processes write to, and with somebody's files."""
    others = [".film.mp4.part", "x.part", ".part", f"notes/.a{ZEROS}", f"b/prompt/.README.md{ZEROS}", f".git/.c{ZEROS}"]
    own = [f".config.json{ZEROS}", f"prompt/.README.md{ZEROS}", f"journal/.000001.jsonl{ZEROS}", f"answers/.1{ZEROS}"]
    for name in others + own:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("half")
    RunFolder.create(tmp_path, {}).close()
    assert [name for name in others + own if (tmp_path / name).exists()] == others
    for name in own:
        (tmp_path / name).write_text("half")
    RunFolder.open(tmp_path)[0].close()
    assert [name for name in others + own if (tmp_path / name).exists()] == others
    # And what is swept is what is left of a write.
    monkeypatch.setattr("os.replace", lambda *names: None)
    write_atomically(tmp_path / "curve.jsonl", [b"half"])
    assert list(tmp_path.glob(".curve.jsonl.*.part"))
    RunFolder.open(tmp_path)[0].close()
    assert not list(tmp_path.glob(".curve.jsonl.*.part"))


def test_nobody_comes_in_before_the_run_is_all_written(
    zopog: Run, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process takes the folder the moment that it is free; while card and page are written it cannot."""
    pytest.importorskip("jinja2", reason="the page needs jinja2 (extra report)")
    close, write_page = RunFolder.close, command.write_page
    came: list[RunFolder] = []
    trying: list[bool] = []
    refused: list[Path] = []

    def closed(self: RunFolder) -> None:
        close(self)
        if not trying and not came:
            came.append(RunFolder(self.path))
            came[0].take_lock()

    def written(found: Any) -> Path:
        trying.append(True)
        with pytest.raises(InputError, match="another process is running"):
            RunFolder.open(found.folder)
        trying.clear()
        refused.append(found.folder)
        return write_page(found)

    monkeypatch.setattr(command, "write_page", written)
    monkeypatch.setattr(RunFolder, "close", closed)
    out = tmp_path / "run"
    code, _, error = zopog("tune", "--task", small_task, *FEW, "--out", out, "--json")
    monkeypatch.undo()
    assert code == 0, error
    assert refused == [out]
    assert len(came) == 1
    assert (out / "report.html").exists()
    assert (out / "prompt" / "README.md").exists()
    code, _, error = zopog("report", out)  # what it writes, the other could sweep away
    assert (code, "another process is running" in error) == (2, True)
    close(came[0])
    assert zopog("report", out)[0] == 0
    assert zopog("report", out)[0] == 0  # it gives the folder back
