"""Where the mathematics of a step runs: in NumPy, or anywhere that offers the same functions.

The functions are those of randomness, distribution, policy_gradient, categorical and zeroth_order. Their arrays are the
backend's own; the arithmetic and the functions of NumPy must work between them, as they do between CuPy's. What gumbel,
uniform and normal return goes only into probabilities, sample, perturb and two_point_gradient: it need not be an array.
"""

from typing import Any, Protocol

import numpy as np

from zopog_ref import categorical, distribution, policy_gradient, randomness, zeroth_order
from zopog_ref.arrays import ARRAY, FLOAT64

__all__ = ["NUMPY", "Backend", "NumPyBackend"]


class Backend(Protocol):
    """The functions that a step of a method is made of."""

    def asarray(self, array: Any) -> Any:
        """A float64 array of the backend; itself when it is one already."""
        ...

    def to_numpy(self, array: Any) -> ARRAY:
        """The array for the host."""
        ...

    def gumbel(self, seed: int, step: int, purpose: int, shape: tuple[int, ...]) -> Any: ...
    def uniform(self, seed: int, step: int, purpose: int, shape: tuple[int, ...]) -> Any: ...
    def normal(self, seed: int, step: int, purpose: int, shape: tuple[int, ...]) -> Any: ...
    def probabilities(self, alpha: Any, tau: float = 1.0, gumbel: Any = None) -> Any: ...
    def sample(self, p: Any, uniforms: Any) -> Any: ...
    def policy_gradient(self, losses: Any, tokens: Any, alpha: Any, p: Any, tau: float = 1.0) -> Any: ...
    def free_gradient(self, losses: Any, tokens: Any, p: Any, kind: str = "unbiased") -> Any: ...
    def perturb(self, z: Any, directions: Any, mu: float) -> Any: ...
    def two_point_gradient(
        self, losses_plus: Any, losses_minus: Any, directions: Any, mu: float, roundoff: float | None = None
    ) -> Any: ...


class NumPyBackend:
    """The reference itself."""

    gumbel = staticmethod(randomness.gumbel)
    uniform = staticmethod(randomness.uniform)
    normal = staticmethod(randomness.normal)
    probabilities = staticmethod(distribution.probabilities)
    sample = staticmethod(distribution.sample)
    policy_gradient = staticmethod(policy_gradient.policy_gradient)
    free_gradient = staticmethod(categorical.free_gradient)
    perturb = staticmethod(zeroth_order.perturb)
    two_point_gradient = staticmethod(zeroth_order.two_point_gradient)

    def __repr__(self) -> str:
        return "NUMPY"

    def asarray(self, array: Any) -> FLOAT64:
        return np.asarray(array, np.float64)

    def to_numpy(self, array: Any) -> ARRAY:
        return np.asarray(array)


NUMPY: Backend = NumPyBackend()
