"""What requests cost: tokens as the server counts them (`usage`), money by the prices that were given, and a cap.

Before a request leaves, the most that it can cost is set aside: a token has one byte at least, so a body of so many
bytes holds no more tokens. When the answer is there, what the server says of its tokens takes its place; where it says
nothing, or its answer is lost, what was set aside stays. So a cap is never passed, whatever is under way.
"""

import json
import math
import threading
from typing import NamedTuple

from zopog_models.errors import CapReached

__all__ = ["Prices", "Spending", "Usage", "usage_of"]


class Usage(NamedTuple):
    """Tokens that were read and written."""

    read: int
    written: int


class Prices(NamedTuple):
    """US dollars for a million tokens that are read, and written."""

    read: float
    written: float

    def cost(self, usage: Usage) -> float:
        """US dollars."""
        return (self.read * usage.read + self.written * usage.written) / 1e6


def usage_of(body: bytes) -> Usage | None:
    """The tokens that an answer says it took, or None."""
    if b'"usage"' not in body:
        return None
    try:
        found = json.loads(body)["usage"]
        pairs = (("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens"))
        read, written = next((found[a], found.get(b, 0)) for a, b in pairs if a in found)
    except (ValueError, KeyError, TypeError, StopIteration, AttributeError, RecursionError):
        return None
    fits = all(type(count) is int and 0 <= count < 2**40 for count in (read, written))
    return Usage(read, written) if fits else None


class Spending:
    """Of one run. Safe to use from several threads.

    prices: None where nobody said them; cap: US dollars, needs prices. Raises ValueError.
    """

    def __init__(self, prices: Prices | None = None, cap: float | None = None) -> None:
        if prices is not None and not all(0 <= price < math.inf for price in prices):
            raise ValueError(f"price-in is {prices.read} and price-out {prices.written}; neither may be negative")
        if cap is not None and not 0 < cap < math.inf:
            raise ValueError(f"budget-usd is {cap}; it must be a positive number")
        if cap is not None and prices is None:
            raise ValueError("budget-usd needs price-in and price-out: say what a million tokens cost")
        self.prices, self.cap = prices, cap
        self.usage, self.unsaid = Usage(0, 0), 0  # unsaid: answers without a usage, and those that were lost
        self._aside, self._lock = 0.0, threading.Lock()

    def set_aside(self, usage: Usage) -> float:
        """The cost of a request that takes so much at most; it is given to `settle`. Raises CapReached."""
        if self.prices is None:
            return 0.0
        most = self.prices.cost(usage)
        with self._lock:
            spent = self._spent()
            if self.cap is not None and spent + self._aside + most > self.cap:
                raise CapReached(
                    f"${spent:.4f} of ${self.cap:g} are spent, and the next request may cost ${most:.6f}: "
                    "raise --budget-usd to go on"
                )
            self._aside += most
        return most

    def check(self) -> None:
        """Raises CapReached where what is set aside is no longer there: answers that were lost count as billed."""
        with self._lock:
            spent = self._spent()
            if self.cap is not None and spent + self._aside > self.cap * (1 + 1e-9):
                raise CapReached(f"${spent:.4f} of ${self.cap:g} are spent: raise --budget-usd to go on")

    def settle(self, aside: float) -> None:
        """The request came back, or will not."""
        with self._lock:
            self._aside -= aside

    def count(self, usage: Usage, said: bool) -> None:
        """Tokens of an answer. said: by the server; else they are what was set aside."""
        with self._lock:
            self.usage = Usage(self.usage.read + usage.read, self.usage.written + usage.written)
            self.unsaid += not said

    def report(self) -> dict[str, float]:
        """Tokens, dollars where there are prices, answers whose tokens were not said; {} before the first answer."""
        with self._lock:
            if not any(self.usage):
                return {}
            found: dict[str, float] = {"tokens_read": self.usage.read, "tokens_written": self.usage.written}
            if self.prices is not None:
                found["usd"] = round(self._spent(), 8)
            return found | ({"answers_without_usage": self.unsaid} if self.unsaid else {})

    def _spent(self) -> float:
        return 0.0 if self.prices is None else self.prices.cost(self.usage)
