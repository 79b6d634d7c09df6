"""Tiny models of both families, made once for all tests of this room."""

from pathlib import Path

import pytest

from tests.models.tiny_models import write_model
from zopog_models import FrozenModel, load_model


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny-bert", "bert")


@pytest.fixture(scope="session")
def roberta_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny-roberta", "roberta")


@pytest.fixture(scope="session", params=["bert", "roberta"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(f"{request.param}_folder")


@pytest.fixture(scope="session")
def bert(bert_folder: Path) -> FrozenModel:
    return load_model(bert_folder, threads=2)


@pytest.fixture(scope="session")
def roberta(roberta_folder: Path) -> FrozenModel:
    return load_model(roberta_folder, threads=2)


@pytest.fixture(scope="session")
def model(folder: Path) -> FrozenModel:
    return load_model(folder, threads=2)
