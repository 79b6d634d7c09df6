"""vLLM and SGLang: exact scores of any tokens, token ids, and continuous prompts as embeddings."""

import io
import json
import pickletools
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")

from tests.models.served.test_remote_completions import WIRE, question
from tests.models.service import Service, serve
from tests.models.tiny_decoders import write_decoder
from zopog_models import load_model
from zopog_models.checkpoints.checkpoint import load_checkpoint
from zopog_models.errors import ServiceError, SetupError
from zopog_models.runners.rows import ModelRows
from zopog_models.served.addresses import open_served, reads_text_alone
from zopog_models.served.exact import open_exact
from zopog_models.served.torch_file import torch_matrix

KINDS = ("vllm", "sglang")


@pytest.fixture(scope="module")
def decoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("models") / "tiny-llama", "llama")


@pytest.fixture
def service(decoder_folder: Path) -> Iterator[Service]:
    words = load_checkpoint(decoder_folder).word_embeddings
    with serve(load_model(decoder_folder, threads=1), words=words) as running:
        yield running


def address(service: Service, kind: str) -> str:
    return f"{service.url}/exact/v1#frozen" if kind == "vllm" else f"{service.url}#frozen"


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [0.0, 0.3])
def test_it_is_the_model(service: Service, decoder_folder: Path, kind: str, scale: float) -> None:
    """Any tokens, whatever their rank, with and without a continuous prompt."""
    client, local = open_exact(address(service, kind), decoder_folder, kind=kind, wire=WIRE), service.model
    ids, place, prompts, _, index, _ = question(local)
    offsets = scale * np.random.default_rng(0).normal(size=(2, 2, local.embedding_size)).astype(np.float32)
    there = client.logits(ids, place, prompts, offsets, index, np.arange(3, 60))
    everything = local.logits(ids, place, prompts, offsets, index, np.arange(local.vocab_size)).astype(np.float64)
    assert np.abs(there - log_softmax(everything)[:, 3:60]).max() < 2e-5
    assert client.embedding_std == pytest.approx(local.embedding_std)
    sent = [json.loads(body) for body in service.bodies]
    assert all("text" not in one and not isinstance(one.get("prompt"), str) for one in sent)
    assert any("prompt_embeds" in one or "input_embeds" in one for one in sent) == (scale > 0)


def test_without_weights_tokens_alone_can_be_learned(service: Service, decoder_folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(decoder_folder / name, tmp_path / name)
    client = open_exact(address(service, "vllm"), tmp_path, wire=WIRE)
    ids, place, prompts, _, index, labels = question(client)
    assert client.logits(ids, place, prompts, None, index, labels).shape == (8, 2)
    with pytest.raises(SetupError, match="holds no weights"):
        client.logits(ids, place, prompts, np.ones((2, 2, 1), np.float32), index, labels)


def test_who_multiplies_its_embeddings_sends_none(service: Service, tmp_path: Path) -> None:
    """A server may leave Gemma's factor out of embeddings that it is sent, or not: nothing is guessed."""
    folder = write_decoder(tmp_path / "gemma", "gemma3_text")
    with pytest.raises(SetupError, match="gemma3_text multiplies its embeddings by"):
        open_exact(address(service, "vllm"), folder, wire=WIRE)
    for path in folder.glob("model*.safetensors*"):
        path.unlink()
    assert open_exact(address(service, "vllm"), folder, wire=WIRE).embedding_size == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_scores_other_tokens_is_named(
    service: Service, decoder_folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    client = open_exact(address(service, kind), decoder_folder, kind=kind, wire=WIRE)
    answers = {
        "vllm": {"choices": [{"logprobs": {"top_logprobs": [{"token_id:3": -0.5}]}}]},
        "sglang": {"meta_info": {"output_token_ids_logprobs": [[[-0.5, 3, None]]]}},
    }
    from zopog_models.served.transport import Answer

    def read(value: object) -> np.ndarray:
        return client.runner.read(Answer(200, {}, json.dumps(value).encode()), 1, ["3", "4"])

    with pytest.raises(ServiceError, match="no log-probability of token 4, which was asked for"):
        read(answers[kind])
    with pytest.raises(ServiceError, match="no log-probabilities of its first token"):
        read({"choices": [], "meta_info": {}})
    text = json.dumps(answers[kind]).replace("-0.5", '"x"')
    with pytest.raises(ServiceError, match="expected numbers"):
        client.runner.read(Answer(200, {}, text.encode()), 1, ["3"])


def test_a_probe_names_the_words(service: Service, decoder_folder: Path) -> None:
    client = open_served(f"vllm+{address(service, 'vllm')}", decoder_folder)
    rows = ModelRows(client.description, *question(client))
    assert client.runner.probe(rows) == {"returned": ["great", "terrible"], "missing": [], "differs": 0.0}
    assert not reads_text_alone("vllm+http://x/v1#m")


def test_the_file_is_what_torch_writes() -> None:
    """Its parts, which torch.load asks for; where PyTorch is installed, it reads it too."""
    matrix = np.random.default_rng(0).normal(size=(3, 5))
    content = torch_matrix(matrix)
    assert content == torch_matrix(matrix)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert np.array_equal(np.frombuffer(archive.read("archive/data/0"), "<f4").reshape(3, 5), matrix.astype("f4"))
        assert archive.read("archive/byteorder") == b"little"
        pickled = archive.read("archive/data.pkl")
    # The numbers in it, read without unpickling: how many; offset; size; stride.
    numbers = [value for code, value, _ in pickletools.genops(pickled) if code.name == "BININT"]
    assert numbers == [15, 0, 3, 5, 5, 1]
    with pytest.raises(ValueError, match="a matrix was expected"):
        torch_matrix(np.zeros(3))
    torch = pytest.importorskip("torch", reason="PyTorch is in the comparison environment alone")
    read = torch.load(io.BytesIO(content), weights_only=True)
    assert np.array_equal(read.numpy(), matrix.astype("f4"))
