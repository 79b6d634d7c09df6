"""The one loop that runs any method: budget, mini-batches, selection on dev, checkpoint and resume.

A search on a function of one's own:

    >>> import numpy as np
    >>> from zopog_ref import FunctionObjective, Ledger, ZOPoG, run
    >>> def loss(tokens, z, examples):  # (K, n), z, (B,) -> (K, B)
    ...     return np.repeat((tokens != 2).mean(axis=1)[:, None], len(examples), axis=1)
    >>> run(ZOPoG(n_positions=4, n_candidates=3, dim=2), FunctionObjective(loss, Ledger(budget=400)), rows=1)
    SearchResult(prompts=1, dev_metric=-, dev_loss=-, best_step=10, steps=10, calls=400, stop_reason='budget')
"""

from __future__ import annotations  # signatures show names, not what these stand for

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple, Protocol

import numpy as np

from zopog_ref.arrays import ARRAY, FLOAT64, INT64
from zopog_ref.method import Method, WeightedPrompt
from zopog_ref.objective import BudgetExhausted, Ledger, ModelObjective, Objective
from zopog_ref.randomness import Purpose, permutation

__all__ = ["Arrays", "DevScore", "Record", "SearchResult", "Store", "mini_batch", "run", "step_price", "step_rows"]

Arrays = dict[str, ARRAY]
_LOG = logging.getLogger(__name__)


class DevScore(NamedTuple):
    """How good prompts are on dev: a higher metric (accuracy, or what the task names) wins, then lower loss."""

    metric: float
    loss: float

    def beats(self, other: DevScore | None) -> bool:
        """Strictly better, so that the earliest of equals is kept."""
        return other is None or (self.metric, -self.loss) > (other.metric, -other.loss)


@dataclass(frozen=True)
class Record:
    """One line of the learning curve. calls, sequences, tokens are totals; dev is None where it was not evaluated."""

    step: int
    calls: int
    sequences: int
    tokens: int
    dev_metric: float | None
    dev_loss: float | None
    diagnostics: dict[str, float]  # the float fields of the method's state: loss, gradient norms


@dataclass(frozen=True, repr=False)
class SearchResult:
    """What a run ends with: the prompts that were best on dev, where, and why it stopped.

    scores: (M, rows, C) of those prompts on the training rows, where the step that found them paid for all of them.
    """

    prompts: list[WeightedPrompt]
    dev: DevScore | None
    best_step: int
    state: Any
    curve: list[Record]
    stop_reason: str
    scores: FLOAT64 | None = None

    def __repr__(self) -> str:
        metric, loss = ("-", "-") if self.dev is None else (f"{self.dev.metric:.4g}", f"{self.dev.loss:.4g}")
        calls = self.curve[-1].calls if self.curve else 0
        return (
            f"SearchResult(prompts={len(self.prompts)}, dev_metric={metric}, dev_loss={loss}, "
            f"best_step={self.best_step}, steps={len(self.curve)}, calls={calls}, stop_reason={self.stop_reason!r})"
        )

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self)).replace(', ', chr(10) + ' ' * 13)}</pre>"


class Store(Protocol):
    """Where a run is kept. load returns what the last save got, with the curve up to it, or None at the start."""

    def load(self) -> tuple[Arrays, list[Record]] | None: ...
    def save(self, arrays: Arrays, record: Record) -> None: ...


def mini_batch(seed: int, step: int, rows: int, batch_size: int) -> INT64:
    """Rows of step `step`: each epoch runs through a fresh random order, its last batch may be smaller.

    Errors: ValueError for rows or a batch_size below 1.
    """
    _at_least_one(rows=rows, batch_size=batch_size)
    steps_per_epoch = -(-rows // batch_size)
    epoch, place = divmod(step, steps_per_epoch)
    return permutation(seed, epoch, Purpose.EPOCH, rows)[place * batch_size : (place + 1) * batch_size]


def step_rows(method: Method, step: int, rows: int, batch_size: int) -> INT64:
    """The training rows that step `step` of a method gets: all of them, or its mini-batch."""
    return np.arange(rows) if method.full_batch else mini_batch(method.seed, step, rows, batch_size)


def step_price(method: Method, ledger: Ledger, rows: int, batch_size: int) -> int:
    """Calls that a step of a method costs at most, for a training split of `rows`."""
    return ledger.price(method.calls_per_step, rows if method.full_batch else min(rows, batch_size))


def run(
    method: Method,
    objective: Objective,
    *,
    rows: int,
    batch_size: int = 32,
    dev: Callable[[Sequence[WeightedPrompt]], DevScore] | None = None,
    evaluate_every: int | None = None,
    store: Store | None = None,
    on_step: Callable[[Record], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> SearchResult:
    """Run a method until its budget is spent or it is finished, and return the prompts that were best on dev.

    Parameters:

    - method: what learns.
    - objective: the training loss, with the ledger that holds the budget.
    - rows: rows of the training split; at least 1.
    - batch_size: rows of a mini-batch; at least 1. Default: 32.
    - dev: scores prompts, and is not charged; not asked again about the prompts of the step before, nor about the best
      so far. Default: None, which returns the last prompts.
    - evaluate_every: steps between two evaluations on dev; the last step is always evaluated. Default: None, once an
      epoch, which is every step of a full_batch method.
    - store: makes the run resumable: saved after every step, continued bit for bit. Default: None.
    - on_step: called with the Record of every step. Default: None.
    - should_stop: asked before every step; True ends the run. Default: never.

    Errors: ValueError for rows, batch_size or evaluate_every below 1; BudgetExhausted when the budget is under one
    step. Nothing is sent to the model then.
    """
    _at_least_one(rows=rows, batch_size=batch_size, evaluate_every=1 if evaluate_every is None else evaluate_every)
    every = evaluate_every or (1 if method.full_batch else -(-rows // batch_size))
    price = step_price(method, objective.ledger, rows, batch_size)
    state, curve, best, kept = _restore(method, objective, store)
    if not curve and objective.ledger.left < price:
        costs = f"one step of this method costs {price} calls and the budget is {objective.ledger.budget}"
        raise BudgetExhausted(f"{costs}: raise the budget or use fewer samples a step")
    _LOG.info("%r starts at step %d: %d calls left, %d a step", method, len(curve), objective.ledger.left, price)
    last: list[_Scored] = []  # the prompts of the step before and their score, if it took one
    if curve and curve[-1].dev_metric is not None and curve[-1].dev_loss is not None:
        last = [(deepcopy(method.prompts(state)), DevScore(curve[-1].dev_metric, curve[-1].dev_loss))]
    while not (stop_reason := _stop_reason(method, state, objective, price)):
        if should_stop():
            stop_reason = "interrupted"
            break
        step = len(curve)
        if isinstance(objective, ModelObjective):
            objective.whole = []
        state = method.step(state, objective, step_rows(method, step, rows, batch_size))
        score = None
        if dev is not None and ((step + 1) % every == 0 or _stop_reason(method, state, objective, price)):
            prompts = deepcopy(method.prompts(state))  # its next step may write into the same arrays
            known = last if kept is None or best is None else [*last, (kept.prompts, best)]
            score = _score_among(known, prompts) or dev(prompts)
            if score.beats(best):
                best, kept = score, _Kept(step + 1, prompts, _paid_scores(objective, prompts))
                _LOG.info("step %d: the best on dev so far, metric %.4g, loss %.4g", step + 1, *score)
        last = [] if score is None else [(prompts, score)]
        curve.append(_record(step + 1, objective, score, state))
        _LOG.debug("%s", curve[-1])
        if store is not None:
            store.save(_to_arrays(state, best, kept), curve[-1])
        if on_step is not None:
            on_step(curve[-1])
    _LOG.info("ended after step %d and %d calls: %s", len(curve), objective.ledger.calls, stop_reason)
    if kept is None:
        prompts = method.prompts(state)
        kept = _Kept(len(curve), prompts, _paid_scores(objective, prompts))
    return SearchResult(kept.prompts, best, kept.step, state, curve, stop_reason, kept.scores)


_Scored = tuple[Sequence[WeightedPrompt], DevScore]


def _score_among(known: Sequence[_Scored], prompts: Sequence[WeightedPrompt]) -> DevScore | None:
    """The score of the same prompts, if it is known. A checkpoint has what is: a resumed run asks dev no more often."""
    for scored, score in known:
        if len(scored) == len(prompts) and all(_same(*pair) for pair in zip(scored, prompts)):
            return score
    return None


def _same(one: WeightedPrompt, other: WeightedPrompt) -> bool:
    parts: Any = zip(one, other)
    return all(np.array_equal(a, b) for a, b in parts)  # a readout that is None equals None


def _at_least_one(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; it must be at least 1")


def _stop_reason(method: Method, state: Any, objective: Objective, price: int) -> str:
    """Why no step follows this state, or ""."""
    return method.finished(state) or ("budget" if objective.ledger.left < price else "")


class _Kept(NamedTuple):
    step: int
    prompts: list[WeightedPrompt]
    scores: FLOAT64 | None  # (M, rows, C)


def _paid_scores(objective: Objective, prompts: Sequence[WeightedPrompt]) -> FLOAT64 | None:
    """What the last step paid for of these prompts on all training rows: all of it, or None."""
    if not isinstance(objective, ModelObjective):
        return None
    found = [objective.paid_scores(prompt.tokens, prompt.z) for prompt in prompts]
    return None if any(scores is None for scores in found) else np.array(found)  # (M, rows, C)


def _record(step: int, objective: Objective, score: DevScore | None, state: Any) -> Record:
    diagnostics = {k: v for k, v in _fields(state).items() if isinstance(v, float)}
    ledger = objective.ledger
    return Record(
        step, ledger.calls, ledger.sequences, ledger.tokens,
        None if score is None else score.metric, None if score is None else score.loss, diagnostics,
    )  # fmt: skip


def _fields(state: Any) -> dict[str, Any]:
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}


def _to_arrays(state: Any, best: DevScore | None, kept: _Kept | None) -> Arrays:
    """A checkpoint as plain arrays: the state's fields, and the best prompts so far."""
    arrays = {f"state.{name}": _on_host(value) for name, value in _fields(state).items() if value is not None}
    if kept is not None and best is not None:
        arrays["best.step"] = np.asarray(kept.step)
        arrays["best.score"] = np.asarray(best, np.float64)
        arrays["best.tokens"] = np.stack([prompt.tokens for prompt in kept.prompts])  # (M, n)
        arrays["best.z"] = np.stack([prompt.z for prompt in kept.prompts])  # (M, d)
        arrays["best.weight"] = np.asarray([prompt.weight for prompt in kept.prompts], np.float64)  # (M,)
        read = [prompt.readout for prompt in kept.prompts if prompt.readout is not None]
        if read:
            arrays["best.readout"] = np.stack(read)  # (M, C + 1, C)
        if kept.scores is not None:
            arrays["best.scores"] = kept.scores
    return arrays


def _on_host(value: Any) -> ARRAY:
    """A field of a state as NumPy's array: a device's array has `get` for this and refuses np.asarray."""
    return np.asarray(value.get() if hasattr(value, "get") else value)


def _restore(
    method: Method, objective: Objective, store: Store | None
) -> tuple[Any, list[Record], DevScore | None, _Kept | None]:
    """State, curve, best score and best prompts: from the store's checkpoint, or fresh."""
    initial = method.init()
    saved = store.load() if store is not None else None
    if saved is None:
        return initial, [], None, None
    arrays, curve = saved
    state = type(initial)(**_state_fields(initial, arrays))
    ledger = objective.ledger
    ledger.calls, ledger.sequences, ledger.tokens = curve[-1].calls, curve[-1].sequences, curve[-1].tokens
    if "best.step" not in arrays:
        return state, curve, None, None
    prompts = [
        WeightedPrompt(tokens, z, float(weight), readout)
        for tokens, z, weight, readout in zip(
            arrays["best.tokens"], arrays["best.z"], arrays["best.weight"],
            arrays.get("best.readout", [None] * len(arrays["best.weight"])),
        )
    ]  # fmt: skip
    kept = _Kept(int(arrays["best.step"]), prompts, arrays.get("best.scores"))
    return state, curve, DevScore(*map(float, arrays["best.score"])), kept


def _state_fields(initial: Any, arrays: Mapping[str, ARRAY]) -> dict[str, Any]:
    """The saved fields with the types the method's own initial state has."""
    restored: dict[str, Any] = {}
    for name, value in _fields(initial).items():
        if value is None:  # a part that these settings leave out
            restored[name] = None
            continue
        if f"state.{name}" not in arrays:
            raise ValueError(f"the checkpoint lacks {name!r}: it was made by another method or version")
        saved = arrays[f"state.{name}"]
        restored[name] = saved if isinstance(value, np.ndarray) else type(value)(saved)
    return restored
