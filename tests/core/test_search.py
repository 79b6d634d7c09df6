"""The one loop: budget, mini-batches, selection on dev, and resuming bit for bit."""

from dataclasses import dataclass

import numpy as np
import pytest

from tests.core import toy
from zopog_ref import BudgetExhausted, DevScore, FunctionObjective, Ledger, Settings, ZOPoG, run
from zopog_ref.method import Method, WeightedPrompt
from zopog_ref.search import _score_among, mini_batch, step_price


class Memory:
    """A store that forgets nothing and can be cut off after any save."""

    def __init__(self, saves: int | None = None) -> None:
        self.arrays, self.curve, self.saves = None, [], saves

    def load(self):
        return None if self.arrays is None else (self.arrays, list(self.curve))

    def save(self, arrays, record) -> None:
        if self.saves is not None and len(self.curve) == self.saves:
            raise KeyboardInterrupt
        self.arrays, self.curve = {k: v.copy() for k, v in arrays.items()}, [*self.curve, record]


def method(seed: int = 0, **settings) -> ZOPoG:
    return ZOPoG(toy.N_POSITIONS, toy.N_CANDIDATES, toy.DIM, Settings(eta_alpha=0.05, eta_z=0.1, **settings), seed)


def search(budget: int = 1000, store: Memory | None = None, **options):
    options = {"rows": toy.ROWS, "batch_size": 5, "dev": toy.dev} | options
    return run(method(), toy.objective(budget), store=store, **options)


def same(a, b) -> bool:
    return (
        a.curve == b.curve and a.best_step == b.best_step and a.dev == b.dev
        and all(np.array_equal(x, y) for p, q in zip(a.prompts, b.prompts) for x, y in zip(p, q))
    )  # fmt: skip


@pytest.mark.parametrize("budget", [1000, 1010, 1039])
def test_the_budget_is_never_overspent_and_all_used(budget: int) -> None:
    result = search(budget)
    assert result.curve[-1].calls == 1000
    assert result.stop_reason == "budget"
    assert result.curve[-1].dev_metric is not None  # evaluated at the end, wherever the epoch stands


def test_a_budget_under_one_step_is_refused() -> None:
    with pytest.raises(BudgetExhausted, match="costs 40 calls and the budget is 39"):
        search(39)


@pytest.mark.parametrize("saves", [1, 2, 7, 24])
def test_a_resumed_run_repeats_an_uninterrupted_one(saves: int) -> None:
    whole, store = search(), Memory(saves)
    with pytest.raises(KeyboardInterrupt):
        search(store=store)
    store.saves = None
    assert same(search(store=store), whole)


def test_another_seed_would_be_noticed() -> None:
    whole, store = search(), Memory(7)
    with pytest.raises(KeyboardInterrupt):
        search(store=store)
    store.saves = None
    other = run(method(seed=1), toy.objective(1000), rows=toy.ROWS, batch_size=5, dev=toy.dev, store=store)
    assert not same(other, whole)


def test_a_finished_run_resumes_to_its_result() -> None:
    store = Memory()
    whole = search(store=store)
    assert same(search(store=store), whole)


def test_a_checkpoint_of_another_method_is_refused() -> None:
    store = Memory()
    search(store=store)
    del store.arrays["state.alpha"]
    with pytest.raises(ValueError, match="lacks 'alpha'"):
        search(store=store)


def test_the_best_on_dev_is_kept_and_ties_go_to_the_earlier() -> None:
    scores = iter([DevScore(0.5, 1.0), DevScore(0.7, 2.0), DevScore(0.7, 1.5), DevScore(0.7, 1.5), DevScore(0.6, 0.1)])
    result = search(200, dev=lambda prompts: next(scores), evaluate_every=1)
    assert (result.best_step, result.dev) == (3, DevScore(0.7, 1.5))


def test_dev_once_an_epoch() -> None:
    evaluated = [record.step for record in search(400).curve if record.dev_metric is not None]
    assert evaluated == [3, 6, 9, 10]


@pytest.mark.parametrize(("rows", "batch", "evaluated"), [(7, 3, [3, 6, 9, 10]), (6, 3, [2, 4, 6, 8, 10])])
def test_an_epoch_is_rounded_up(rows: int, batch: int, evaluated: list[int]) -> None:
    curve = search(400, rows=rows, batch_size=batch).curve
    assert [record.step for record in curve if record.dev_metric is not None] == evaluated


class Scripted(Method):
    """A full-batch method whose prompt after step s is the one that SCRIPT names."""

    SCRIPT = "aabbbaabcca"

    @dataclass(frozen=True)
    class Settings:
        pass

    @dataclass(frozen=True)
    class State:
        step: int = 0

    full_batch, calls_per_step = True, 1

    def init(self):
        return self.State()

    def step(self, state, objective, examples):
        objective.ledger.charge(1)
        return self.State(state.step + 1)

    def prompts(self, state):
        return [WeightedPrompt(np.full(1, "abc".index(self.SCRIPT[state.step - 1])), np.zeros(1), 1.0)]


DEV = {0: DevScore(0.6, 1.0), 1: DevScore(0.7, 1.0), 2: DevScore(0.5, 1.0)}


def scripted(asked: list[int], store: Memory | None = None, method: type[Method] = Scripted, **options):
    def dev(prompts) -> DevScore:
        asked.append(int(prompts[0].tokens[0]))
        return DEV[asked[-1]]

    objective = FunctionObjective(lambda tokens, z, examples: np.ones((1, 1)), Ledger(len(Scripted.SCRIPT)))
    return run(method(1, 3, 1), objective, rows=1, dev=dev, store=store, **options)


def test_dev_is_not_asked_again_about_the_best_or_the_last_prompts() -> None:
    """a, (last), b, (last), (last), a, (last), (best), c, (last), a."""
    asked: list[int] = []
    result = scripted(asked)
    assert asked == [0, 1, 0, 2, 0]
    found = [(record.dev_metric, record.dev_loss) for record in result.curve]
    assert found == [DEV["abc".index(name)] for name in Scripted.SCRIPT]
    assert (result.best_step, result.dev) == (3, DEV[1])


@pytest.mark.parametrize("saves", range(1, 11))
def test_a_resumed_run_asks_dev_as_often(saves: int) -> None:
    """What the answers cost and counted is part of a result: nothing may be asked twice because of a kill."""
    whole: list[int] = []
    result, asked, store = scripted(whole), [], Memory()
    scripted(asked, store, should_stop=iter([False] * saves + [True]).__next__)
    assert same(scripted(asked, store), result)
    assert asked == whole


class Sparse(Scripted):
    SCRIPT = "aabbbbccccc"


@pytest.mark.parametrize("saves", range(11))
def test_of_a_step_without_a_score_nothing_is_known(saves: int) -> None:
    """Every second step is scored: a, b, (best), c, c whose step before has no score, (last). A checkpoint has no more."""
    store, asked = Memory(), []
    if saves:
        scripted(asked, store, method=Sparse, evaluate_every=2, should_stop=iter([False] * saves + [True]).__next__)
    result = scripted(asked, store, method=Sparse, evaluate_every=2)
    assert [record.step for record in result.curve if record.dev_metric is not None] == [2, 4, 6, 8, 10, 11]
    assert asked == [0, 1, 2, 2]


class InPlace(Scripted):
    """Its state has one array, which every step writes anew."""

    @dataclass(frozen=True)
    class State:
        step: int
        tokens: np.ndarray

    def init(self):
        return self.State(0, np.zeros(1, np.int64))

    def step(self, state, objective, examples):
        objective.ledger.charge(1)
        state.tokens[:] = "abc".index(self.SCRIPT[state.step])
        return self.State(state.step + 1, state.tokens)

    def prompts(self, state):
        return [WeightedPrompt(state.tokens, np.zeros(1), 1.0)]


@pytest.mark.parametrize("saves", range(11))
def test_prompts_may_be_written_over_by_the_next_step(saves: int) -> None:
    """What was scored is kept as it was, before and after a kill."""
    store, asked = Memory(), []
    if saves:
        scripted(asked, store, method=InPlace, should_stop=iter([False] * saves + [True]).__next__)
    result = scripted(asked, store, method=InPlace)
    assert asked == [0, 1, 0, 2, 0]
    assert [(record.dev_metric, record.dev_loss) for record in result.curve] == [
        DEV["abc".index(name)] for name in Scripted.SCRIPT
    ]
    assert (result.best_step, result.dev, result.prompts[0].tokens.tolist()) == (3, DEV[1], [1])


ONE = WeightedPrompt(np.arange(3), np.arange(2.0), 0.5, np.eye(2))


@pytest.mark.parametrize(
    "other",
    [
        [ONE._replace(tokens=np.array([0, 1, 1])), ONE],
        [ONE, ONE._replace(z=np.array([0.0, 2.0]))],
        [ONE, ONE._replace(weight=0.6)],
        [ONE, ONE._replace(readout=-np.eye(2))],
        [ONE, ONE._replace(readout=None)],
        [ONE],
        [ONE, ONE, ONE],
    ],
)
def test_prompts_that_differ_in_anything_are_others(other: list[WeightedPrompt]) -> None:
    known = [([ONE, ONE], DEV[0])]
    copy = WeightedPrompt(np.arange(3), np.arange(2.0), 0.5, np.eye(2))
    assert _score_among(known, [copy, ONE]) == DEV[0]
    assert _score_among(known, other) is None
    bare = [prompt._replace(readout=None) for prompt in (ONE, copy)]
    assert _score_among([*known, (bare[:1], DEV[1])], bare[1:]) == DEV[1]


def test_without_dev_the_last_prompt_is_returned() -> None:
    result = search(400, dev=None)
    assert result.best_step == 10
    assert np.array_equal(result.prompts[0].z, result.state.z)


def test_it_stops_when_asked() -> None:
    result = search(4000, should_stop=iter([False, False, True]).__next__)
    assert (len(result.curve), result.stop_reason) == (2, "interrupted")


@pytest.mark.parametrize(("rows", "batch"), [(12, 5), (12, 4), (3, 32), (1, 1)])
def test_an_epoch_visits_every_row_once(rows: int, batch: int) -> None:
    steps = -(-rows // batch)
    epochs = [[mini_batch(9, e * steps + s, rows, batch) for s in range(steps)] for e in range(3)]
    for epoch in epochs:
        assert sorted(np.concatenate(epoch).tolist()) == list(range(rows))
        assert max(map(len, epoch)) <= batch
    if rows > 3:
        assert np.concatenate(epochs[0]).tolist() != np.concatenate(epochs[1]).tolist()


def test_the_curve_carries_the_diagnostics() -> None:
    record = search(400).curve[4]
    assert set(record.diagnostics) == {"loss", "alpha_gradient_norm", "z_gradient_norm"}
    assert (record.step, record.calls, record.sequences) == (5, 200, 40 * (5 + 5 + 2 + 5 + 5))


class WholeSet(ZOPoG):
    """Sees every row, and is done when it says so."""

    full_batch = True
    steps = 99

    def finished(self, state) -> str:
        return "nothing to learn" if state.step >= self.steps else ""


def whole_set(steps: int = 99) -> WholeSet:
    made = WholeSet(toy.N_POSITIONS, toy.N_CANDIDATES, toy.DIM, Settings(eta_alpha=0.05, eta_z=0.1))
    made.steps = steps
    return made


def test_a_full_batch_pays_for_every_mini_batch() -> None:
    objective = toy.objective(1000)
    objective.ledger.batch_size = 5  # 12 rows: 3 calls a prompt
    result = run(whole_set(), objective, rows=toy.ROWS, batch_size=5, dev=toy.dev)
    assert [record.calls for record in result.curve] == [120 * s for s in range(1, 9)]
    assert {record.sequences // record.step for record in result.curve} == {40 * toy.ROWS}
    assert all(record.dev_metric is not None for record in result.curve)  # each step is an epoch
    small = toy.objective(119)
    small.ledger.batch_size = 5
    with pytest.raises(BudgetExhausted, match="costs 120 calls and the budget is 119"):
        run(whole_set(), small, rows=toy.ROWS, batch_size=5)


def test_every_record_is_told_as_it_comes() -> None:
    told: list = []
    assert search(400, on_step=told.append).curve == told
    assert [record.step for record in told] == list(range(1, 11))


def test_the_price_of_a_step() -> None:
    """40 prompts: one call each on a mini-batch, whatever the rows; three calls on all of 12 rows at 5 a call."""
    ledger = Ledger(1000, batch_size=5)
    assert [step_price(method(), ledger, rows, 5) for rows in (3, 5, 12)] == [40, 40, 40]
    assert [step_price(whole_set(), ledger, rows, 5) for rows in (3, 5, 12)] == [40, 40, 120]


def test_a_method_that_is_finished_ends_the_run_and_is_evaluated() -> None:
    result = run(whole_set(4), toy.objective(1000), rows=toy.ROWS, dev=toy.dev, evaluate_every=3)
    assert (len(result.curve), result.stop_reason) == (4, "nothing to learn")
    assert [record.step for record in result.curve if record.dev_metric is not None] == [3, 4]
    assert run(whole_set(0), toy.objective(1000), rows=toy.ROWS).curve == []


def test_a_budget_of_one_step_is_enough() -> None:
    assert [record.calls for record in search(40).curve] == [40]


class TwoPrompts(ZOPoG):
    """Deploys z and -z, of unequal weight."""

    def prompts(self, state):
        [one] = super().prompts(state)
        return [one._replace(weight=0.25), one._replace(z=-one.z, weight=0.75)]


def test_a_resumed_run_keeps_the_weights_of_its_prompts() -> None:
    made, store = TwoPrompts(toy.N_POSITIONS, toy.N_CANDIDATES, toy.DIM, Settings()), Memory()
    options = {"rows": toy.ROWS, "batch_size": 5, "dev": lambda prompts: DevScore(0.5, 1.0), "store": store}
    whole = run(made, toy.objective(200), **options)
    again = run(made, toy.objective(200), **options)  # finished: nothing but what was saved
    assert [prompt.weight for prompt in again.prompts] == [0.25, 0.75]
    assert same(again, whole)
