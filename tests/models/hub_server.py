"""A hub of one's own: the few addresses of the Hugging Face Hub that its client asks for, served from folders.

GET  /api/models/ORG/NAME[/revision/REV]     the commit that a revision stands for, and the files
GET  /api/models/ORG/NAME/tree/COMMIT        the files with their sizes
HEAD, GET /ORG/NAME/resolve/COMMIT/PATH      one file, with its ETag and X-Repo-Commit
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Hub:
    """models: name -> revision -> commit; files: commit -> folder; asked: the paths of files that were downloaded."""

    models: dict[str, dict[str, str]] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    description: bytes | None = None  # in place of what a model is
    url: str = ""

    def publish(self, name: str, revision: str, folder: Path) -> str:
        """Put a folder under a revision; returns its commit."""
        content = b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
        commit = hashlib.sha1(content).hexdigest()
        self.models.setdefault(name, {})[revision] = self.models[name][commit] = commit
        self.files[commit] = folder
        return commit


@contextmanager
def serve() -> Iterator[Hub]:
    """A running hub on a port of this machine."""
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?/?", path):
            self._describe(*found.groups(), body)
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(*found.groups(), body)
        else:
            self._send(404, b"{}", {}, body)

    def _describe(self, name: str, what: str | None, revision: str | None, body: bool) -> None:
        if name not in self.hub.models:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)
        elif (commit := self.hub.models[name].get(revision or "main")) is None:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
        else:
            folder = self.hub.files[commit]
            paths = sorted(path for path in folder.rglob("*") if path.is_file())
            tree = [
                {"type": "file", "path": path.relative_to(folder).as_posix(), "size": path.stat().st_size, "oid": "0"}
                for path in paths
            ]
            about: Any = {"id": name, "sha": commit, "siblings": [{"rfilename": file["path"]} for file in tree]}
            told = json.dumps(tree if what == "tree" else about).encode()
            self._send(200, told if self.hub.description is None else self.hub.description, {}, body)

    def _file(self, name: str, revision: str, path: str, body: bool) -> None:
        commit = self.hub.models[name][revision]
        content = (self.hub.files[commit] / path).read_bytes()
        if body:
            self.hub.asked.append(path)
        tag = f'"{hashlib.sha1(content).hexdigest()}"'
        self._send(200, content, {"ETag": tag, "X-Repo-Commit": commit}, body)

    def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", **headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""
