"""`screen`: the first step keeps the best of its prompts, every later call goes to z before it."""

import dataclasses

import numpy as np
import pytest

from tests.core import toy
from tests.methods.test_matrix import Memory, same
from zopog_ref import FunctionObjective, Ledger, Settings, ZOPoG, run

SCREENED = Settings.screened(direction_pairs=6, eta_z=0.1)


class Asked:
    """The toy, and what it was asked."""

    def __init__(self, budget: int) -> None:
        self.queries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.objective = FunctionObjective(self.losses, Ledger(budget))

    def losses(self, tokens, z, examples):
        self.queries.append((tokens, z, examples))
        return toy.losses(tokens, z, examples)


def method(settings: Settings = SCREENED, seed: int = 0) -> ZOPoG:
    return ZOPoG(toy.N_POSITIONS, toy.N_CANDIDATES, toy.DIM, settings, seed)


def test_the_first_step_keeps_the_best_of_its_prompts() -> None:
    asked, rows = Asked(12), np.arange(5)
    state = method().step(method().init(), asked.objective, rows)
    [(tokens, z, examples)] = asked.queries
    assert tokens.shape == (12, toy.N_POSITIONS)  # as many as a later step has calls
    assert len({tuple(t) for t in tokens}) == 12
    assert not z.any()
    assert examples.tolist() == rows.tolist()
    each = toy.losses(tokens, z, rows).mean(axis=1)
    best = tokens[each.argmin()]
    expected = np.full((toy.N_POSITIONS, toy.N_CANDIDATES), 1e-11)
    expected[np.arange(toy.N_POSITIONS), best] = 1.0
    np.testing.assert_array_equal(state.alpha, expected)
    assert not state.z.any()
    assert (state.step, state.loss) == (1, pytest.approx(each.mean()))
    [prompt] = method().prompts(state)
    assert prompt.tokens.tolist() == best.tolist()
    assert asked.objective.ledger.left == 0  # all of them were charged


def test_later_steps_ask_about_that_prompt_alone() -> None:
    asked = Asked(12 * 4)
    result = run(method(), asked.objective, rows=toy.ROWS, batch_size=5)
    kept = result.state.alpha.argmax(axis=1)
    assert [len(tokens) for tokens, _, _ in asked.queries] == [12] * 4
    for tokens, _, _ in asked.queries[1:]:
        assert (tokens == kept).all()
    assert result.state.z.any()
    np.testing.assert_array_equal(result.state.alpha.max(axis=1), 1.0)


@pytest.mark.parametrize("pairs", [1, 2])
def test_how_often_the_best_prompt_is_kept(pairs: int) -> None:
    """R = 2 I_2 independent uniform draws of N = 4 tokens hold the best with probability 1 - (3/4)^R."""
    table, seeds = np.array([0.3, 0.1, 0.9, 0.5]), 3000
    objective = FunctionObjective(lambda t, z, x: np.repeat(table[t[:, 0]][:, None], len(x), axis=1), Ledger(10**9))
    hits = 0
    for seed in range(seeds):
        one = ZOPoG(1, 4, 1, dataclasses.replace(SCREENED, direction_pairs=pairs), seed)
        hits += one.step(one.init(), objective, np.arange(1)).alpha.argmax() == 1
    p = 1 - 0.75 ** (2 * pairs)
    assert abs(hits / seeds - p) < 4 * np.sqrt(p * (1 - p) / seeds)


@pytest.mark.parametrize("saves", [1, 2])
def test_a_resumed_run_is_an_uninterrupted_one(saves: int) -> None:
    def once(store: Memory):
        return run(method(), toy.objective(48), rows=toy.ROWS, batch_size=5, dev=toy.dev, store=store)

    whole, cut = once(Memory()), Memory(saves)
    with pytest.raises(KeyboardInterrupt):
        once(cut)
    cut.saves = None
    assert same(once(cut), whole)


def test_policy_steps_beside_it_are_refused() -> None:
    with pytest.raises(ValueError, match="turn policy off"):
        Settings(screen=True)
    with pytest.raises(ValueError, match="both off"):
        Settings(screen=True, policy=False, zeroth_order=False)


def test_a_loss_that_is_not_finite_is_named() -> None:
    def losses(tokens, z, examples):
        found = toy.losses(tokens, z, examples)
        found[3] = np.nan
        return found

    with pytest.raises(FloatingPointError, match="1 of 12 screened prompts"):
        method().step(method().init(), FunctionObjective(losses, Ledger(12)), np.arange(2))


def test_it_is_off_unless_asked_for_and_its_preset_is_its_settings() -> None:
    assert not Settings().screen
    assert not Settings.paper().screen
    assert Settings.screened(mu=0.2).mu == 0.2
    presets = pytest.importorskip("zopog_ref.app.run.presets", reason="the command line needs the extra cpu")
    assert presets.PRESETS["zo-pog", "screened"].method == Settings.screened()
