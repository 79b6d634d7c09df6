"""Our side of `zopog bench`: a process that has a model and inputs, and does one thing each time it reads a line."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.frozen.device_oracle import DeviceOracle
from zopog_models.frozen.model import FrozenModel, load_model
from zopog_models.frozen.oracle import FrozenModelOracle
from zopog_models.frozen.uploading_oracle import UploadingOracle
from zopog_models.graph import GraphBuilder
from zopog_models.runners.session import Session
from zopog_models.tasks.encoding import Encoded
from zopog_ref import search
from zopog_ref.app.bench.random_model import SHAPES, Shape
from zopog_ref.app.run.config import versions
from zopog_ref.app.run.experiment import method_of
from zopog_ref.app.run.presets import PRESETS
from zopog_ref.app.tune.backends import open_backend, stream_of
from zopog_ref.backend import NUMPY
from zopog_ref.method import Method
from zopog_ref.objective import Ledger, ModelObjective, Objective, cross_entropy
from zopog_ref.zeroth_order import projection

DIM, SCALE = 500, 100.0  # of the projection, as published for RoBERTa-large
GEMM_RUNS = 3


@dataclass(frozen=True)
class Work:
    """What a process of `zopog bench` is given, beside what it is asked line by line."""

    worker: Path  # the folder with the model and its inputs
    shape: str
    n_positions: int
    threads: int
    device: str
    method: str
    budget: int
    precision: str
    precision_scope: str
    backend: str


def work(given: Work) -> int:
    """Say ready; then answer every line with what it names: a loss, an iteration, a run, or the products alone."""
    backend: Any = NUMPY
    if given.backend != "numpy":  # a loss has no method
        backend = open_backend(given.backend, _method(given, 1), given.device)
    stream = stream_of(backend, given.device)
    model = load_model(given.worker, device=given.device, threads=given.threads, stream=stream)
    with np.load(given.worker / "inputs.npz") as file:  # no pickled objects: NumPy's default refuses them
        inputs = dict(file)
    reduced = None if given.precision == "fp32" else model.reduced(given.precision)
    jobs: dict[str, Callable[[], dict[str, Any]]] = {
        "loss": lambda: _loss(reduced or model, inputs),
        "iteration": _iteration(given, backend, model, reduced, inputs),
        "run": lambda: _run(given, backend, model, reduced, inputs),
        "gemm": Products(model, SHAPES[given.shape], inputs).run,
    }
    _say({"runtime": "ONNX Runtime", "versions": versions(), "precision": given.precision})
    for line in sys.stdin:
        start = time.perf_counter()
        answer = jobs[line.strip()]()
        _say({"seconds": time.perf_counter() - start, **answer})
    return 0


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _loss(model: FrozenModel, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    index = np.zeros(len(inputs["text_ids"]), np.int64)
    names = ("text_ids", "answer_position", "prompt_ids", "prompt_offset", "label_ids")
    logits = model.logits(**{name: inputs[name] for name in names}, prompt_index=index)  # type: ignore[arg-type]
    return {"logits": logits.tolist()}


def _oracle(
    given: Work,
    model: FrozenModel,
    reduced: FrozenModel | None,
    inputs: dict[str, np.ndarray],
    kind: type[FrozenModelOracle] = FrozenModelOracle,
    **where: Any,
) -> Any:
    texts = list(inputs["text_ids"])
    lengths = np.array([len(text) for text in texts])
    encoded = Encoded(texts, inputs["answer_position"], 0, lengths, lengths)
    n = given.n_positions
    a = projection(0, n, model.embedding_size, DIM, scale=SCALE, embedding_std=model.embedding_std)
    differences = given.precision_scope == "all"
    told = (model, encoded, inputs["label_ids"], inputs["candidates"], a, n)
    return kind(*told, reduced=reduced, differences=differences, **where)


def _method(given: Work, candidates: int) -> Any:
    preset = PRESETS[given.method, "paper"]
    return method_of(preset.changed(n_positions=given.n_positions, n_candidates=candidates, dim=DIM), 0)


def _searched(
    given: Work,
    backend: Any,
    model: FrozenModel,
    reduced: FrozenModel | None,
    inputs: dict[str, np.ndarray],
    ledger: Ledger,
) -> tuple[Method, Objective]:
    """The method and its objective as `tune.backends.on_backend` has them."""
    method, labels = _method(given, len(inputs["candidates"])), inputs["labels"]
    if backend is NUMPY:
        return method, ModelObjective(_oracle(given, model, reduced, inputs), labels, ledger)
    memory = backend.device
    if not method.has_kernels:
        oracle = _oracle(given, model, reduced, inputs, UploadingOracle, memory=memory)
        return method, ModelObjective(oracle, labels, ledger)
    from zopog_kernels import DeviceObjective

    method.backend = backend
    oracle = _oracle(given, model, reduced, inputs, DeviceOracle, memory=memory)
    return method, DeviceObjective(oracle.logits, labels, ledger, backend, lengths=oracle.lengths)


def _iteration(
    given: Work, backend: Any, model: FrozenModel, reduced: FrozenModel | None, inputs: dict[str, np.ndarray]
) -> Callable[[], dict[str, Any]]:
    """One step of the method after the other, each from the state that the one before left."""
    kept: dict[str, Any] = {}

    def step() -> dict[str, Any]:
        if not kept:  # made in the first round, which only warms up
            kept["method"], kept["objective"] = _searched(given, backend, model, reduced, inputs, Ledger(10**9))
            kept["state"] = kept["method"].init()
        examples = np.arange(len(inputs["labels"]))
        kept["state"] = kept["method"].step(kept["state"], kept["objective"], examples)
        return {"loss": kept["state"].loss}

    return step


def _run(
    given: Work, backend: Any, model: FrozenModel, reduced: FrozenModel | None, inputs: dict[str, np.ndarray]
) -> dict[str, Any]:
    """A whole run: the budget, and a dev score (of the same rows) as often as a run takes one."""
    oracle, labels = _oracle(given, model, reduced, inputs), inputs["labels"]
    rows = np.arange(len(labels))

    def dev(prompts: Any) -> search.DevScore:
        tokens, z = np.stack([p.tokens for p in prompts]), np.stack([p.z for p in prompts])
        logits = oracle.logits(tokens, z, rows).mean(axis=0)
        return search.DevScore(float((logits.argmax(-1) == labels).mean()), float(cross_entropy(logits, labels).mean()))

    ledger = Ledger(given.budget, batch_size=len(labels))
    method, objective = _searched(given, backend, model, reduced, inputs, ledger)
    result = search.run(method, objective, rows=len(labels), batch_size=len(labels), dev=dev)
    return {"loss": result.curve[0].diagnostics["loss"], "calls": ledger.calls, "sequences": ledger.sequences}


class Products:
    """The matrix products of the whole encoder, and nothing else, on chunks of the same rows in the same threads.

    What ONNX Runtime reaches on them is the peak that an evaluation can be held against.
    """

    def __init__(self, model: FrozenModel, shape: Shape, inputs: dict[str, np.ndarray]) -> None:
        rows, length = inputs["text_ids"].shape
        self._model, self._rows = model, rows
        self._positions = length + inputs["prompt_ids"].shape[1]
        d, f = shape.hidden, 4 * shape.hidden
        rng, g = np.random.default_rng(0), GraphBuilder()
        x = g.input("x", np.float32, ("R", "S", d))
        for layer in range(shape.layers):
            for i, (inside, out) in enumerate([(d, d)] * 4 + [(d, f), (f, d)]):
                weight = rng.normal(0, inside**-0.5, (inside, out)).astype(np.float32)
                x = g.op("MatMul", x, g.weight(f"w{layer}.{i}", weight))
        g.output(x, "y", np.float32, ("R", "S", d))
        self._graph = g.model_bytes("products", {}), g.initializers, model.device
        self._session: Session | None = None
        self._x = rng.normal(size=(min(rows, model.chunk_rows), self._positions, d)).astype(np.float32)
        self._flops = 2 * shape.layers * (4 * d * d + 2 * d * f) * rows * self._positions

    def run(self) -> dict[str, Any]:
        """All rows, GEMM_RUNS times."""
        chunks = [self._x[: min(len(self._x), self._rows - i)] for i in range(0, self._rows, len(self._x))] * GEMM_RUNS
        session = self._session = self._session or Session(*self._graph)  # opened when first asked for

        def multiply(x: np.ndarray) -> None:
            session.run("y", {"x": x})

        self._model.run_all(multiply, chunks)
        return {"flops": self._flops * GEMM_RUNS}


def evaluation_flops(shape: Shape, rows: int, positions: int, labels: int) -> int:
    """Multiplications and additions of one evaluation as we compute it: the last layer at one position."""
    d, f = shape.hidden, 4 * shape.hidden
    full = positions * (4 * d * d + 2 * d * f) + 2 * positions * positions * d
    last = positions * 2 * d * d + (2 * d * d + 2 * d * f) + 2 * positions * d
    return 2 * rows * ((shape.layers - 1) * full + last + d * d + d * labels)
