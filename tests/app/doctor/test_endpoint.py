"""zopog doctor --model: two requests, and what follows from their answers."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")

from tests.app.conftest import Run
from tests.models.real_servers import free_ports
from tests.models.service import Service, serve
from tests.models.tiny_decoders import write_decoder
from zopog_models import load_model
from zopog_models.checkpoints.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def decoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("models") / "tiny-llama", "llama")


@pytest.fixture
def service(decoder_folder: Path) -> Iterator[Service]:
    words = load_checkpoint(decoder_folder).word_embeddings
    with serve(load_model(decoder_folder, threads=1), words=words) as running:
        yield running


WORDS = ["--words", "great,terrible", "--template", "{text} it was {mask}"]


def test_what_each_endpoint_returns(zopog: Run, service: Service, decoder_folder: Path) -> None:
    for address, scores, continuous in (
        (f"chat+{service.chatting}", "top k", False),
        (f"completions+{service.completions}", "top k", False),
        (f"vllm+{service.url}/exact/v1#frozen", "any", True),
        (f"sglang+{service.url}#frozen", "any", True),
    ):
        top = ["--top-logprobs", 1000] if scores == "top k" else []
        code, out, error = zopog("doctor", "--model", address, "--tokenizer", decoder_folder, *WORDS, *top, "--json")
        assert code == 0, error
        found = json.loads(out)
        assert (found["scores"], found["continuous_prompts"]) == (scores, continuous)
        assert (found["returned"], found["missing"], found["differs"]) == (["great", "terrible"], [], 0)
        assert found["requests"] == 2
    assert service.asked == 8


def test_where_nothing_listens_it_is_said_at_once(zopog: Run, decoder_folder: Path) -> None:
    address = f"chat+http://127.0.0.1:{free_ports()}/v1#x"
    code, _, error = zopog("doctor", "--model", address, "--tokenizer", decoder_folder, *WORDS)
    assert code == 1
    assert "nothing listens there: start the server" in error
    assert "attempt" not in error
    again = zopog("doctor", "--model", address, "--tokenizer", decoder_folder, *WORDS, "--retries", 1)[2]
    assert "given up after 2 attempts" in again


def test_no_label_word_is_returned(zopog: Run, service: Service, decoder_folder: Path) -> None:
    service.top = 1
    address = ["--model", f"chat+{service.chatting}", "--tokenizer", decoder_folder]
    code, out, error = zopog("doctor", *address, *WORDS)
    assert code == int("label words returned none" in out)
    assert "choose other words, or raise --top-logprobs" in out, error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "/no/such/folder"], "is not a folder"),
        (["--model", "embedded", "--tokenizer", "F"], "--tokenizer is for a served model"),
        (["--model", "embedded", "--words", "a,,b"], "each once"),
        (["--model", "chat+http://127.0.0.1:9/v1#x"], "needs --tokenizer"),
        (["--model", "chat+http://127.0.0.1:9/v1#x", "--tokenizer", "F", "--words", "a,,b"], "each once"),
        (["--model", "chat+http://127.0.0.1:9/v1#x", "--tokenizer", "F", "--template", "{text_a} {text_b} {mask}"],
         "a template of one text"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked(zopog: Run, options: list[str], message: str) -> None:
    code, _, error = zopog("doctor", *options)
    assert code == 2
    assert message in error
