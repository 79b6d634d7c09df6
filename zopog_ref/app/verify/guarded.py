"""Someone else's estimator, called with care: what it writes into, returns or raises is named, not blamed on a line.

It gets read-only arrays. Where it tries to write into one, it gets copies from then on, and the answer says which.
"""

import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zopog_ref.app.errors import InputError
from zopog_ref.convergence.comparison import ROUNDING

FLOAT64 = NDArray[np.float64]
PARAMETERS = {
    "policy": ("losses", "tokens", "alpha", "p", "tau"),
    "zeroth": ("losses_plus", "losses_minus", "directions", "mu"),
}
TOLERANCE = {"float16": 3e-2, "float32": 1e-4}  # relative, of a correct formula computed in that type


class Guarded:
    """The estimator as the rows call it. It counts calls and remembers what was not right."""

    def __init__(self, function: Callable[..., Any], name: str, kind: str) -> None:
        self.function, self.name, self.kind = function, name, kind
        self.calls = 0
        self.writes: set[str] = set()
        self.not_finite = 0
        self.first_not_finite = ""
        self.narrowest = "float64"
        self._only_float32 = True
        self._finer_than_float16 = False
        self._told = time.monotonic()

    def __call__(self, *arguments: Any) -> FLOAT64:
        """The estimate as float64 of the right shape. Errors: InputError names what came instead."""
        self.calls += 1
        value = self._checked(self._called(arguments), arguments)
        if time.monotonic() - self._told > 2:
            self._told = time.monotonic()
            sys.stderr.write(f"  {self.calls:,} calls of {self.name}\n")
            sys.stderr.flush()
        return value

    @property
    def tolerance(self) -> float:
        """Relative: that of the type it returns, or of float32 where float64 numbers hold nothing finer."""
        if self.narrowest in TOLERANCE:
            return TOLERANCE[self.narrowest]
        narrow = self._only_float32 and self._finer_than_float16
        return TOLERANCE["float32"] if narrow else ROUNDING

    def is_randomised(self, *arguments: Any) -> bool:
        """Calls with the same arguments differ; as many of them as a coin needs to show both sides."""
        first = self(*arguments)
        return any(not np.array_equal(first, self(*arguments), equal_nan=True) for _ in range(30))

    def _called(self, arguments: tuple[Any, ...]) -> Any:
        try:
            if self.writes:
                return self._with_copies(arguments)
            return self.function(*(_read_only(a) for a in arguments))
        except ValueError as error:
            if "read-only" not in str(error):
                raise self._complaint(error, arguments) from error
            return self._with_copies(arguments)
        except (Exception, SystemExit) as error:
            raise self._complaint(error, arguments) from error

    def _with_copies(self, arguments: tuple[Any, ...]) -> Any:
        copies = [np.array(a) if isinstance(a, np.ndarray) else a for a in arguments]
        try:
            value = self.function(*copies)
        except (Exception, SystemExit) as error:
            raise self._complaint(error, arguments) from error
        for name, before, after in zip(PARAMETERS[self.kind], arguments, copies):
            if isinstance(before, np.ndarray) and not np.array_equal(before, after, equal_nan=True):
                self.writes.add(name)
        self.writes = self.writes or {"an argument"}
        return np.array(value)  # it may be one of the copies

    def _complaint(self, error: BaseException, arguments: tuple[Any, ...]) -> InputError:
        frames = traceback.extract_tb(error.__traceback__)
        place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if len(frames) > 1 else ""
        shapes = ", ".join(f"{n} {np.shape(a)}" for n, a in zip(PARAMETERS[self.kind], arguments))
        return InputError(
            f"{self.name} raised {type(error).__name__}: {error}{place}. It was called as a {self.kind} estimator with "
            f"{shapes}; --kind says what it is"
        )

    def _checked(self, value: Any, arguments: tuple[Any, ...]) -> FLOAT64:
        shape = np.shape(arguments[2]) if self.kind == "policy" else np.shape(arguments[2])[-1:]
        what = "alpha (n, N)" if self.kind == "policy" else "(d,), the last axis of directions"
        try:
            found = np.asarray(value)
            of = "None" if value is None else f"{type(value).__name__} of {found.dtype}"
        except ValueError:
            found, of = np.zeros((), object), f"{type(value).__name__} that is no array: its rows differ in length"
        if found.dtype.kind not in "fiub":
            raise InputError(f"{self.name} returned {of}; expected real numbers of shape {shape}, that of {what}")
        if found.shape != shape:
            raise InputError(f"{self.name} returned shape {found.shape}; expected {shape}, that of {what}")
        self._note_type(found)
        exact = found.astype(np.float64)
        if not np.isfinite(exact).all():
            self.not_finite += 1
            named = zip(PARAMETERS[self.kind], arguments)
            given = ", ".join(f"{n} = {np.round(a, 4)}" for n, a in named if np.size(a) <= 6)
            self.first_not_finite = self.first_not_finite or " ".join(given.split())
        return exact

    def _note_type(self, found: NDArray[Any]) -> None:
        if found.dtype.kind == "f" and found.dtype.itemsize < np.dtype(self.narrowest).itemsize:
            self.narrowest = found.dtype.name
        if self._only_float32 and found.dtype == np.float64:
            with np.errstate(over="ignore"):
                self._only_float32 = np.array_equal(found.astype(np.float32).astype(np.float64), found, equal_nan=True)
                half = found.astype(np.float16).astype(np.float64)
            self._finer_than_float16 |= not np.array_equal(half, found, equal_nan=True)


def _read_only(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    view = value.view()
    view.flags.writeable = False
    return view
