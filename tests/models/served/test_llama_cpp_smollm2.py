"""llama.cpp's server with SmolLM2 as it is published, asked in three ways; and the same file read here.

Its chat template, its tokenizer and its arithmetic are its own. The tokens must be ours; the scores may differ by what
its products of 4-bit weights with 8-bit activations leave out, where ours are float32 (docs/real-models.md: the same
file stored in float32 agrees to 2.3e-4).
"""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("urllib3", reason="served models need urllib3 (extra remote)")
pytest.importorskip("gguf", reason="pip install gguf")

from tests.app.conftest import Run, zopog  # noqa: F401  a fixture
from tests.models.real_servers import llama_cpp, smollm2
from zopog_models import FrozenModel, encode, label_ids, load_model, make_task
from zopog_models.served.addresses import ServedOptions, open_served
from zopog_models.served.answer_words import word_of
from zopog_models.served.wire import Wire
from zopog_models.tasks.chat import chat_template, in_conversation

pytestmark = pytest.mark.slow

TEXTS = [
    "A warm, funny film that I would watch again.",
    "The plot is dull and the acting is worse.",
    "It costs 12,50 and arrives on Tuesday; naïve, really.",
]
WORDS = ("negative", "positive")
LABELS = dict(zip("01", WORDS))
SAID = 'Review: "{text}" Is this review positive or negative? Answer with one word.{mask}'
WAYS = {"chat": ("chat+", {}), "strings": ("completions+", {}), "ids": ("completions+", {"send": "ids"})}
ROUNDING = 0.4  # nats; measured: 0.13 in conversations, 0.29 after "It was"
EVERYTHING = 1000


@pytest.fixture(scope="module")
def file() -> Path:
    return smollm2()


@pytest.fixture(scope="module")
def address(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with llama_cpp(file, tmp_path_factory.mktemp("server")) as running:
        yield running


def posted(address: str, path: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(address.partition("/v1")[0] + path, json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def asked(model: FrozenModel, template: str) -> tuple[Any, ...]:
    encoded = encode([(text,) for text in TEXTS], make_task(template, LABELS), model, 0)
    rows = np.zeros(len(TEXTS), np.int64)
    return encoded.ids, encoded.answer_position, np.zeros((1, 0), np.int64), None, rows


@pytest.fixture(scope="module")
def local(file: Path) -> FrozenModel:
    return load_model(file, threads=1)


@pytest.mark.parametrize("way", WAYS)
def test_it_reads_our_tokens_and_says_our_scores(file: Path, address: str, local: FrozenModel, way: str) -> None:
    start, options = WAYS[way]
    said = SAID if way == "chat" else "{text} The review is {mask}"
    here = in_conversation(said, chat_template(file), "") if way == "chat" else said
    ours, task = asked(local, here), make_task(said, LABELS)
    client = open_served(f"{start}{address}", file, ServedOptions(wire=Wire(timeout=120), top=EVERYTHING, **options))
    there = asked(client, said)
    nothing, sent = np.zeros(0, np.int64), []
    for row in there[0]:
        question = client.runner.question(row, nothing)
        if way == "chat":
            question = posted(address, "/apply-template", {"messages": json.loads(question)})["prompt"]
        if way == "ids":
            sent.append(json.loads(question))
            continue
        whole = {"content": question, "add_special": True, "parse_special": True}
        sent.append(posted(address, "/tokenize", whole)["tokens"])
    assert sent == [row.tolist() for row in ours[0]]

    scores = client.logits(*there, label_ids(task, client))
    logits = local.logits(*ours, np.arange(local.vocab_size)).astype(np.float64)
    logits -= np.logaddexp.reduce(logits, axis=1, keepdims=True)
    texts = [local.tokenizer.decode([token], skip_special_tokens=False) for token in range(local.vocab_size)]
    of = np.array([_word(text, way) for text in texts])
    for c in range(len(WORDS)):
        expected = np.logaddexp.reduce(logits[:, of == c], axis=1)
        assert np.abs(scores[:, c] - expected).max() < ROUNDING
        assert np.ptp(expected) > ROUNDING or way == "chat"  # another row's scores would be seen
    assert client.runner.coverage()["not_returned"] == dict.fromkeys(WORDS, 0)


def _word(token: str, way: str) -> int:
    if way == "chat":
        found = word_of(token, WORDS)
        return -1 if found is None else found
    return WORDS.index(token.strip()) if token.strip() in WORDS else -1


@pytest.mark.parametrize("way", WAYS)
def test_a_whole_run_ends(zopog: Run, file: Path, address: str, tmp_path: Path, way: str) -> None:
    rows = {"train": 4, "dev": 4, "test": 6}
    for name, count in rows.items():
        lines = [f"{name} {k}: {TEXTS[k % 2]}\t{1 - k % 2}" for k in range(count)]
        (tmp_path / f"{name}.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n")
    start, options = WAYS[way]
    files = [part for name in rows for part in (f"--{name}", tmp_path / f"{name}.tsv")]
    sent = [part for name, value in options.items() for part in (f"--{name}", value)]
    code, _, error = zopog(
        "tune", *files, "--template", SAID, "--labels", "0=negative,1=positive", "--shots", 2, "--budget", 6,
        "--batch-size", 4, "--method", "bdpl", "--samples", 2, "--n-positions", 2, "--n-candidates", 10,
        "--model", f"{start}{address}", "--tokenizer", file, "--top-logprobs", EVERYTHING, "--timeout", 120, *sent,
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 0, error
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (found["calls"], found["retries"], found["failures"]) == (5, 0, {})  # two steps of 2, and the template
    assert found["label_words"]["not_returned"] == {"negative": 0, "positive": 0}
    assert found["spending"]["tokens_read"] > 20 * found["requests"]
    code, said, error = zopog("predict", tmp_path / "run", "--model", f"{start}{address}", "--text", TEXTS[0])
    assert code == 0, error
    assert json.loads(said)["label"] in ("0", "1")
