"""zopog push against a double of the hub on loopback: what arrives is the prompt and its card, and nothing else."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jinja2", reason="zopog tune writes a page")
pytest.importorskip("huggingface_hub", reason="the hub's client (extra hub)")

from tests.app.conftest import Run

TOKEN = "hf_aVerySecretToken"


@dataclass
class Hub:
    """What was asked of it: made: repositories; received: path -> bytes; refuses: the status of its answers, if any."""

    url: str = ""
    made: list[dict[str, Any]] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)
    received: dict[str, bytes] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    refuses: int = 0


@pytest.fixture
def hub() -> Iterator[Hub]:
    found = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if key := self.headers.get("Authorization"):
                found.keys.add(key)
            told, status = self.of(body), found.refuses or 200
            if found.refuses:
                told = {"error": f"no: {self.headers.get('Authorization')}"}  # a server that repeats what it was told
            content = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def of(self, body: bytes) -> dict[str, Any]:
            if self.path == "/api/repos/create":
                found.made.append(json.loads(body))
                return {"url": f"{found.url}/org/name"}
            if "/preupload/" in self.path:
                sent = json.loads(body)["files"]
                mode = {True: "lfs", False: "regular"}
                return {
                    "files": [
                        {"path": f["path"], "uploadMode": mode["safetensors" in f["path"]], "shouldIgnore": False}
                        for f in sent
                    ]
                }
            if self.path.endswith("/objects/batch"):
                objects = json.loads(body)["objects"]
                upload = [{**o, "actions": {"upload": {"href": f"{found.url}/put/{o['oid']}"}}} for o in objects]
                return {"transfer": "basic", "objects": upload}
            if self.path.startswith("/put/"):
                found.stored[self.path.removeprefix("/put/")] = body
            if "/commit/" in self.path:
                for line in map(json.loads, body.splitlines()):
                    value = line["value"]
                    if line["key"] == "file":
                        found.received[value["path"]] = base64.b64decode(value["content"])
                    elif line["key"] == "lfsFile":
                        found.received[value["path"]] = found.stored[value["oid"]]
                return {"commitUrl": f"{found.url}/org/name/commit/abc", "commitOid": "a" * 40, "success": True}
            return {}

        do_GET = do_POST = do_PUT = do_HEAD = answer

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def finished(small_task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from zopog_ref.app.command_line import main

    folder = tmp_path_factory.mktemp("runs") / "run"
    options = ["--method", "none", "--readout", "labels", "--budget", "40", "--batch-size", "4", "--shots", "3"]
    assert main(["tune", "--task", str(small_task), *options, "--threads", "1", "--out", str(folder)]) == 0
    return folder


def push(hub: Hub, folder: Path, home: Path, *more: str, token: str | None = TOKEN) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment |= {
        "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
        **({} if token is None else {"HF_TOKEN": token}),
    }  # fmt: skip
    command = [sys.executable, "-m", "zopog_ref", "push", str(folder), "org/name", *more]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_the_prompt_and_its_card_arrive_whole_and_nothing_else(hub: Hub, finished: Path, tmp_path: Path) -> None:
    done = push(hub, finished, tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    assert set(hub.received) == {"prompt.safetensors", "prompt.json", "README.md"}
    for name in ("prompt.safetensors", "prompt.json"):
        assert hub.received[name] == (finished / "prompt" / name).read_bytes()
    card = (finished / "prompt" / "README.md").read_bytes()
    assert hub.received["README.md"].startswith(b"---\nlibrary_name: zopog-ref\n")
    assert hub.received["README.md"].endswith(b"---\n\n" + card)
    assert hub.made[0]["organization"] == "org"
    assert hub.made[0].get("visibility", "private" if hub.made[0].get("private") else "public") == "private"
    assert hub.keys == {f"Bearer {TOKEN}"}
    assert TOKEN not in done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["commit"] == f"{hub.url}/org/name/commit/abc"
    assert {f["path"]: f["sha256"] for f in said["files"]} == {
        path: hashlib.sha256(data).hexdigest() for path, data in hub.received.items()
    }


def test_what_arrived_is_a_prompt_that_answers(hub: Hub, finished: Path, tmp_path: Path) -> None:
    from zopog_models import load_prompt

    assert push(hub, finished / "prompt", tmp_path, "--public").returncode == 0  # a prompt folder alone does, too
    assert hub.made[0].get("visibility", "private" if hub.made[0].get("private") else "public") == "public"
    for path, data in hub.received.items():
        (tmp_path / path).write_bytes(data)
    assert load_prompt(tmp_path).template == load_prompt(finished / "prompt").template


def test_a_dry_run_shows_what_would_be_sent_and_asks_nobody(hub: Hub, finished: Path, tmp_path: Path) -> None:
    done = push(hub, finished, tmp_path, "--dry-run", token=None)
    assert done.returncode == 0, done.stderr
    assert (hub.made, hub.received) == ([], {})
    for name in ("prompt.safetensors", "prompt.json", "README.md", "nothing was sent", "private"):
        assert name in done.stdout
    assert "report" not in done.stdout


def test_without_a_token_it_is_said_what_to_do(hub: Hub, finished: Path, tmp_path: Path) -> None:
    done = push(hub, finished, tmp_path, token=None)
    assert done.returncode == 2
    assert "set HF_TOKEN, or log in with `hf auth login`" in done.stderr
    assert hub.made == []


def test_a_refusal_is_one_line_without_the_token(hub: Hub, finished: Path, tmp_path: Path) -> None:
    hub.refuses = 403
    done = push(hub, finished, tmp_path)
    assert done.returncode == 2
    assert "org/name was not sent to" in done.stderr
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_the_token_is_struck_out_of_an_error_that_repeats_it(
    zopog: Run, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def refuses(self: object, name: str, **options: object) -> None:
        raise RuntimeError(f"403 for Bearer {TOKEN}")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuses)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: TOKEN)
    code, out, error = zopog("push", finished, "org/name")
    assert code == 2
    assert "403 for Bearer ***" in error
    assert TOKEN not in out + error


def test_what_is_no_finished_prompt_is_refused_before_anything_is_asked(
    zopog: Run, finished: Path, tmp_path: Path
) -> None:
    assert zopog("push", tmp_path, "org/name", "--dry-run")[0] == 2
    (tmp_path / "config.json").write_text("{}")
    code, _, error = zopog("push", tmp_path, "org/name", "--dry-run")
    assert code == 2
    assert "not finished" in error
    for name in ("name", "org/name@main", "https://hub/org/name", "a/b/c"):
        code, _, error = zopog("push", finished, name, "--dry-run")
        assert code == 2
        assert "expected ORG/NAME" in error
