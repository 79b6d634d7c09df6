"""A tiny model and task, and a process that starts runs to be killed."""

import os
from collections.abc import Iterator

import pytest

pytest.importorskip("onnxruntime", reason="runs need onnxruntime (extra cpu)")
pytest.importorskip("tokenizers", reason="runs need tokenizers (extra cpu)")

from tests.app.conftest import zopog  # noqa: F401  a fixture
from tests.faults.killing import Starter, Tiny, starter


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny.make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def starts() -> Iterator[Starter]:
    if not hasattr(os, "fork"):
        pytest.skip("killing needs a system with fork and signals")
    for package in ("cma", "cmaes"):
        pytest.importorskip(package, reason=f"the starter imports every method's package, {package} among them")
    with starter() as ready:
        yield ready
