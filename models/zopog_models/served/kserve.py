"""A frozen model that somebody else serves, over the Open Inference Protocol: the same black box, the same oracle.

    model = open_remote("http://localhost:8080/v2/models/bert", tokenizer="path/to/folder")
    oracle = FrozenModelOracle(model, encoded, label_ids, candidates, projection, n_positions)

The server holds the graph of `zopog export`: its inputs go over the wire, its logits come back. Here are the tokenizer
and config.json, which say how texts become rows. A question is cut into requests by a rule that looks at the rows
alone, so concurrency, retries and an interruption do not change a bit of the result.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote

import numpy as np

from zopog_models.checkpoints.checkpoint import Checkpoint
from zopog_models.checkpoints.tokenizer import open_tokenizer, special_ids, word_space
from zopog_models.families import Config, family_of
from zopog_models.families.sentence import as_published
from zopog_models.files.json_file import read_object as read_json_object
from zopog_models.files.quoting import quoted, quoted_names
from zopog_models.frozen.model import TEMPERATURE, FrozenModel
from zopog_models.frozen.rows import ModelRows
from zopog_models.served.inference_protocol import (
    BINARY_EXTENSION,
    encode_request,
    read_object,
    read_tensor,
    tensor_types,
)
from zopog_models.served.request_log import RequestLog
from zopog_models.served.transport import ServiceError, SetupError, Transport, Wire, split_address

__all__ = ["ENCODINGS", "RemoteModel", "open_remote"]

ENCODINGS = ("auto", "json", "binary")
ROWS = 64  # of one request
_INPUTS = {"text_ids": "INT64", "attention_mask": "INT64", "answer_position": "INT64", "prompt_ids": "INT64",
           "prompt_offset": "FP32", "prompt_index": "INT64", "label_ids": "INT64"}  # fmt: skip
_POOLED_INPUTS = {name: kind for name, kind in _INPUTS.items() if name not in ("answer_position", "label_ids")} | {
    "label_embeddings": "FP32"
}


class ServedModel(FrozenModel):
    """What a model behind a server has of a `FrozenModel` without its weights: the tokenizer, the sizes, the threads.

    tokenizer: a folder with config.json and tokenizer.json. log: every request. Raises SetupError, CheckpointError.
    """

    log: RequestLog
    transport: Transport

    def __init__(
        self, url: str, tokenizer: str | Path, wire: Wire, rows: int, notify: Callable[[str], None],
        *, pooling: str | None = None, temperature: float = TEMPERATURE,
    ) -> None:  # fmt: skip
        if rows < 1:
            raise SetupError(f"rows of a request are {rows}; there must be at least 1")
        self.log = RequestLog()
        self._under_way, self._given_up, self._change = 0, False, threading.Condition()
        self.transport = Transport(url, wire, self.log, notify=notify)
        checkpoint = _without_weights(Path(tokenizer), pooling)
        architecture = checkpoint.architecture
        self.pooling, self.temperature = checkpoint.pooling, temperature
        self.family = checkpoint.family.name
        self.hidden_size, self.embedding_size = architecture.hidden_size, architecture.embedding_size
        self.vocab_size, self.max_positions = architecture.vocab_size, architecture.max_positions
        self.hidden_units = (architecture.layers, architecture.intermediate_size)
        self.injection = checkpoint.family.injections[0]
        self.device, self.threads, self.chunk_rows = "cpu", wire.concurrency, rows
        self.tokenizer = open_tokenizer(checkpoint)
        self.mask_id, self.pad_id, self.cls_id, self.sep_id, self.special_ids = special_ids(checkpoint, self.tokenizer)
        self.space = word_space(self.tokenizer)
        self.precision, self.stream = "fp32", None
        self._fixed_feeds, self._reuse, self._checkpoint = {}, None, checkpoint

    @property
    def can_thin(self) -> bool:
        """False: nobody else's model can be thinned."""
        return False

    def thinned(self, unit_mask: np.ndarray) -> NoReturn:
        """Raises ValueError."""
        raise ValueError(f"{self.name!r} is served by somebody else and cannot be thinned")

    def reduced(self, precision: str) -> NoReturn:
        """Raises ValueError."""
        raise ValueError(f"{self.name!r} is served by somebody else: its precision is the server's, not {precision!r}")

    def _ask(
        self, path: str, body: bytes, headers: Mapping[str, str], identity: str, shape: tuple[int, ...],
        read: Callable[..., Any],
    ) -> Any:  # fmt: skip
        """The answer, written down; of a question that was answered before, the answer there was, if it fits."""
        found = self.log.answer(identity)
        if found is not None and found.shape == shape and np.isfinite(found).all():
            return found
        with self._change:
            if self._given_up:  # the same call's, by a thread that has not been told yet
                raise ServiceError("another request failed, this one was not sent")
            self._under_way += 1
        try:
            found = self.transport.post(path, body, headers, identity, read)
            self.log.answered(identity, found)
        except BaseException:
            self._given_up = True
            raise
        finally:
            with self._change:
                self._under_way -= 1
                self._change.notify_all()
        return found

    def _settle(self) -> None:
        """After a request failed for good: repeat no other, but take the answers that are still on their way."""
        self.transport.abandon()
        with self._change:
            self._change.wait_for(lambda: not self._under_way, timeout=self.transport.wire.timeout)

    def _begin(self) -> None:
        """Before the requests of a call, whatever became of the last."""
        self._given_up = False


class RemoteModel(ServedModel):
    """A `FrozenModel` whose graph runs elsewhere. All of `FrozenModel` but thinned and reduced networks.

    Further attributes: log (`RequestLog`), transport, binary (whether tensors travel as bytes), about (what the server
    says of the model). sha256 is what the metadata's parameter `sha256` says, or "metadata:" and a hash of all it says.
    """

    def __init__(
        self,
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
    ) -> None:
        if encoding not in ENCODINGS:
            raise SetupError(f"encoding must be one of {', '.join(ENCODINGS)}, got {encoding!r}")
        if embedding_std is not None and not 0 < embedding_std < np.inf:
            raise SetupError(f"embedding_std is {embedding_std}; it must be a positive number")
        base, _, name = url.rstrip("/").rpartition("/v2/models/")
        if not base or not name:
            raise SetupError(f"{url!r} names no model; expected http://host:port/v2/models/NAME")
        split_address(url)
        super().__init__(base, tokenizer, wire, rows, notify, pooling=pooling, temperature=temperature)
        self._path = f"/v2/models/{name}"
        self.name, self.source = unquote(name.partition("/")[0]), f"kserve+{url.rstrip('/')}"
        self.about = self._metadata()
        self._datatypes = self._checked_inputs()
        parameters = self.about.get("parameters")
        self._parameters: dict[str, Any] = parameters if isinstance(parameters, dict) else {}
        self.injection = str(self._parameters.get("injection", self.injection))
        self._embedding_std = self._parameters.get("embedding_std") if embedding_std is None else embedding_std
        self.binary = encoding == "binary" or (encoding == "auto" and self._offers_binary())
        self.providers = (f"Open Inference Protocol, {'binary' if self.binary else 'JSON'} tensors",)
        self._session = _Inference(self)

    @cached_property
    def embedding_std(self) -> float:
        """As given, or the metadata's parameter `embedding_std`. Raises SetupError where nobody says."""
        if not isinstance(self._embedding_std, int | float) or not 0 < self._embedding_std < np.inf:
            raise SetupError(
                f"the scale of the continuous prompt is set by the standard deviation of {self.name!r}'s word "
                "embeddings, and its metadata has no parameter embedding_std: say it (--embedding-std)"
            )
        return float(self._embedding_std)

    @property
    def sha256(self) -> str:
        """Of the weights, as the server says; else "metadata:" and a hash of all it says of the model."""
        stated = self._parameters.get("sha256")
        if isinstance(stated, str) and stated:
            return stated
        return "metadata:" + hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()

    def _run_rows(self, rows: ModelRows, output: str, width: int) -> np.ndarray:
        self._begin()
        try:
            return super()._run_rows(rows, output, width)
        except BaseException:  # of all chunks under way one failed for good, or the user stopped it
            self._settle()
            raise

    def _metadata(self) -> dict[str, Any]:
        ready = self.transport.get(f"{self._path}/ready")
        if ready.status != 200:
            raise SetupError(f"{self.transport.url}{self._path} is not ready: HTTP {ready.status}")
        answer = self.transport.get(self._path)
        if answer.status != 200:
            raise SetupError(f"{self.transport.url}{self._path} says nothing of itself: HTTP {answer.status}")
        return read_object(answer.body)

    def _checked_inputs(self) -> dict[str, str]:
        """Name -> datatype of every input. Raises SetupError for a model that is not the graph of `zopog export`."""
        wanted = _POOLED_INPUTS if self.pooling else _INPUTS
        inputs, outputs = (tensor_types(self.about, kind) for kind in ("inputs", "outputs"))
        if not inputs:
            return dict(wanted)
        if set(inputs) != set(wanted):
            raise SetupError(
                f"the served model {self.name!r} has the inputs {quoted_names(sorted(inputs))}; expected "
                f"{', '.join(sorted(wanted))}: serve what `zopog export` writes"
            )
        if outputs and "logits" not in outputs:
            found = quoted_names(sorted(outputs))
            raise SetupError(f"the served model {self.name!r} has no output logits, only {found}")
        for name, (datatype, shape) in inputs.items():
            whole = ("INT64", "INT32")
            if datatype not in (whole if wanted[name] in whole else ("FP32",)):
                found = f"datatype {quoted(datatype)}, expected {wanted[name]}"
                raise SetupError(f"input {name} of {self.name!r} has {found}")
            width = shape[-1] if shape else None
            if name == "prompt_offset" and type(width) is int and width not in (-1, self.embedding_size):
                raise SetupError(
                    f"the served model {self.name!r} has embeddings of width {width}, the tokenizer's folder says "
                    f"{self.embedding_size}: give the folder of the same model"
                )
        return {name: datatype for name, (datatype, _) in inputs.items()}

    def _offers_binary(self) -> bool:
        answer = self.transport.get("/v2")
        if answer.status != 200:
            return False
        try:
            extensions = read_object(answer.body).get("extensions")
        except ServiceError:
            return False
        return isinstance(extensions, list) and BINARY_EXTENSION in extensions


class _Inference:
    """What computes a graph: one request."""

    def __init__(self, model: RemoteModel) -> None:
        self._model = model

    def run(self, output: str, feeds: dict[str, np.ndarray]) -> np.ndarray:
        model = self._model
        rows, first_label = len(feeds["text_ids"]), feeds["label_embeddings" if model.pooling else "label_ids"]
        width = model.hidden_size if output == "embedding" else len(first_label)
        identity = _identity(output, feeds)
        request = encode_request(feeds, model._datatypes, output, identity, binary=model.binary)
        return model._ask(
            f"{model._path}/infer",
            request.body,
            request.headers,
            identity,
            (rows, width),
            lambda answer: read_tensor(answer, output, (rows, width), identity),
        )


def open_remote(url: str, tokenizer: str | Path, **options: Any) -> RemoteModel:
    """A model at http(s)://host/v2/models/NAME[/versions/V]; options as of `RemoteModel`.

    tokenizer: a folder with the model's config.json and tokenizer.json (no weights). wire: `Wire`; rows: of one
    request; encoding: "json", "binary", or "auto", which is binary where the server lists binary_tensor_data among its
    extensions; embedding_std: where the model's metadata has no such parameter.
    Raises SetupError (address, key, not ready, another graph), ServiceError (no answer), ProviderError.
    """
    return RemoteModel(url, tokenizer, **options)


def _without_weights(folder: Path, pooling: str | None) -> Checkpoint:
    """The checkpoint of a folder of which config.json and tokenizer.json are enough."""
    if not folder.is_dir():
        raise SetupError(f"the tokenizer's folder {str(folder)!r} is no folder; give one with config.json and "
                         "tokenizer.json")  # fmt: skip
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise SetupError(f"{folder} has no {name}; a tokenizer's folder needs config.json and tokenizer.json")
    config = Config(folder / "config.json", read_json_object(folder / "config.json"))
    family = family_of(config)
    architecture = as_published(family.read(config), folder, pooling)
    return Checkpoint(family, dict(config.values), {}, folder, architecture)


def _identity(output: str, feeds: Mapping[str, np.ndarray]) -> str:
    """A hash of what is asked: the same for a repeated question, however it travels."""
    digest = hashlib.sha256(output.encode())
    for name in sorted(feeds):
        array = np.ascontiguousarray(feeds[name])
        digest.update(f"|{name}{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:32]
