"""A run folder of a stranger's: it sends no text anywhere by itself, and no file of it makes anybody wait or fills memory."""

import json
import os
import shutil
import socket
from pathlib import Path

import pytest

pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")

from tests.app.conftest import SMALL, Run
from zopog_models.frozen.model import EMBEDDED_MODEL

TOGETHER = ["--settings", "embedded", *SMALL]


@pytest.fixture(scope="module")
def finished(small_task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from zopog_ref.app.command_line import main

    folder = tmp_path_factory.mktemp("runs") / "mine"
    assert main([str(word) for word in ("tune", "--task", small_task, *TOGETHER, "--out", folder)]) == 0
    return folder


@pytest.fixture
def run_folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "theirs"))


# -- addresses -----------------------------------------------------------------------------------------------------

ADDRESSES = {
    "kserve": "kserve+http://{host}/v2/models/x",
    "completions": "completions+http://{host}/v1#x",
    "with a path in front": "kserve+http://{host}/a/b/v2/models/x/versions/2",
}


@pytest.mark.parametrize("name", ADDRESSES)
@pytest.mark.parametrize("command", ["predict", "bake", "resume"])
def test_no_text_goes_to_an_address_that_only_the_folder_names(
    zopog: Run, run_folder: Path, command: str, name: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        host = f"127.0.0.1:{listening.getsockname()[1]}"
        config = json.loads((run_folder / "config.json").read_text())
        config["model"] = ADDRESSES[name].format(host=host)
        config["remote"] = {"tokenizer": EMBEDDED_MODEL.as_posix()}
        (run_folder / "config.json").write_text(json.dumps(config))
        (run_folder / "result.json").unlink()
        ways = {
            "predict": ["predict", run_folder, "--text", "secret words"],
            "bake": ["bake", run_folder, "--out", run_folder / "x.onnx"],
            "resume": ["tune", "--resume", run_folder],
        }
        code, out, error = zopog(*ways[command])
        assert (code, out) == (2, "")
        assert host in error
        assert "--model" in error
        with pytest.raises(TimeoutError):  # nobody came
            listening.accept()


# -- files that are no files -----------------------------------------------------------------------------------------

READ = {
    "config.json": ["predict", "resume", "bake"],
    "result.json": ["resume"],
    "curve.jsonl": ["go on"],
    "checkpoint.safetensors": ["go on"],
    "journal/000001.jsonl": ["go on"],
    "prompt/prompt.safetensors": ["predict", "bake"],
}
KINDS = ("a pipe", "a device", "a sparse file", "a link to a device", "a socket")


def replace(path: Path, kind: str, between: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a link to a device":
        between.symlink_to("/dev/zero")
        path.symlink_to(between)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as listener:
            os.chdir(path.parent)
            listener.bind(path.name)
    else:
        with path.open("wb") as file:
            file.truncate(5_000_000_000)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", READ)
def test_one_message_and_no_wait(
    zopog: Run, run_folder: Path, tmp_path: Path, file: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run_folder)  # put back after a socket's short name
    replace(run_folder / file, kind, tmp_path / "between")
    ways = {
        "predict": ["predict", run_folder, "--text", "a cat"],
        "bake": ["bake", run_folder, "--out", run_folder / "x.onnx"],
        "resume": ["tune", "--resume", run_folder],
    }
    for way in READ[file]:
        if way == "go on":
            (run_folder / "result.json").unlink(missing_ok=True)
            if file.startswith("checkpoint"):
                (run_folder / "checkpoint.previous.safetensors").unlink(missing_ok=True)
            if file.startswith("journal"):
                for name in ("checkpoint.safetensors", "checkpoint.previous.safetensors"):
                    (run_folder / name).unlink(missing_ok=True)
                (run_folder / file).rename(run_folder / "journal/000000.jsonl")
        code, out, error = zopog(*ways.get(way, ways["resume"]))
        assert (code, out) == (2, ""), error
        assert Path(file).name.replace("000001", "000000") in error
        assert "Traceback" not in error
        assert len(error) < 2000


def test_a_key_twice_in_a_run_folder_s_file(zopog: Run, run_folder: Path) -> None:
    text = (run_folder / "config.json").read_text()
    (run_folder / "config.json").write_text(text.replace("{", '{"model": "embedded", ', 1))
    code, _, error = zopog("predict", run_folder, "--text", "a cat")
    assert code == 2
    assert "'model'" in error
    assert "twice" in error
