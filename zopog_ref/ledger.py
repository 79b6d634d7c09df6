"""What a run has spent, and what it paid for already.

An API call is one prompt on one mini-batch, as the literature counts; the ledger also counts sequences (rows sent
to the model) and tokens. It refuses to start what would pass the budget, so a run never overspends.

    >>> from zopog_ref import Ledger
    >>> ledger = Ledger(budget=40, batch_size=32)
    >>> ledger.price(prompts=2, rows=96)  # 96 rows are three mini-batches
    6
    >>> ledger.charge(calls=6, sequences=192, tokens=4_000)
    >>> ledger.left
    34
"""

from __future__ import annotations  # signatures show names, not what these stand for

from dataclasses import dataclass
from typing import Protocol

from zopog_ref.arrays import FLOAT64
from zopog_ref.checks import at_least, check

__all__ = ["BudgetExhausted", "Journal", "Ledger"]


class BudgetExhausted(Exception):
    """The budget of calls does not allow what was asked; nothing was sent to the model."""


@dataclass
class Ledger:
    """Counts what a run has spent, and refuses what would pass the budget.

    A call is one prompt on at most batch_size rows, so a method that wants more rows at once pays for each mini-batch
    they fill.

    Parameters:

    - budget: calls that the run may spend.
    - calls: calls spent so far. Default: 0.
    - sequences: rows sent to the model so far, for the record. Default: 0.
    - tokens: tokens sent to the model so far, for the record. Default: 0.
    - batch_size: rows of a call at most; at least 1. Default: None, any number of rows.
    - forwards: times that the model reads a row for its scores: one more for each further token of a label word that is
      scored by all its tokens. Each is a call, a sequence and a token more. Default: 1.

    Errors: ValueError for a batch_size below 1.
    """

    budget: int
    calls: int = 0
    sequences: int = 0
    tokens: int = 0
    batch_size: int | None = None
    forwards: int = 1

    def __post_init__(self) -> None:
        if self.batch_size is not None:
            check(self, at_least(1), "batch_size")

    def price(self, prompts: int, rows: int) -> int:
        """Calls that K prompts on B rows cost: K ceil(B / batch_size) forwards. Errors: ValueError without a row."""
        if rows < 1:
            raise ValueError(f"a query has {rows} rows; a mean loss needs one at least")
        return self.forwards * prompts * (1 if self.batch_size is None else -(-rows // self.batch_size))

    @property
    def left(self) -> int:
        """Calls left."""
        return self.budget - self.calls

    def charge(self, calls: int, sequences: int = 0, tokens: int = 0) -> None:
        """Pay before asking. Errors: BudgetExhausted when the calls would pass the budget; nothing is charged then."""
        if calls > self.left:
            raise BudgetExhausted(f"{calls} calls asked for, {self.left} of {self.budget} left")
        self.calls += calls
        self.sequences += sequences * self.forwards
        self.tokens += tokens + sequences * (self.forwards - 1)


class Journal(Protocol):
    """What was paid for since the last checkpoint, kept so that an interrupted step does not pay for it twice.

    Losses (K, B), or the scores (K, B, C) from which they come.
    """

    def replay(self) -> FLOAT64 | None:
        """The next recorded ones, or None when all have been replayed."""
        ...

    def record(self, losses: FLOAT64) -> None:
        """Keep these, in order."""
        ...
