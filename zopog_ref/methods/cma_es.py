"""CMA-ES, shared by the methods that search z with it: ask for points, tell their losses, resume by telling again.

    search = CmaEs(dim=3, sigma=1.0, popsize=8, seed=42)
    points = search.ask()                        # (popsize, d)
    search.tell((points**2).sum(axis=1))         # (popsize,) losses, lower is better
    again = CmaEs(dim=3, sigma=1.0, popsize=8, seed=42, told=search.told)     # stands where `search` stands

The evolution strategy is the `cma` package's (Hansen): N. Hansen, *The CMA evolution strategy: a tutorial*. Its points
are a pure function of (options, seed, losses told), so the losses are all that a checkpoint keeps; nothing is pickled.
The trajectory is that of cma.CMAEvolutionStrategy with the same `seed`, to the bit (a seed of 0, which cma reads as
"from the clock", is a seed here). NumPy's global random state, which cma draws from, is put back after every use.

Replaying is exact where the linear algebra is: on another BLAS the eigenvectors may differ in the last digits, and a
resumed run then goes on as another run would. The number of threads does not matter (`blas_threads`).
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from zopog_ref.arrays import FLOAT64
from zopog_ref.methods.blas_threads import one_blas_thread

__all__ = ["CmaEs", "standing_at"]


class CmaEs:
    """CMA-ES that minimises over R^d from `mean` (default 0) with step size sigma.

    popsize points a generation; diagonal=True learns variances only (separable CMA-ES, for large d); bound keeps every
    coordinate in [-bound, bound]; told (G, popsize): losses of earlier generations, replayed.
    Attributes: popsize, told (G, popsize). Errors: ImportError when `cma` or threadpoolctl is missing;
    ValueError for a size below 1 (2 for popsize), losses of another shape or not finite.
    """

    def __init__(
        self,
        dim: int,
        sigma: float,
        popsize: int,
        seed: int,
        *,
        mean: ArrayLike | None = None,
        diagonal: bool = False,
        bound: float | None = None,
        told: ArrayLike | None = None,
    ) -> None:
        if dim < 1 or popsize < 2:
            raise ValueError(f"CMA-ES needs dim >= 1 and popsize >= 2, got dim {dim} and popsize {popsize}")
        self.popsize = popsize
        self._told: list[FLOAT64] = []
        self._asked: FLOAT64 | None = None
        options: dict[str, Any] = {
            "popsize": popsize,
            "CMA_diagonal": diagonal,
            "bounds": [None, None] if bound is None else [-bound, bound],
            "seed": np.nan,  # seeded below: cma would take 0 for "from the clock"
            "verbose": -10,  # prints nothing, reads no signals file
            "verb_log": 0,  # writes no files
        }
        start = np.zeros(dim) if mean is None else np.array(mean, np.float64)
        # The legacy generator is cma's; seeds above 32 bits enter it as two words.
        first = np.random.RandomState(seed if seed < 2**32 else [seed & 0xFFFFFFFF, seed >> 32])
        self._random_state = first.get_state()
        strategy = _cma().CMAEvolutionStrategy
        with self._own_random_state():
            self._strategy = strategy(start, sigma, options)
        for losses in np.empty((0, popsize)) if told is None else np.asarray(told, np.float64):
            self.ask()
            self.tell(losses)

    @property
    def told(self) -> FLOAT64:
        """(G, popsize) losses told so far, G generations."""
        return np.array(self._told).reshape(-1, self.popsize)

    @property
    def mean(self) -> FLOAT64:
        """(d,) where the distribution stands, inside the bounds."""
        return np.array(self._strategy.result.xfavorite, np.float64)

    @property
    def sigma(self) -> float:
        """The step size."""
        return float(self._strategy.sigma)

    def ask(self) -> FLOAT64:
        """(popsize, d) points of the next generation; the same ones until they are told."""
        if self._asked is None:
            with self._own_random_state():
                self._points = self._strategy.ask()
            self._asked = np.array(self._points, np.float64)
        return self._asked.copy()

    def tell(self, losses: ArrayLike) -> None:
        """Losses (popsize,) of the points asked for, in their order."""
        values = np.array(losses, np.float64)
        if self._asked is None:
            raise ValueError("tell needs points that were asked for: call ask() first")
        if values.shape != (self.popsize,) or not np.isfinite(values).all():
            raise ValueError(f"tell needs {self.popsize} finite losses, got {values}")
        with self._own_random_state():
            self._strategy.tell(self._points, values.tolist())
        self._told.append(values)
        self._asked = None

    @contextmanager
    def _own_random_state(self) -> Iterator[None]:
        """numpy.random holds this search's state inside, the caller's again outside; BLAS has one thread inside."""
        with one_blas_thread():  # which is one strategy at a time: cma draws from numpy.random
            outside = np.random.get_state()  # noqa: NPY002
            np.random.set_state(self._random_state)  # noqa: NPY002
            try:
                yield
            finally:
                self._random_state = np.random.get_state()  # noqa: NPY002
                np.random.set_state(outside)  # noqa: NPY002


def standing_at(live: CmaEs | None, told: FLOAT64, fresh: Callable[[FLOAT64], CmaEs]) -> CmaEs:
    """`live` if it has been told exactly `told`, else fresh(told): a method may keep its search between two steps."""
    if live is not None and np.array_equal(live.told, told):
        return live
    return fresh(told)


def _cma() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it cannot plot without matplotlib
            import cma
    except ImportError as error:
        raise ImportError('CMA-ES comes from the package cma: pip install "cma>=4.0"') from error
    return cma
