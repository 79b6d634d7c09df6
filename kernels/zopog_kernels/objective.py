"""Objectives for a method whose arrays are on a device: a model that is there as well, or one on the host."""

from __future__ import annotations  # signatures show names, not what these stand for

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zopog_kernels.backend import KernelBackend

__all__ = ["LOSSES", "DeviceObjective", "HostObjective", "HostedObjective", "Ledger"]

LOSSES = ("cross_entropy", "hinge")


class Ledger(Protocol):
    """What counts the calls: zopog_ref.Ledger."""

    def price(self, prompts: int, rows: int) -> int: ...

    def charge(self, calls: int, sequences: int = 0, tokens: int = 0) -> None: ...


class HostedObjective(Protocol):
    """Any objective of zopog_ref."""

    ledger: Any

    def losses(self, tokens: Any, z: Any, examples: NDArray[np.int64]) -> Any: ...


class DeviceObjective:
    """The loss of a model that takes and returns device arrays: nothing is copied to the host, nothing waits.

    A logit that is not finite is not noticed here: the step that used it raises when it reads its mean loss.

    Parameters:

    - logits: (tokens (K, n), z (K, d) or (K, B, d), examples (B,)) -> (K, B, C), on the backend's device and ordered
      after what its stream holds: zopog_models.DeviceOracle's, or your own function.
    - labels: (rows,), the class of each row, on the host.
    - ledger: pays for every query before the model is asked.
    - backend: holds the arrays and computes the loss.
    - loss: "cross_entropy" or "hinge". Default: "cross_entropy".
    - lengths: (rows,), tokens of each row, for the ledger. Default: None, they are not counted.

    Errors: ValueError for an unknown loss; whatever the ledger raises.
    """

    def __init__(
        self,
        logits: Callable[[Any, Any, NDArray[np.int64]], Any],
        labels: ArrayLike,
        ledger: Ledger,
        backend: KernelBackend,
        loss: str = "cross_entropy",
        lengths: ArrayLike | None = None,
    ) -> None:
        if loss not in LOSSES:
            raise ValueError(f"unknown loss {loss!r}; there are {', '.join(LOSSES)}")
        self.ledger: Any = ledger  # the caller's, whatever more it counts
        self._logits, self._labels, self._backend = logits, np.asarray(labels, np.int64), backend
        self._loss = backend.cross_entropy if loss == "cross_entropy" else backend.hinge
        self._examples, self._right = b"", backend.device.asarray(self._labels[:0], "int64")
        self._lengths = np.zeros(len(self._labels), np.int64) if lengths is None else np.asarray(lengths, np.int64)

    def losses(self, tokens: Any, z: Any, examples: NDArray[np.int64]) -> Any:
        """(K, B) losses, float64, on the device, for ledger.price(K, B) calls."""
        prompts, rows = len(tokens), len(examples)
        read = prompts * int(self._lengths[examples].sum())
        self.ledger.charge(self.ledger.price(prompts, rows), prompts * rows, read)
        if examples.tobytes() != self._examples:  # both halves of a step see one mini-batch: its labels go over once
            self._examples = examples.tobytes()
            self._right = self._backend.device.asarray(self._labels[examples], "int64")
        return self._loss(self._logits(tokens, z, examples), self._right)


class HostObjective:
    """An objective on the host for a method on a device: every query waits, and copies prompts and losses."""

    def __init__(self, objective: HostedObjective, backend: KernelBackend) -> None:
        self.ledger = objective.ledger
        self._objective, self._backend = objective, backend

    def losses(self, tokens: Any, z: Any, examples: NDArray[np.int64]) -> Any:
        """(K, B) losses, float64, on the device, for ledger.price(K, B) calls."""
        host = self._backend.to_numpy
        return self._backend.asarray(self._objective.losses(host(tokens), host(z), examples))
