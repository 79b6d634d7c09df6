"""A small Llama, and a server of it in every dialect."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models.service import Service, serve
from tests.models.tiny_decoders import write_decoder
from zopog_models import load_model
from zopog_models.served import transport


@pytest.fixture(scope="module")
def decoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("models") / "tiny-llama", "llama")


@pytest.fixture
def service(decoder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr(transport, "_FIRST_WAIT", 0.005)
    with serve(load_model(decoder_folder, threads=1)) as running:
        yield running
