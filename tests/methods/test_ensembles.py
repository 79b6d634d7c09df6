"""Ensembles: each member is BBT's search under its own seed, and the budget is split equally."""

import numpy as np
import pytest

from zopog_ref import FunctionObjective, Ledger
from zopog_ref.methods.bbt import BBT
from zopog_ref.methods.cma_es import CmaEs
from zopog_ref.methods.gflf_ensembles import Ensembles

Settings = Ensembles.Settings

pytest.importorskip("cma", reason="the evolution strategy is in the methods extra")

SHAPE, ROWS, SEED = (2, 4, 3), np.arange(5), 11


def bowl(tokens: np.ndarray, z: np.ndarray, examples: np.ndarray) -> np.ndarray:
    return ((z[:, None] - 0.1 * examples[:, None]) ** 2).sum(axis=-1) + tokens.sum(axis=1)[:, None]


def steps(method, count: int):
    state, objective = method.init(), FunctionObjective(bowl, Ledger(10**6))
    for _ in range(count):
        state = method.step(state, objective, ROWS)
    return state


def test_one_member_is_bbt() -> None:
    one, bbt = Ensembles(*SHAPE, Settings(members=1, popsize=6), SEED), BBT(*SHAPE, BBT.Settings(popsize=6), SEED)
    ours, theirs = steps(one, 9), steps(bbt, 9)
    assert np.array_equal(ours.told, theirs.told)
    [mine], [its] = one.prompts(ours), bbt.prompts(theirs)
    assert all(np.array_equal(a, b) for a, b in zip(mine, its))


def test_members_take_turns_and_are_searches_of_their_own() -> None:
    method = Ensembles(*SHAPE, Settings(members=3, popsize=6), SEED)
    state = steps(method, 8)  # members 0 and 1 have had three generations, member 2 two
    for m, generations in enumerate((3, 3, 2)):
        search = CmaEs(3, 1.0, 6, SEED + (m << 32))
        asked = []
        for _ in range(generations):
            asked.append(search.ask())
            search.tell(bowl(np.tile(method.tokens, (6, 1)), asked[-1], ROWS).mean(axis=1))
        assert np.array_equal(search.told, state.told[m::3])
        points = np.concatenate(asked)
        assert np.array_equal(state.z[m], points[np.argmin(search.told)])
        assert state.best_losses[m] == search.told.min()
    assert len({told.tobytes() for told in state.told}) == 8  # no member repeats another


def test_only_members_that_have_started_answer() -> None:
    method = Ensembles(*SHAPE, Settings(members=3, popsize=6), SEED)
    for count, deployed in ((0, 1), (1, 1), (2, 2), (3, 3), (7, 3)):
        state = steps(method, count)
        prompts = method.prompts(state)
        assert len(prompts) == deployed
        assert all(prompt.weight == 1 / deployed for prompt in prompts)
        assert all(np.array_equal(prompt.tokens, method.tokens) for prompt in prompts)
    assert np.array_equal(method.prompts(method.init())[0].z, np.zeros(3))


def test_the_highest_seed() -> None:
    assert (
        len(
            Ensembles(*SHAPE, Settings(members=3, popsize=6), 2**64 - 1).prompts(
                steps(Ensembles(*SHAPE, seed=2**64 - 1), 3)
            )
        )
        == 3
    )
