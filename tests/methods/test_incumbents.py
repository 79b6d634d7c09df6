"""The incumbent is the best prompt so far, and the earlier of two that are equally good."""

import dataclasses

import numpy as np
import pytest

from tests.core import toy
from zopog_ref import FunctionObjective, Ledger
from zopog_ref.methods import METHODS, method_class
from zopog_ref.methods.gflf_abc_smc import AbcSmc

SHAPE, ROWS = (toy.N_POSITIONS, toy.N_CANDIDATES, toy.DIM), np.arange(3)
# method: (its settings, the fields of its state that make the incumbent)
INCUMBENTS = {
    "bbt": ({"popsize": 4}, ("z", "best_loss")),
    "catcma": ({"popsize": 4}, ("tokens", "z", "best_loss")),
    "clip-tuning": ({"popsize": 4, "networks": 2}, ("z", "best_loss")),
    "cma-elbo": ({"popsize": 4, "kl_weight": 0.0}, ("mean", "variance", "best_elbo")),
    "ensembles": ({"popsize": 4, "members": 1}, ("z", "best_losses")),
    "random-search": ({"samples": 4}, ("tokens", "z", "best_loss")),
}


def made(name: str):
    for package in METHODS[name].packages:
        pytest.importorskip(package, reason="needs the extra methods")
    cls = method_class(name)
    return cls(*SHAPE, cls.Settings(**INCUMBENTS[name][0]), 3)


def incumbents(name: str, values: list[float]) -> list[list[np.ndarray]]:
    """The incumbent after each step, when all prompts of a step have the same loss."""
    method, found = made(name), []
    state = method.init()
    for value in values:
        constant = FunctionObjective(lambda t, z, e, value=value: np.full((len(t), len(e)), value), Ledger(1000))
        state = method.step(state, constant, ROWS)
        found.append([np.asarray(getattr(state, field)) for field in INCUMBENTS[name][1]])
        assert state.loss == value  # of the step's prompts, whether or not one is kept
    return found


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other))


@pytest.mark.parametrize("name", INCUMBENTS)
def test_the_earlier_of_equals_stays(name: str) -> None:
    first, second, third, fourth = incumbents(name, [0.5, 0.5, 0.75, 0.25])
    assert same(first, second)
    assert same(second, third)
    assert not same(third, fourth)


@pytest.mark.parametrize("name", INCUMBENTS)
def test_within_a_step_the_best_is_taken_and_the_first_of_equals(name: str) -> None:
    """Prompts 1 and 2 are equally good, 0 and 3 worse."""
    method, asked = made(name), []

    def losses(tokens, z, examples):
        asked.append((tokens, z))
        each = len(z) // 4  # cma-elbo draws several z for one candidate
        return np.repeat([3.0, 1.0, 1.0, 2.0], each)[:, None] * np.ones(len(examples))

    state = method.step(method.init(), FunctionObjective(losses, Ledger(1000)), ROWS)
    tokens, z = asked[0]
    if name == "cma-elbo":
        candidate = method._fresh(np.zeros((0, 4))).ask()[1]
        assert np.array_equal(state.mean, candidate[: toy.DIM])
        assert np.array_equal(state.variance, np.abs(candidate[toy.DIM :]))
        assert state.best_elbo == len(ROWS) * 1.0
        return
    assert np.array_equal(np.reshape(state.z, -1), z[1])
    assert (state.best_losses[0] if name == "ensembles" else state.best_loss) == 1.0
    assert state.loss == 7 / 4
    if hasattr(state, "tokens"):
        assert np.array_equal(state.tokens, tokens[1])


def test_the_most_right_draw_stays_when_it_is_equalled() -> None:
    method = AbcSmc(*SHAPE, AbcSmc.Settings(samples=4), 3)
    half = FunctionObjective(lambda t, z, e: np.tile(e % 2, (len(t), 1)).astype(float), Ledger(1000))
    one = method.step(method.init(), half, np.arange(4))
    assert (one.most_right, one.required) == (2, 2)
    two = method.step(one, half, np.arange(4))
    assert np.array_equal(one.best, two.best)
    assert np.array_equal(one.best, method._propose(method.init())[0])
    better = FunctionObjective(lambda t, z, e: np.zeros((len(t), len(e))), Ledger(1000))
    three = method.step(dataclasses.replace(two), better, np.arange(4))
    assert three.most_right == 4
    assert not np.array_equal(two.best, three.best)
