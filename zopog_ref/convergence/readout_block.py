"""A third block, the readout W: labels read from class scores s as softmax(W s), pulled to the identity [W1], [W2].

A readout is fitted on scores that have been fetched already, so its step costs no calls. Its loss is convex and smooth,
so a gradient step of length 1/L_W lowers it by a known amount, and Theorem 1 gains a block without a noise term. The
step that methods take, `read_loss.refit`, lowers it by as much or more; its W is Theta^T, of the features [s P; 1].
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zopog_ref import read_loss
from zopog_ref.algorithm import Settings, ZOPoG
from zopog_ref.convergence.comparison import Equality, Inequality, equal
from zopog_ref.convergence.exact import no_noise, prompt_weights
from zopog_ref.objective import FunctionObjective, Ledger

FLOAT64 = NDArray[np.float64]
INT64 = NDArray[np.int64]


@dataclass(frozen=True)
class ReadoutLoss:
    """J(W) = sum_i weight_i CE(softmax(W s_i), y_i) + (pull/2) ||W - I||^2, W (C, F).

    scores (m, F), labels and weights (m,).
    """

    scores: FLOAT64
    labels: INT64
    weight: FLOAT64
    pull: float

    def value(self, W: FLOAT64) -> float:
        """J(W)."""
        z = self.scores @ W.T
        top = z.max(axis=1)
        loss = np.log(np.exp(z - top[:, None]).sum(axis=1)) + top - z[np.arange(len(z)), self.labels]
        return float(self.weight @ loss + self.pull / 2 * ((W - np.eye(*W.shape)) ** 2).sum())

    def gradient(self, W: FLOAT64) -> FLOAT64:
        """sum_i weight_i (softmax(W s_i) - e_{y_i}) s_i^T + pull (W - I)."""
        z = self.scores @ W.T
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(len(p)), self.labels] -= 1
        return np.asarray((self.weight[:, None] * p).T @ self.scores + self.pull * (W - np.eye(*W.shape)))

    @property
    def smoothness(self) -> float:
        """L_W = sum_i weight_i ||s_i||^2 / 2 + pull: the Hessian in W s is diag(p) - p p^T, of norm at most 1/2."""
        return float(self.weight @ (self.scores**2).sum(axis=1) / 2 + self.pull)


def step(loss: ReadoutLoss, W: FLOAT64) -> FLOAT64:
    """W - grad J(W) / L_W."""
    return W - loss.gradient(W) / loss.smoothness


def refit_by(share: float) -> object:
    """The step that the methods take: W + share (argmin J - W)."""

    def taken(loss: ReadoutLoss, W: FLOAT64) -> FLOAT64:
        rows = float(loss.weight.sum())  # what the scores, of one weight each, stand for
        return np.asarray(read_loss.refit(W.T, loss.scores, loss.labels, rows, share, loss.pull).T)

    return taken


def never_raised(loss: ReadoutLoss, W: FLOAT64, stepper: object = step, share: float = 1.0) -> Inequality:
    """The W-step [W1], proved: J(W+) <= J(W) - share ||grad J(W)||^2 / (2 L_W), at no calls.

    J is L_W-smooth, so J(W - G/L_W) <= J(W) - ||G||^2/L_W + ||G||^2/(2 L_W). It is a function of scores that the other
    halves have fetched. argmin J is no worse than that step, and a share of the way to it has the share of its drop at
    least, for J is convex. With J >= 0 and repeated, W tends to its only minimum.
    """
    gain = share * float((loss.gradient(W) ** 2).sum()) / (2 * loss.smoothness)
    return Inequality(loss.value(stepper(loss, W)), loss.value(W) - gain, f"{len(loss.labels)} rows")  # type: ignore[operator]


def gradient_is_the_derivative(loss: ReadoutLoss, W: FLOAT64) -> Equality:
    """grad J of [W1] against central differences."""
    found, h = np.empty_like(W), 1e-5
    for cell in np.ndindex(W.shape):
        up, down = W.copy(), W.copy()
        up[cell] += h
        down[cell] -= h
        found[cell] = (loss.value(up) - loss.value(down)) / (2 * h)
    exact = equal(found, loss.gradient(W), "central differences")
    return replace(exact, uncertainty=1e-8 * float(np.abs(found).max()))


@dataclass(frozen=True)
class ScoredPrompts:
    """Two tokens, d = 1, C = 3 classes: scores s(t, z; x) = offset[t, x] + slope[t] z, all of them enumerable."""

    offset: FLOAT64  # (2, rows, 3)
    slope: FLOAT64  # (2, 3)
    labels: INT64  # (rows,)
    pull: float = 0.3

    def scores(self, z: FLOAT64) -> FLOAT64:
        """(2, rows, 3)."""
        return np.asarray(self.offset + self.slope[:, None, :] * z[0])

    def block(self, alpha: FLOAT64, z: FLOAT64) -> ReadoutLoss:
        """The W-block of R(alpha, z, W) = L_W(alpha, z) + (pull/2) ||W - I||^2: all prompts and rows, weighted."""
        rows = len(self.labels)
        weight = np.repeat(prompt_weights(alpha, 1.0, no_noise(*alpha.shape)) / rows, rows)
        return ReadoutLoss(self.scores(z).reshape(-1, 3), np.tile(self.labels, 2), weight, self.pull)

    def objective(self, W: FLOAT64, ledger: Ledger) -> FunctionObjective:
        """The loss that the two other halves query, W fixed."""

        def losses(tokens: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
            along = np.asarray(z)[..., :1]  # (K, 1) with one point a prompt, (K, B, 1) with one for each example
            along = along if along.ndim == 3 else along[:, None, :]
            scores = self.offset[tokens[:, :1], examples[None]] + self.slope[tokens[:, 0]][:, None] * along  # (K, B, 3)
            raw = scores @ W.T
            top = raw.max(axis=-1)
            right = raw[:, np.arange(len(examples)), self.labels[examples]]
            return np.asarray(np.log(np.exp(raw - top[..., None]).sum(axis=-1)) + top - right)

        return FunctionObjective(losses, ledger)


def scored_prompts(rng: np.random.Generator, rows: int = 6) -> ScoredPrompts:
    """Scores that confuse two classes, so that a readout helps."""
    labels = np.arange(rows) % 3
    offset = 1.5 * np.eye(3)[(labels + (labels > 0)) % 3][None] + 0.5 * rng.standard_normal((2, rows, 3))
    return ScoredPrompts(offset, rng.standard_normal((2, 3)), labels)


def three_blocks(problem: ScoredPrompts, steps: int, seed: int, stepper: object = step) -> list[Inequality]:
    """Three-block descent [W2], proved: policy half, zeroth-order half, W-step, on R(alpha, z, W). Two parts of it:

    the mean of ||grad_W R||^2 / (2 L_W) is at most the mean drop of R in the W-steps, and a W-step makes no call. With
    [D1] and [D2] for R at fixed W (constants that hold for every W of the run), all three telescope:
    (1/T) sum E[(eta_alpha/2)||grad_alpha R||^2 + (eta_z/4)||grad_z R||^2 + ||grad_W R||^2/(2 L_W)] <= (R_0 - R*)/T +
    noise(D1) + noise(D2): the block of W adds progress and no noise.
    """
    settings = Settings(policy_samples=4, direction_pairs=2, eta_alpha=0.02, eta_z=0.05, gumbel="none")
    method, W, ledger = ZOPoG(1, 2, 1, settings, seed), np.eye(3), Ledger(budget=10**9)
    state, rng, gains, drops, calls = method.init(), np.random.default_rng(seed), [], [], 0
    for _ in range(steps):
        state = method.step(state, problem.objective(W, ledger), rng.integers(len(problem.labels), size=3))
        calls += method.calls_per_step
        block = problem.block(state.alpha, state.z)
        gains.append(float((block.gradient(W) ** 2).sum()) / (2 * block.smoothness))
        after = stepper(block, W)  # type: ignore[operator]
        drops.append(block.value(W) - block.value(after))
        W = after
    descent = Inequality(float(np.mean(gains)), float(np.mean(drops)), f"{steps} steps, W-blocks")
    return [descent, Inequality(float(ledger.calls), float(calls), "calls: those of the two other halves")]


class RecordedScores:
    """The scores of ScoredPrompts as an objective, and the features of all that was asked of it."""

    def __init__(self, problem: ScoredPrompts, ledger: Ledger) -> None:
        self.problem, self.ledger, self.labels = problem, ledger, problem.labels
        self.features: list[FLOAT64] = []  # (K, B, C + 1)

    def scores(self, tokens: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        """(K, B, C)."""
        self.ledger.charge(len(tokens))
        along = np.asarray(z)[..., :1] if z.ndim == 3 else np.asarray(z)[:, None, :1]
        s = self.problem.offset[tokens[:, :1], examples[None]] + self.problem.slope[tokens[:, 0]][:, None] * along
        centred = s - s.mean(axis=-1, keepdims=True)
        self.features.append(np.concatenate([centred, np.ones((*s.shape[:-1], 1))], axis=-1))
        return np.asarray(s)

    def losses(self, tokens: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        """Not asked for: the readout's."""
        raise AssertionError("losses were asked for, not scores")


def sampled_blocks(problem: ScoredPrompts, steps: int, seed: int, folds: int) -> list[Inequality]:
    """[W2] as ZO-PoG runs it with `readout_folds`: each step's W-step on that step's own scores, never raised [W1].

    The worst step's J_f(W+) - J_f(W) + share ||grad J_f||^2 / (2 L_W), over steps and folds; and the calls.
    """
    settings = Settings(
        policy_samples=4, direction_pairs=2, eta_alpha=0.02, eta_z=0.05, gumbel="none", readout_folds=folds
    )
    method, ledger = ZOPoG(1, 2, 1, settings, seed), Ledger(budget=10**9)
    state, rng, n, excess, calls = method.init(), np.random.default_rng(seed), len(problem.labels), [], 0
    for _ in range(steps):
        asked, examples = RecordedScores(problem, ledger), rng.permutation(n)[: n // 2]
        before = state.readout
        assert before is not None
        fold = read_loss.ReadLoss(asked, folds, before, seed).fold
        state = method.step(state, asked, examples)
        calls += method.calls_per_step
        for f in range(folds):
            seen = fold[examples] != f if folds > 1 else np.ones(len(examples), bool)
            x = np.concatenate(asked.features)[:, seen].reshape(-1, 4)
            y = np.tile(problem.labels[examples[seen]], method.calls_per_step)
            if not len(x):
                continue
            rows, W = n * seen.mean(), before[f].T if before.size else np.eye(3, 4)
            loss = ReadoutLoss(x, y, np.full(len(x), rows / len(x)), read_loss.PULL)
            assert state.readout is not None
            gain = len(examples) / n * float((loss.gradient(W) ** 2).sum()) / (2 * loss.smoothness)
            excess.append(loss.value(state.readout[f].T) - loss.value(W) + gain)
    descent = Inequality(float(np.max(excess)), 0.0, f"{steps} steps, readout_folds {folds}")
    return [descent, Inequality(float(ledger.calls), float(calls), f"calls, readout_folds {folds}")]
