"""[W1], [W2]: the readout's step, and three ways to break it."""

import numpy as np
import pytest

from zopog_ref import read_loss
from zopog_ref.convergence import readout_block
from zopog_ref.convergence.cases import TINY, Bench
from zopog_ref.convergence.comparison import Equality
from zopog_ref.convergence.lines_descent import readout_step, three_blocks

BENCH = Bench(seed=2, effort=TINY)


def loss_of(pull: float = 0.3) -> readout_block.ReadoutLoss:
    rng = BENCH.rng(0)
    return readout_block.ReadoutLoss(
        2 * rng.standard_normal((30, 3)), rng.integers(3, size=30), np.full(30, 1 / 30), pull
    )


def climbs(loss, W):
    return W + loss.gradient(W) / loss.smoothness


def too_long(loss, W):
    return W - 20 * loss.gradient(W) / loss.smoothness


def forgets_the_pull(loss, W):
    return W - (loss.gradient(W) - loss.pull * (W - np.eye(3))) / loss.smoothness


def stands(loss, W):
    return W


def test_never_raised() -> None:
    assert all(c.holds(1) if isinstance(c, Equality) else c.holds() for c in readout_step(BENCH))


@pytest.mark.parametrize("broken", [climbs, too_long, forgets_the_pull, stands])
def test_never_raised_twins(broken) -> None:
    W = np.eye(3) + 3 * BENCH.rng(1).standard_normal((3, 3))
    loss = loss_of(3.0)
    assert readout_block.never_raised(loss, W).holds()
    assert not readout_block.never_raised(loss, W, broken).holds()


def test_wrong_gradients_show(monkeypatch) -> None:
    whole = readout_block.ReadoutLoss.gradient
    for wrong in (lambda g: -g, lambda g: g.T, lambda g: 1.01 * g):
        monkeypatch.setattr(readout_block.ReadoutLoss, "gradient", lambda self, W, wrong=wrong: wrong(whole(self, W)))
        assert not readout_block.gradient_is_the_derivative(loss_of(), 2 * np.eye(3) + 0.1).holds(10)


def test_repeated_steps_reach_the_minimum() -> None:
    loss, W = loss_of(), np.eye(3)
    for _ in range(2000):
        W = readout_block.step(loss, W)
    assert np.abs(loss.gradient(W)).max() < 1e-8
    assert loss.value(W) < loss.value(np.eye(3))


def refit_wrongly(wrong: str):
    """read_loss.refit with one thing wrong."""

    def step(loss, W):
        theta, x, y, rows = W.T, loss.scores, loss.labels, float(loss.weight.sum())
        if wrong == "labels":
            return read_loss.refit(theta, x, (y + 1) % 3, rows, 1.0, loss.pull).T
        if wrong == "pull":  # a batch's J with the pull of all rows, n times too weak
            return read_loss.refit(theta, x, y, rows * 1e4, 1.0, loss.pull).T
        if wrong == "share":
            return read_loss.refit(theta, x, y, rows, 3.0, loss.pull).T
        return W

    return step


@pytest.mark.parametrize("wrong", ["labels", "pull", "share", "stands"])
def test_the_step_that_methods_take_and_four_broken_ones(wrong: str) -> None:
    loss = loss_of()
    near = far = np.eye(3) + 3 * BENCH.rng(1).standard_normal((3, 3))
    for _ in range(200):
        near = readout_block.step(loss, near)
    for W in (far, near):
        for share in (1.0, 0.3):
            assert readout_block.never_raised(loss, W, readout_block.refit_by(share), share).holds()
    assert not all(readout_block.never_raised(loss, W, refit_wrongly(wrong)).holds() for W in (far, near))


@pytest.mark.parametrize("folds", [1, 2, 3])
def test_a_run_with_readouts_never_raises_a_step_s_loss(folds: int) -> None:
    problem = readout_block.scored_prompts(BENCH.rng(5))
    assert all(c.holds() for c in readout_block.sampled_blocks(problem, 12, 1, folds))


@pytest.mark.parametrize("broken", ["climbs", "stands", "long"])
def test_broken_refits_show_in_a_run(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, right = readout_block.scored_prompts(BENCH.rng(5)), read_loss.refit
    wrong = {"climbs": -0.5, "stands": 0.0, "long": 4.0}[broken]
    monkeypatch.setattr(read_loss, "refit", lambda *given: given[0] + wrong * (right(*given) - given[0]))
    assert not readout_block.sampled_blocks(problem, 12, 1, 2)[0].holds()


def test_three_blocks() -> None:
    assert all(c.holds() for c in three_blocks(BENCH))


@pytest.mark.parametrize("broken", [climbs, stands])
def test_three_blocks_twins(broken) -> None:
    problem = readout_block.scored_prompts(BENCH.rng(3))
    assert not readout_block.three_blocks(problem, 20, 1, broken)[0].holds()


def test_the_objective_is_the_loss_of_the_block() -> None:
    """What the halves query, averaged over prompts and rows, is R less the pull."""
    from zopog_ref.objective import Ledger

    problem, W = readout_block.scored_prompts(BENCH.rng(4)), np.eye(3) + 0.2
    alpha, z = np.array([[0.3, 0.6]]), np.array([0.7])
    losses = problem.objective(W, Ledger(budget=100)).losses(np.array([[0], [1]]), np.tile(z, (2, 1)), np.arange(6))
    mean = np.array([1 / 3, 2 / 3]) @ losses.mean(axis=1)
    assert problem.block(alpha, z).value(W) == pytest.approx(mean + 0.15 * 9 * 0.04)
