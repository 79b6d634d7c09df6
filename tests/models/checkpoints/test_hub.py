"""hub: the real client against a hub of one's own: only the needed files, one commit, the cache without a network."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.checkpoints.test_checkpoint import reconfigure
from tests.models.graph.test_graph import case
from tests.models.hub_server import Hub, serve
from tests.models.tiny_models import write_model
from zopog_models import load_model
from zopog_models.checkpoints.hub import HubError, fetch, is_hub_id

pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")

# The client reads its environment once, so every case is a process of its own that answers several questions.
FETCH = """
import json, sys
from zopog_models.checkpoints.checkpoint import CheckpointError
from zopog_models.checkpoints.hub import fetch
answers = []
for source in sys.argv[1:]:
    try:
        model = fetch(source)
        files = sorted(path.relative_to(model.folder).as_posix() for path in model.folder.rglob("*") if path.is_file())
        answers.append({"pinned": model.pinned, "folder": str(model.folder), "files": files})
    except CheckpointError as error:
        answers.append({"error": type(error).__name__ + ": " + str(error)})
print(json.dumps(answers))
"""


def ask(hub: Hub, home: Path, *sources: str, **environment: str) -> list[dict[str, Any]]:
    env = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"} | environment
    done = subprocess.run([sys.executable, "-c", FETCH, *sources], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with serve() as running:
        yield running


def test_a_model_by_its_name_and_by_its_commit(hub: Hub, tmp_path: Path) -> None:
    old = write_model(tmp_path / "old", "bert", seed=1)
    for name in ("pytorch_model.bin", "flax_model.msgpack", "README.md", "model.fp16.safetensors", "setup.py"):
        (old / name).write_bytes(b"not needed")
    (old / "tokenizer_config.json").write_text('{"add_bos_token": false}')
    (old / "1_Pooling").mkdir()
    (old / "1_Pooling" / "config.json").write_text("{}")
    first = hub.publish("someone/tiny", "main", old)
    hub.publish("someone/tiny", "v1.0", old)
    hub.asked.clear()
    [answer] = ask(hub, tmp_path / "home", "someone/tiny")
    assert answer["pinned"] == f"someone/tiny@{first}"
    needed = ["1_Pooling/config.json", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert answer["files"] == needed == sorted(hub.asked)  # each once, and nothing else
    second = hub.publish("someone/tiny", "main", write_model(tmp_path / "new", "bert", seed=2))
    assert second != first
    latest, pinned, tagged = ask(hub, tmp_path / "home", "someone/tiny", answer["pinned"], "someone/tiny@v1.0")
    assert latest["pinned"] == f"someone/tiny@{second}"
    assert pinned["folder"] == tagged["folder"] == answer["folder"]


def test_without_a_network_the_cache_answers(hub: Hub, tmp_path: Path) -> None:
    commit = hub.publish("someone/cached", "main", write_model(tmp_path / "model", "bert"))
    [online] = ask(hub, tmp_path / "home", "someone/cached")
    hub.asked.clear()
    asked = ("someone/cached", f"someone/cached@{commit}", "someone/other")
    for environment in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        by_name, by_commit, unknown = ask(hub, tmp_path / "home", *asked, **environment)
        assert by_name == by_commit == online
        assert "HubError: someone/other is not in the cache, and the hub cannot be reached" in unknown["error"]
    assert hub.asked == []


def test_what_cannot_be_had(hub: Hub, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "bert")
    reconfigure(folder, model_type="mamba")
    hub.publish("someone/mamba", "main", folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "README.md").write_text("nothing")
    hub.publish("someone/empty", "main", empty)
    hub.asked.clear()
    answers = ask(hub, tmp_path / "home", "someone/nothing", "someone/mamba@v9", "someone/mamba", "someone/empty")
    missing, revision, unsupported, bare = (answer["error"] for answer in answers)
    assert "'someone/nothing' is neither a folder here nor a model on the hub" in missing
    assert "someone/mamba has no revision 'v9' on the hub" in revision
    assert "model_type 'mamba' is not supported" in unsupported
    assert "someone/empty has no config.json" in bare
    assert "model.safetensors" not in hub.asked  # refused before its weights were downloaded


@pytest.mark.parametrize(
    ("source", "expected"),
    [("org/name", True), ("org/name@main", True), ("org/na.me-1_b@refs/pr/2", True), ("name", False), ("a/b/c", False),
     ("../name", False), ("/tmp/name", False), ("./name", False), ("org/name@", False), ("", False)],
)  # fmt: skip
def test_names(source: str, expected: bool) -> None:
    assert is_hub_id(source) is expected


def test_a_source_that_is_no_name() -> None:
    with pytest.raises(HubError, match=r"'name' is not the name of a model on the hub; expected org/name"):
        fetch("name")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(HubError, match=r"needs the package huggingface_hub .*pip install .huggingface_hub>=0"):
        fetch("someone/tiny")


def test_the_cache_s_links_are_followed(tmp_path: Path) -> None:
    """The client's cache keeps files under their hashes, and a snapshot's names are links to them."""
    real, snapshot = write_model(tmp_path / "blobs", "bert"), tmp_path / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    for i, path in enumerate(sorted(real.iterdir())):
        path.rename(real / f"{i:040x}")
        try:
            (snapshot / path.name).symlink_to(Path("..", "..", "blobs", f"{i:040x}"))
        except OSError:
            pytest.skip("no symbolic links here")
    inputs = case(3, 2)
    plain = write_model(tmp_path / "plain", "bert")
    linked, expected = (load_model(folder, threads=1).logits(**inputs) for folder in (snapshot, plain))
    assert np.array_equal(linked, expected)


@pytest.mark.parametrize("commit", ["../../../../escaped", "", "main", "F" * 40])
def test_a_commit_that_is_no_hash_is_refused_before_anything_is_written(commit: str, tmp_path: Path) -> None:
    """The client makes a folder and files of what the hub calls the commit: a path would lead out of the cache."""
    with serve() as running:
        real = running.publish("someone/tiny", "main", write_model(tmp_path / "model", "bert"))
        running.models["someone/tiny"]["main"] = commit
        running.files[commit] = running.files[real]
        [answer] = ask(running, tmp_path / "home" / "cache", "someone/tiny")
    assert "the hub says that its commit is" in answer["error"] or "cannot be reached" in answer["error"]
    assert not [path for path in tmp_path.rglob("*") if "escaped" in path.name]


@pytest.mark.parametrize("answer", [b"[1]", b"{", b'"x"', b'{"sha": 5}', b"\xff"])
def test_a_hub_that_describes_no_model(answer: bytes, tmp_path: Path) -> None:
    with serve() as running:
        running.publish("someone/tiny", "main", write_model(tmp_path / "model", "bert"))
        running.description = answer
        [found] = ask(running, tmp_path / "home", "someone/tiny")
    assert found["error"].startswith("HubError: someone/tiny")
