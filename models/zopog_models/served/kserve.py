"""A frozen model that somebody else serves, over the Open Inference Protocol: the same black box, the same oracle.

    model = open_remote("http://localhost:8080/v2/models/bert", tokenizer="path/to/folder")
    oracle = FrozenModelOracle(model, encoded, label_ids, candidates, projection, n_positions)

The server holds the graph of `zopog export`: its inputs go over the wire, its logits come back. Here are the tokenizer
and config.json, which say how texts become rows. A question is cut into requests by a rule that looks at the rows
alone, so concurrency, retries and an interruption do not change a bit of the result.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from zopog_models.checkpoints.checkpoint import Checkpoint
from zopog_models.checkpoints.description import TEMPERATURE, Description, describe
from zopog_models.errors import ServiceError, SetupError
from zopog_models.files.quoting import quoted, quoted_names
from zopog_models.frozen.model import FrozenModel
from zopog_models.runners.chunks import ChunkRunner
from zopog_models.runners.rows import ModelRows
from zopog_models.runners.threads import Threads
from zopog_models.served.folder import without_weights
from zopog_models.served.inference_protocol import (
    BINARY_EXTENSION,
    encode_request,
    read_object,
    read_tensor,
    tensor_types,
)
from zopog_models.served.requests import Requests
from zopog_models.served.wire import Wire, split_address

__all__ = ["ENCODINGS", "KServeRunner", "open_remote"]

ENCODINGS = ("auto", "json", "binary")
ROWS = 64  # of one request
_INPUTS = {"text_ids": "INT64", "attention_mask": "INT64", "answer_position": "INT64", "prompt_ids": "INT64",
           "prompt_offset": "FP32", "prompt_index": "INT64", "label_ids": "INT64"}  # fmt: skip
_POOLED_INPUTS = {name: kind for name, kind in _INPUTS.items() if name not in ("answer_position", "label_ids")} | {
    "label_embeddings": "FP32"
}


def open_remote(
    url: str,
    tokenizer: str | Path,
    *,
    wire: Wire = Wire(),  # noqa: B008  frozen
    rows: int = ROWS,
    encoding: str = "auto",
    embedding_std: float | None = None,
    pooling: str | None = None,
    temperature: float = TEMPERATURE,
    notify: Callable[[str], None] = lambda message: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> FrozenModel:
    """A model behind the Open Inference Protocol.

    Raises SetupError (address, key, not ready, another graph), ServiceError (no answer), CheckpointError,
    ProviderError.

    Parameters
        url: http(s)://host/v2/models/NAME[/versions/V]
        tokenizer: a folder with the model's config.json and tokenizer.json; no weights
        wire: how to talk to the server
        rows: of one request; default 64
        encoding: of tensors, "json", "binary", or "auto": binary where the server lists binary_tensor_data among its
            extensions
        embedding_std: of the word embeddings; default: the metadata's parameter embedding_std
        pooling: "mean" or "cls" of a sentence-embedding model; default: what the folder says
        temperature: the factor of a sentence-embedding model's cosines; default 20
        notify: gets a line where somebody waits for long
        should_stop: looked at while a request waits; when it is true, the wait ends with Stopped
    """
    if encoding not in ENCODINGS:
        raise SetupError(f"encoding must be one of {', '.join(ENCODINGS)}, got {encoding!r}")
    if embedding_std is not None and not 0 < embedding_std < np.inf:
        raise SetupError(f"embedding_std is {embedding_std}; it must be a positive number")
    base, _, path = url.rstrip("/").rpartition("/v2/models/")
    if not base or not path:
        raise SetupError(f"{url!r} names no model; expected http://host:port/v2/models/NAME")
    split_address(url)
    if rows < 1:
        raise SetupError(f"rows of a request are {rows}; there must be at least 1")
    requests = Requests(base, wire, notify, should_stop)
    checkpoint = without_weights(tokenizer, pooling)
    name, source = unquote(path.partition("/")[0]), f"kserve+{url.rstrip('/')}"
    about = describe(checkpoint, name=name, source=source, temperature=temperature)
    stated = _metadata(requests, f"/v2/models/{path}")
    datatypes = _checked_inputs(stated, about)
    facts = _Stated(stated, checkpoint, name, embedding_std)
    about = replace(about, injection=str(facts.parameters.get("injection", about.injection)), facts=facts)
    requests.asks(f"{path} {facts.model_sha256}")
    binary = encoding == "binary" or (encoding == "auto" and _offers_binary(requests))
    inference = _Inference(requests, f"/v2/models/{path}", datatypes, about.hidden_size, binary=binary)
    return FrozenModel(about, KServeRunner(inference, rows=rows))


@dataclass(frozen=True)
class _Stated:
    """The facts that a server states of its model.

    metadata: all that it says; folder: the tokenizer's; given: an embedding_std that goes before the stated one.
    """

    metadata: Mapping[str, Any]
    folder: Checkpoint
    name: str
    given: float | None

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The metadata's parameters, whatever the server made of them."""
        parameters = self.metadata.get("parameters")
        return parameters if isinstance(parameters, dict) else {}

    @property
    def embedding_std(self) -> float:
        """As given, or the metadata's parameter `embedding_std`. Raises SetupError where nobody says."""
        found = self.parameters.get("embedding_std") if self.given is None else self.given
        if not isinstance(found, int | float) or not 0 < found < np.inf:
            raise SetupError(
                f"the scale of the continuous prompt is set by the standard deviation of {self.name!r}'s word "
                "embeddings, and its metadata has no parameter embedding_std: say it (--embedding-std)"
            )
        return float(found)

    @property
    def model_sha256(self) -> str:
        """The hash of the weights, as the server says; else "metadata:" and a hash of all it says of the model."""
        stated = self.parameters.get("sha256")
        if isinstance(stated, str) and stated:
            return stated
        return "metadata:" + hashlib.sha256(json.dumps(self.metadata, sort_keys=True).encode()).hexdigest()

    @property
    def tokenizer_sha256(self) -> str:
        """The hash of the folder's tokenizer.json."""
        return self.folder.tokenizer_sha256


class _Inference:
    """The served graph: one request for each chunk."""

    def __init__(
        self, requests: Requests, path: str, datatypes: Mapping[str, str], hidden_size: int, *, binary: bool
    ) -> None:
        self.requests, self.path, self.datatypes, self.binary = requests, path, datatypes, binary
        self._hidden_size = hidden_size

    def run(self, output: str, feeds: dict[str, np.ndarray]) -> np.ndarray:
        labels = feeds["label_embeddings" if "label_embeddings" in feeds else "label_ids"]
        shape = (len(feeds["text_ids"]), self._hidden_size if output == "embedding" else len(labels))
        identity = _identity(output, feeds)
        request = encode_request(feeds, self.datatypes, output, identity, binary=self.binary)
        found: np.ndarray = self.requests.ask(
            f"{self.path}/infer",
            request.body,
            request.headers,
            identity,
            shape,
            lambda answer: read_tensor(answer, output, shape, identity),
        )
        return found


class KServeRunner(ChunkRunner):
    """Chunks of rows, each one request. Attribute: requests (the log and the transport)."""

    def __init__(self, inference: _Inference, *, rows: int) -> None:
        self.requests = inference.requests
        self.binary = inference.binary  # whether tensors travel as bytes
        super().__init__(inference, chunk_rows=rows, pool=Threads(self.requests.transport.wire.concurrency))
        self.providers = (f"Open Inference Protocol, {'binary' if self.binary else 'JSON'} tensors",)

    def read(self, rows: ModelRows, output: str, width: int) -> np.ndarray:
        with self.requests.one_call():
            return super().read(rows, output, width)

    def keep(self, path: Path) -> None:
        self.requests.keep(path)

    def report(self) -> dict[str, Any]:
        return self.requests.report()

    def close(self) -> None:
        self.requests.close()
        super().close()


def _metadata(requests: Requests, path: str) -> dict[str, Any]:
    """What the server says of a model that is ready."""
    transport = requests.transport
    ready = transport.get(f"{path}/ready")
    if ready.status != 200:
        raise SetupError(f"{transport.url}{path} is not ready: HTTP {ready.status}")
    answer = transport.get(path)
    if answer.status != 200:
        raise SetupError(f"{transport.url}{path} says nothing of itself: HTTP {answer.status}")
    return read_object(answer.body)


def _checked_inputs(stated: Mapping[str, Any], about: Description) -> dict[str, str]:
    """Name -> datatype of every input. Raises SetupError for a model that is not the graph of `zopog export`."""
    wanted = _POOLED_INPUTS if about.pooling else _INPUTS
    inputs, outputs = (tensor_types(stated, kind) for kind in ("inputs", "outputs"))
    if not inputs:
        return dict(wanted)
    if set(inputs) != set(wanted):
        raise SetupError(
            f"the served model {about.name!r} has the inputs {quoted_names(sorted(inputs))}; expected "
            f"{', '.join(sorted(wanted))}: serve what `zopog export` writes"
        )
    if outputs and "logits" not in outputs:
        found = quoted_names(sorted(outputs))
        raise SetupError(f"the served model {about.name!r} has no output logits, only {found}")
    for name, (datatype, shape) in inputs.items():
        whole = ("INT64", "INT32")
        if datatype not in (whole if wanted[name] in whole else ("FP32",)):
            found = f"datatype {quoted(datatype)}, expected {wanted[name]}"
            raise SetupError(f"input {name} of {about.name!r} has {found}")
        width = shape[-1] if shape else None
        if name == "prompt_offset" and type(width) is int and width not in (-1, about.embedding_size):
            raise SetupError(
                f"the served model {about.name!r} has embeddings of width {width}, the tokenizer's folder says "
                f"{about.embedding_size}: give the folder of the same model"
            )
    return {name: datatype for name, (datatype, _) in inputs.items()}


def _offers_binary(requests: Requests) -> bool:
    answer = requests.transport.get("/v2")
    if answer.status != 200:
        return False
    try:
        extensions = read_object(answer.body).get("extensions")
    except ServiceError:
        return False
    return isinstance(extensions, list) and BINARY_EXTENSION in extensions


def _identity(output: str, feeds: Mapping[str, np.ndarray]) -> str:
    """A hash of what is asked: the same for a repeated question, however it travels."""
    digest = hashlib.sha256(output.encode())
    for name in sorted(feeds):
        array = np.ascontiguousarray(feeds[name])
        digest.update(f"|{name}{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:32]
