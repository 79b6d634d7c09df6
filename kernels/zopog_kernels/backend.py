"""The hot path of ZO-PoG on a GPU: the functions of zopog_ref's NumPy backend, with arrays that stay on the device.

    from zopog_kernels import cupy_backend
    method = ZOPoG(n_positions=20, n_candidates=200, dim=500, seed=0, backend=cupy_backend())

Noise is never stored: gumbel, uniform and normal return the Stream's address, and the kernel that needs an element
computes it. The bits of words, uniforms and normals are NumPy's; docs/kernels.md says what else is.

Nothing here waits for the device or looks at a value: shapes are checked, numbers are not. A loss that is not finite
makes the next alpha and z not finite, and shows where the host first reads them.
"""

from __future__ import annotations  # signatures show names, not what these stand for

from dataclasses import dataclass
from math import prod
from typing import Any

from numpy.typing import NDArray

from zopog_kernels.device import CuPyDevice, Device
from zopog_kernels.source import BLOCK

__all__ = ["KernelBackend", "Stream", "cupy_backend", "rows_per_chunk"]

_MOST_ROWS = 65535  # of a grid in y
_PERTURB_THREADS = 1 << 20  # four waves of an H200; beyond, a thread takes several rows
_GRADIENT_THREADS = 1 << 19  # bounds the partial sums to 16 MiB
_LEAST_CHUNK = 24  # rows of a partial sum: the partial sums stay under 1/12 of what storing u would take


@dataclass(frozen=True)
class Stream:
    """Random numbers by their address: element e of (seed, step, purpose), e = 0 .. prod(shape)-1 in C order."""

    kind: str  # "uniform", "gumbel" or "normal"
    seed: int
    step: int
    purpose: int
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        for name, value, width in (("seed", self.seed, 64), ("step", self.step, 32), ("purpose", self.purpose, 32)):
            if not 0 <= value < 1 << width:
                raise ValueError(f"{name} is {value}; a stream needs 0 <= {name} < 2^{width}")
        if any(side < 0 for side in self.shape):
            raise ValueError(f"a stream's shape cannot be negative: {self.shape}")

    @property
    def key(self) -> tuple[int, int, int]:
        """What every kernel starts with."""
        return self.seed, self.step, int(self.purpose)


class KernelBackend:
    """The functions of the NumPy hot path, on one device.

    Parameters:

    - device: makes arrays and launches kernels.
    - points: type of z + mu u, "float32" or "float16". Default: "float32".
    """

    def __init__(self, device: Device, points: str = "float32") -> None:
        if points not in ("float32", "float16"):
            raise ValueError(f"points is {points!r}; choose float32 or float16")
        self.device, self.points = device, points

    # Streams

    def uniform(self, seed: int, step: int, purpose: int, shape: tuple[int, ...]) -> Stream:
        """Uniforms in (0, 1), float64, for sample()."""
        return Stream("uniform", seed, step, purpose, shape)

    def gumbel(self, seed: int, step: int, purpose: int, shape: tuple[int, ...]) -> Stream:
        """Gumbel(0, 1) noise, float64, for probabilities()."""
        return Stream("gumbel", seed, step, purpose, shape)

    def normal(self, seed: int, step: int, purpose: int, shape: tuple[int, ...]) -> Stream:
        """Standard normals, float32, for perturb() and two_point_gradient()."""
        return Stream("normal", seed, step, purpose, shape)

    def materialise(self, stream: Stream) -> Any:
        """The numbers of a stream as an array: for looking at them, or for a method with no kernel of its own."""
        dtype = "float32" if stream.kind == "normal" else "float64"
        out = self.device.empty(stream.shape, dtype)
        self._launch(f"zopog_{stream.kind}", (_blocks(-(-prod(stream.shape) // 4)), 1), *stream.key, out.size, out)
        return out

    # Arrays

    def asarray(self, array: Any) -> Any:
        """alpha, z or losses on the device, float64."""
        return self.device.asarray(array, "float64")

    def to_numpy(self, array: Any) -> NDArray[Any]:
        """A copy for the host. Waits for the device."""
        return self.device.to_numpy(array)

    # The discrete prompt, section 3.2

    def probabilities(self, alpha: Any, tau: float = 1.0, gumbel: Stream | None = None) -> Any:
        """Token probabilities p_ij = softmax_j((log alpha_ij + g_ij) / tau). alpha (n, N) > 0, which is not looked at.

        gumbel: a stream (n, N), or (I, n, N) for fresh noise with each of I samples, or None for g = 0.
        Returns p, float64, with the shape of alpha + gumbel.
        """
        alpha = self.asarray(alpha)
        if not tau > 0:
            raise ValueError(f"tau must be positive, not {tau}")
        shape = alpha.shape if gumbel is None else _stream(gumbel, "gumbel").shape
        if alpha.ndim != 2 or len(shape) not in (2, 3) or tuple(shape[-2:]) != tuple(alpha.shape):
            raise ValueError(f"expected alpha (n, N) and gumbel (n, N) or (I, n, N); got {alpha.shape} and {shape}")
        p = self.device.empty(shape, "float64")
        key = (0, 0, 0) if gumbel is None else gumbel.key
        rows = prod(shape[:-1]) if shape[-1] else 0
        self._launch("zopog_probabilities", (rows, 1), *key, gumbel is not None, alpha, tau, *alpha.shape, p)
        return p

    def sample(self, p: Any, uniforms: Stream) -> Any:
        """Prompts t ~ P by inverse cumulative distribution: for the same p, the indices of NumPy's sample.

        p (n, N) shared by all samples, or (I, n, N); uniforms: a stream (I, n). Returns (I, n) int64. Also draws the
        tokens of a method whose p is learned directly, as BDPL's.
        """
        p = self.asarray(p)
        shape = _stream(uniforms, "uniform").shape
        if len(shape) != 2 or tuple(p.shape[:-1]) not in (shape[1:], shape) or not p.shape[-1]:
            raise ValueError(f"expected p (n, N) or (I, n, N), N >= 1, and uniforms (I, n); got {p.shape} and {shape}")
        samples, n = shape
        tokens = self.device.empty(shape, "int64")
        grid = (_blocks(samples * n), 1)
        self._launch("zopog_sample", grid, *uniforms.key, p, p.ndim == 3, samples, n, p.shape[-1], tokens)
        return tokens

    def policy_gradient(self, losses: Any, tokens: Any, alpha: Any, p: Any, tau: float = 1.0) -> Any:
        """Variance-reduced policy gradient [V1]: g = 1/(I-1) sum_k (l_k - mean l) s^k; collapsed [V3] for one shared p.

        losses (I,), tokens (I, n), alpha (n, N), p (n, N) or (I, n, N). Returns (n, N), the same bits on every run.
        """
        return self._policy(losses, tokens, alpha, p, tau, None)[0]

    def free_gradient(self, losses: Any, tokens: Any, p: Any, kind: str = "unbiased") -> Any:
        """The gradient of a p that is learned itself: [V1] at alpha = p, tau = 1, twice that for BDPL's official score.

        losses (I,), tokens (I, n), p (n, N); kind "unbiased" or "official". Returns (n, N).
        """
        gradient = self.policy_gradient(losses, tokens, p, p)
        return 2.0 * gradient if kind == "official" else gradient

    def policy_step(
        self, losses: Any, tokens: Any, alpha: Any, p: Any, tau: float, eta: float, alpha_min: float
    ) -> tuple[Any, Any]:
        """The gradient and the step with its floor in one launch: max(alpha - eta g, alpha_min), g."""
        gradient, alpha_plus = self._policy(losses, tokens, alpha, p, tau, (eta, alpha_min))
        return alpha_plus, gradient

    def _policy(
        self, losses: Any, tokens: Any, alpha: Any, p: Any, tau: float, step: tuple[float, float] | None
    ) -> tuple[Any, Any]:
        losses, alpha, p = self.asarray(losses), self.asarray(alpha), self.asarray(p)
        tokens = self.device.asarray(tokens, "int64")
        if losses.ndim != 1 or len(losses) < 2:
            raise ValueError(f"losses must be (I,) with I >= 2 (the baseline needs another sample), not {losses.shape}")
        if alpha.ndim != 2 or tuple(tokens.shape) != (len(losses), alpha.shape[0]):
            raise ValueError(
                f"expected tokens (I, n) = ({len(losses)}, n) and alpha (n, N); got {tokens.shape} and {alpha.shape}"
            )
        if tuple(p.shape) not in (tuple(alpha.shape), (len(losses), *alpha.shape)):
            raise ValueError(f"p must be (n, N) or (I, n, N) for alpha {alpha.shape}, not {p.shape}")
        if not tau > 0:
            raise ValueError(f"tau must be positive, not {tau}")
        gradient = self.device.empty(alpha.shape, "float64")
        alpha_plus = None if step is None else self.device.empty(alpha.shape, "float64")
        self._launch(
            "zopog_policy_gradient", (_blocks(alpha.size), 1), losses, tokens, alpha, p if p.ndim == 3 else None, tau,
            len(losses), *alpha.shape, *(step or (0.0, 0.0)), gradient, alpha_plus,
        )  # fmt: skip
        return gradient, alpha_plus

    # The continuous prompt, section 3.3

    def perturb(self, z: Any, directions: Stream, mu: float) -> Any:
        """z + mu u and z - mu u in one launch; u is not stored. z (d,); directions: a stream (K, d) or (K, B, d).

        Returns (2, K, d) or (2, K, B, d), plus first: computed in float64 as NumPy's, rounded once to float32 (and from
        there to float16).
        """
        z, shape = self.asarray(z), _stream(directions, "normal").shape
        if z.ndim != 1 or len(shape) not in (2, 3) or shape[-1] != len(z):
            raise ValueError(f"expected z (d,) and directions (K, d) or (K, B, d); got {z.shape} and {shape}")
        rows, dim = prod(shape[:-1]), shape[-1]
        points = self.device.empty((2, *shape), self.points)
        blocks = _blocks(-(-dim // 4))
        groups = min(rows, _MOST_ROWS, -(-_PERTURB_THREADS // max(1, -(-dim // 4))))
        self._launch(f"zopog_perturb_{self.points}", (blocks, groups), *directions.key, mu, z, rows, dim, points)
        return points

    def two_point_gradient(
        self, losses_plus: Any, losses_minus: Any, directions: Stream, mu: float, roundoff: float | None = None
    ) -> Any:
        """Two-point estimate [Z1] or [Z1b]: g = (1/KB) sum_kb u_kb (f_kb+ - f_kb-) / (2 mu), u from its stream.

        losses (K,) with directions (K, d), or (K, B) with (K, B, d). Returns (d,) float64. The order of the sum
        depends on the shape alone: the same bits on every run and every GPU; NumPy's differ by rounding. Memory: d
        numbers and at most 16 MiB of partial sums. roundoff is not used: numbers are not looked at.
        """
        plus, minus = self.asarray(losses_plus), self.asarray(losses_minus)
        shape = _stream(directions, "normal").shape
        if not mu > 0:
            raise ValueError(f"mu must be positive, not {mu}")
        if plus.shape != minus.shape or tuple(plus.shape) != shape[:-1] or plus.ndim not in (1, 2) or not plus.size:
            raise ValueError(
                "expected losses (K,) with directions (K, d), or (K, B) with (K, B, d); "
                f"got {plus.shape}, {minus.shape} and {shape}"
            )
        rows, dim = plus.size, shape[-1]
        slope = self.device.empty((rows,), "float64")
        self._launch("zopog_slope", (_blocks(rows), 1), plus, minus, mu, rows, slope)
        chunk = rows_per_chunk(rows, dim)
        chunks = -(-rows // chunk)
        partial = self.device.empty((chunks, dim), "float64")
        grid = (_blocks(-(-dim // 4)), chunks)
        self._launch("zopog_gradient_partial", grid, *directions.key, slope, rows, dim, chunk, partial)
        gradient = self.device.empty((dim,), "float64")
        self._launch("zopog_gradient_finish", (_blocks(dim), 1), partial, chunks, rows, dim, gradient)
        return gradient

    # Losses of label-word logits

    def cross_entropy(self, logits: Any, labels: Any) -> Any:
        """f = log sum_c exp(logit_c) - logit_y, in nats. logits (..., B, C), labels (B,). Returns (..., B) float64."""
        return self._loss("zopog_cross_entropy", logits, labels)

    def hinge(self, logits: Any, labels: Any, margin: float = 2.0) -> Any:
        """f = max(0, margin + max_{c != y} logit_c - logit_y). Shapes as cross_entropy."""
        return self._loss("zopog_hinge", logits, labels, margin)

    def _loss(self, kernel: str, logits: Any, labels: Any, *numbers: float) -> Any:
        logits, labels = self.device.asarray(logits, "float32"), self.device.asarray(labels, "int64")
        if logits.ndim < 2 or tuple(labels.shape) != tuple(logits.shape[-2:-1]) or not logits.shape[-1]:
            raise ValueError(
                f"expected logits (..., B, C), C >= 1, and labels (B,); got {logits.shape} and {labels.shape}"
            )
        losses = self.device.empty(logits.shape[:-1], "float64")
        grid = (_blocks(losses.size), 1)
        self._launch(kernel, grid, logits, labels, *numbers, losses.size, *logits.shape[-2:], losses)
        return losses

    def _launch(self, kernel: str, grid: tuple[int, int], *arguments: Any) -> None:
        if grid[0] and grid[1]:  # CUDA refuses an empty grid; here it means that there is nothing to compute
            self.device.launch(kernel, grid, arguments)


def cupy_backend(points: str = "float32") -> KernelBackend:
    """The backend on the current CUDA device. Errors: BackendUnavailable, saying what to install."""
    return KernelBackend(CuPyDevice(), points)


def rows_per_chunk(rows: int, dim: int) -> int:
    """Rows that one partial sum of the gradient covers: a function of the shape alone, so that the bits are, too."""
    quads = -(-dim // 4)
    return max(_LEAST_CHUNK, -(-rows * quads // _GRADIENT_THREADS), -(-rows // _MOST_ROWS))


def _blocks(threads: int) -> int:
    return -(-threads // BLOCK)


def _stream(given: Any, kind: str) -> Stream:
    if not isinstance(given, Stream) or given.kind != kind:
        raise TypeError(
            f"expected the stream that {kind}() of this backend returns, not {type(given).__name__}: on the device "
            "random numbers are computed where they are needed, never passed as arrays"
        )
    return given
