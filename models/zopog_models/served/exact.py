"""LLM servers that score any tokens exactly and read token ids and embeddings: vLLM and SGLang.

    model = open_exact("http://localhost:8000/v1#NAME", "path/to/folder", kind="vllm")

What is sent are token ids, so what is learned is what is read, and no text can hold a special token by its spelling.
The scores are log-probabilities of exactly the tokens that were asked for, whatever their rank:

    vLLM     POST .../completions, logprob_token_ids
    SGLang   POST .../generate, token_ids_logprob

A continuous prompt is sent as embeddings, E(t) + A z: vLLM takes those of the row's beginning (`prompt_embeds`) and the
rest as ids; SGLang takes all of the row (`input_embeds`). For this the folder needs the model's weights, of which the
word embeddings alone are read. Written from the servers' documentation and sources: neither was run with it.
"""

import base64
import json
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.checkpoints.checkpoint import load_checkpoint
from zopog_models.checkpoints.description import Description
from zopog_models.errors import ServiceError, SetupError
from zopog_models.frozen.model import FrozenModel
from zopog_models.runners.runner import Scores
from zopog_models.served.completions import described
from zopog_models.served.inference_protocol import read_object
from zopog_models.served.log_probabilities import LEAST
from zopog_models.served.requests import Requests
from zopog_models.served.text_runner import TextRunner
from zopog_models.served.torch_file import torch_matrix
from zopog_models.served.transport import Answer
from zopog_models.served.wire import Wire

__all__ = ["KINDS", "SGLangRunner", "VLLMRunner", "open_exact"]

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def open_exact(
    url: str,
    tokenizer: str | Path,
    *,
    kind: str = "vllm",
    wire: Wire = Wire(),  # noqa: B008  frozen
    notify: Callable[[str], None] = lambda message: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> FrozenModel:
    """A causal language model behind vLLM or SGLang. Raises SetupError, CheckpointError, ProviderError.

    Parameters
        url: http(s)://host/v1#NAME of vLLM, http(s)://host#NAME of SGLang
        tokenizer: the served model's own folder; with its weights, continuous prompts can be sent
        kind: "vllm" or "sglang"
        wire: how to talk to the server
        notify: gets a line where somebody waits for long
        should_stop: looked at while a request waits; when it is true, the wait ends with Stopped
    """
    about, requests = described(kind, url, tokenizer, wire, 1, notify, should_stop)
    words = None
    if any((Path(tokenizer) / name).is_file() for name in _WEIGHTS):
        checkpoint = load_checkpoint(tokenizer)
        words, factor = checkpoint.word_embeddings, getattr(checkpoint.architecture, "embedding_factor", 1.0)
        if factor != 1.0:
            # Some servers may leave the factor out of embeddings that they are sent.
            raise SetupError(
                f"{tokenizer}: {checkpoint.family.name} multiplies its embeddings by {factor:.4g}. Whether a server "
                "does so with those that it is sent is not known: give a folder without weights, and learn tokens alone"
            )
        facts = replace(about.facts, embedding_std=checkpoint.embedding_std)  # type: ignore[type-var]
        about = replace(about, embedding_size=checkpoint.architecture.embedding_size, facts=facts)
    return FrozenModel(about, KINDS[kind](about, requests, words))


class _ExactRunner(TextRunner):
    """One row is one request. words: the word embeddings (V, E), or None where there are none."""

    scores = Scores.ANY

    def __init__(self, about: Description, requests: Requests, words: np.ndarray | None) -> None:
        super().__init__(about, requests, rows=1, top=1)
        self._words = words

    def question(self, row: np.ndarray, prompt: np.ndarray, offset: np.ndarray | None = None) -> str:
        """As JSON: {"ids": of the row}, or {"head": embeddings up to the prompt's end, "ids": of the rest}."""
        first = self._about.first
        head, rest = [*map(int, row[:first]), *map(int, prompt)], [*map(int, row[first:])]
        if offset is None or not np.any(offset):
            return json.dumps({"ids": head + rest})
        if self._words is None:
            raise SetupError(
                "a continuous prompt is sent as embeddings, and --tokenizer FOLDER holds no weights: give the model's "
                "own folder, or learn tokens alone"
            )
        embedded = np.array(self._words[head], np.float32)
        embedded[first:] += offset
        return json.dumps({"head": base64.b64encode(embedded.astype("<f4").tobytes()).decode(), "ids": rest})

    def check(self, offsets: np.ndarray) -> None:
        """Offsets can be sent where there are word embeddings; `question` says so where there are none."""

    def column(self, token: int) -> str:
        return str(token)

    def embedded(self, question: dict[str, Any]) -> np.ndarray | None:
        """The embeddings (L, E) of a question's head, or None."""
        if "head" not in question:
            return None
        return np.frombuffer(base64.b64decode(question["head"]), "<f4").reshape(-1, self._about.embedding_size)

    def report(self) -> dict[str, Any]:
        return self.requests.report()  # every token that was asked for was scored: there is no coverage to tell

    def read(self, answer: Answer, rows: int, words: list[str]) -> np.ndarray:
        found = self.found(read_object(answer.body))
        missing = [word for word in words if word not in found]
        if missing:
            raise ServiceError(
                f"the answer has no log-probability of token {missing[0]}, which was asked for: {self.needs}"
            )
        values = [found[word] for word in words]
        if not all(type(value) in (int, float) and value <= 1e-3 for value in values):
            raise ServiceError(
                f"the log-probabilities of the answer are {values!r:.80}; expected numbers, none above 0"
            )
        scores = np.array([values, np.zeros(len(words))], np.float32)[None]
        return np.maximum(scores, -LEAST)

    needs = ""

    @abstractmethod
    def found(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Token id, as a text -> its log-probability."""


class VLLMRunner(_ExactRunner):
    """vLLM's completions."""

    providers = ("vLLM endpoint",)
    path = "/completions"
    needs = "vLLM of July 2026 or later gives it (logprob_token_ids)"

    def body(self, questions: list[str], words: Sequence[str], seed: int | None) -> dict[str, Any]:
        asked = json.loads(questions[0])
        head = self.embedded(asked)
        given = {} if head is None else {"prompt_embeds": base64.b64encode(torch_matrix(head)).decode()}
        return {
            "model": self._about.name, **given, "prompt": asked["ids"], "max_tokens": 1, "temperature": 0,
            "logprobs": 1, "logprob_token_ids": [*map(int, words)], "return_tokens_as_token_ids": True,
        }  # fmt: skip

    def found(self, answer: dict[str, Any]) -> dict[str, Any]:
        try:
            listed = answer["choices"][0]["logprobs"]["top_logprobs"][0]
            return {token.removeprefix("token_id:"): value for token, value in listed.items()}
        except (KeyError, IndexError, TypeError, AttributeError):
            raise ServiceError(f"the answer has no log-probabilities of its first token: {self.needs}") from None


class SGLangRunner(_ExactRunner):
    """SGLang's own endpoint. Embeddings need --disable-radix-cache on the server."""

    providers = ("SGLang endpoint",)
    path = "/generate"
    needs = "SGLang gives it (token_ids_logprob)"

    def body(self, questions: list[str], words: Sequence[str], seed: int | None) -> dict[str, Any]:
        asked = json.loads(questions[0])
        head = self.embedded(asked)
        if head is None:
            given: dict[str, Any] = {"input_ids": asked["ids"]}
        else:
            assert self._words is not None
            given = {"input_embeds": np.concatenate([head, self._words[asked["ids"]]]).astype(float).tolist()}
        sampling = {"max_new_tokens": 1, "temperature": 0}
        return given | {
            "sampling_params": sampling, "return_logprob": True, "token_ids_logprob": [*map(int, words)],
        }  # fmt: skip

    def found(self, answer: dict[str, Any]) -> dict[str, Any]:
        try:
            listed = answer["meta_info"]["output_token_ids_logprobs"][0]
            return {str(entry[1]): entry[0] for entry in listed}
        except (KeyError, IndexError, TypeError):
            raise ServiceError(f"the answer has no log-probabilities of its first token: {self.needs}") from None


KINDS: dict[str, type[_ExactRunner]] = {"vllm": VLLMRunner, "sglang": SGLangRunner}
