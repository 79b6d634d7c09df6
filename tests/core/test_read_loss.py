"""A readout inside the objective: what is read by what, refitted from what, and that nothing is asked for it."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from zopog_ref import FunctionObjective, Ledger, ModelObjective, Settings, ZOPoG, search
from zopog_ref.linear_fits import log_softmax
from zopog_ref.methods.bdpl import BDPL
from zopog_ref.methods.sspt import SSPT
from zopog_ref.randomness import Purpose, permutation
from zopog_ref.read_loss import PULL, ReadLoss, deployed, features, plain, reading, refit, start

LABELS = np.arange(9) % 3
METHODS = {
    "zo-pog": (ZOPoG, {"policy_samples": 3, "direction_pairs": 2, "eta_alpha": 0.05}),
    "sspt": (SSPT, {"direction_pairs": 2, "keep": 2}),
    "bdpl": (BDPL, {"samples": 3}),
}


class Scores:
    """An oracle whose label words are unequally likely whatever the text: a readout is needed."""

    n_positions, n_candidates, dim, n_classes = 2, 3, 2, 3
    lengths = np.full(9, 4)

    def __init__(self) -> None:
        self.table = np.random.default_rng(0).normal(size=(9, 3)) + 1.5 * np.eye(3)[LABELS] + [4.0, 0.0, -3.0]

    def logits(self, tokens: np.ndarray, z: np.ndarray, examples: np.ndarray) -> np.ndarray:
        z = z if z.ndim == 3 else z[:, None]
        shift = 0.3 * tokens.sum(axis=1)[:, None] + z.sum(axis=-1)
        return (self.table[examples] + np.sin(shift)[..., None] * [1.0, -1.0, 0.5]).astype(np.float32)


def objective(budget: int = 10**6, **given: object) -> ModelObjective:
    return ModelObjective(Scores(), LABELS, Ledger(budget), **given)  # type: ignore[arg-type]


def method_of(name: str, folds: int):
    kind, settings = METHODS[name]
    return kind(2, 3, 2, kind.Settings(**settings, readout_folds=folds), 7)


def test_before_the_first_refit_the_loss_is_the_cross_entropy() -> None:
    tokens, z, rows = np.zeros((4, 2), int), np.random.default_rng(1).normal(size=(4, 2)), np.array([1, 5, 8])
    read = ReadLoss(objective(), 2, np.zeros((0, 0, 0)), 7)
    np.testing.assert_allclose(read.losses(tokens, z, rows), objective().losses(tokens, z, rows), rtol=0, atol=1e-12)


def test_a_row_is_read_by_the_fold_that_never_saw_it() -> None:
    """Theta of a fold does not move with the labels of its own rows, and does with any other's."""
    tokens, z = np.zeros((2, 2), int), np.random.default_rng(1).normal(size=(2, 2))
    first = ReadLoss(objective(), 3, np.zeros((0, 0, 0)), 7)
    first.losses(tokens, z, np.arange(9))
    theta = first.refitted()
    for row in range(9):
        other = ModelObjective(Scores(), np.where(np.arange(9) == row, (LABELS + 1) % 3, LABELS), Ledger(99))
        again = ReadLoss(other, 3, np.zeros((0, 0, 0)), 7)
        again.losses(tokens, z, np.arange(9))
        for f in range(3):
            assert np.array_equal(again.refitted()[f], theta[f]) == (f == first.fold[row])
    read = ReadLoss(objective(), 3, theta, 7)
    losses = read.losses(tokens, z, np.array([4, 0]))
    x = features(Scores().logits(tokens, z, np.array([4, 0])))
    by_hand = -log_softmax(x[:, 0] @ theta[first.fold[4]])[:, LABELS[4]]
    np.testing.assert_allclose(losses[:, 0], by_hand, rtol=0, atol=1e-12)


def test_the_refit_is_a_share_of_the_way_to_the_minimum_of_j() -> None:
    rng = np.random.default_rng(2)
    x, y, theta = features(rng.normal(size=(40, 3))), rng.integers(3, size=40), plain(3) + rng.normal(size=(4, 3))

    def J(at: np.ndarray) -> float:
        return float(-10 / 40 * log_softmax(x @ at)[np.arange(40), y].sum() + PULL / 2 * ((at - plain(3)) ** 2).sum())

    least = refit(theta, x, y, 10, 1.0)
    for cell in np.ndindex(4, 3):
        moved = least.copy()
        moved[cell] += 1e-3
        assert J(moved) > J(least)
        moved[cell] -= 2e-3
        assert J(moved) > J(least)
    np.testing.assert_allclose(refit(theta, x, y, 10, 0.25), theta + 0.25 * (least - theta), rtol=0, atol=1e-9)
    values = [J(refit(theta, x, y, 10, share)) for share in (0.1, 0.3, 0.6, 1.0)]
    assert J(theta) > values[0] > values[1] > values[2] > values[3]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("folds", [1, 3])
def test_a_readout_costs_no_calls_and_lowers_the_loss(name: str, folds: int) -> None:
    found = {}
    for count in (0, folds):
        asked, method = objective(), method_of(name, count)
        state = method.init()
        for step in range(12):
            state = method.step(state, asked, search.mini_batch(7, step, 9, 4))
        found[count] = asked.ledger.calls, state.loss
        assert asked.ledger.calls == 12 * method.calls_per_step
        [prompt] = method.prompts(state)
        assert (prompt.readout is None) == (count == 0)
    assert found[0][0] == found[folds][0]
    assert found[folds][1] < 0.7 * found[0][1]


def test_both_evaluations_of_a_pair_and_both_halves_are_read_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []
    kept = ReadLoss.losses

    def losses(self, tokens, z, examples):
        found = kept(self, tokens, z, examples)
        seen.append(self.theta.copy())
        return found

    monkeypatch.setattr(ReadLoss, "losses", losses)
    method, asked = method_of("zo-pog", 2), objective()
    state = method.step(method.init(), asked, np.arange(9))
    after = method.step(state, asked, np.arange(9))
    assert len(seen) == 4
    assert np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[2], seen[3])
    assert np.array_equal(seen[2], state.readout)
    assert not np.array_equal(seen[1], seen[2])
    assert not np.array_equal(after.readout, state.readout)


@dataclass
class Kept:
    arrays: dict[str, np.ndarray] | None = None
    curve: tuple = ()

    def load(self):
        return None if self.arrays is None else (self.arrays, list(self.curve))

    def save(self, arrays, record):
        self.arrays, self.curve = arrays, (*self.curve, record)


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_run_goes_on_to_the_bit(name: str) -> None:
    def run(store: Kept, stop_after: int = 99):
        given = {
            "rows": 9,
            "batch_size": 4,
            "store": store,
            "dev": lambda prompts: search.DevScore(0.0, len(store.curve)),
        }
        return search.run(
            method_of(name, 3), objective(80), should_stop=lambda: len(store.curve) >= stop_after, **given
        )

    whole, cut = Kept(), Kept()
    expected = run(whole)
    for stop in (2, 5, 99):
        found = run(cut, stop)
    assert found.state.readout.shape == (3, 4, 3)
    assert np.array_equal(found.state.readout, expected.state.readout)
    assert np.array_equal(found.prompts[0].readout, expected.prompts[0].readout)
    assert [record.diagnostics for record in cut.curve] == [record.diagnostics for record in whole.curve]


@pytest.mark.parametrize("name", METHODS)
def test_without_it_nothing_of_a_checkpoint_changes(name: str) -> None:
    store = Kept()
    search.run(method_of(name, 0), objective(30), rows=9, batch_size=4, store=store)
    assert store.arrays is not None
    assert not [key for key in store.arrays if "readout" in key]
    assert reading(objective(), 0, start(0), 7).__class__ is ModelObjective


@pytest.mark.parametrize("name", METHODS)
def test_what_gives_no_scores_is_refused(name: str) -> None:
    method = method_of(name, 2)
    function = FunctionObjective(lambda tokens, z, examples: np.ones((len(tokens), len(examples))), Ledger(99))
    with pytest.raises(ValueError, match=r"readout_folds is 2: .* FunctionObjective gives none"):
        method.step(method.init(), function, np.arange(3))
    for loss in ("error", "hinge"):
        with pytest.raises(ValueError, match="set the loss to cross_entropy"):
            method.step(method.init(), objective(loss=loss), np.arange(3))
    assert not method.has_kernels or name == "sspt"
    with pytest.raises(ValueError, match="readout_folds is 10; the training split has 9 rows"):
        method_of(name, 10).step(method_of(name, 10).init(), objective(), np.arange(3))


def test_scores_that_are_not_finite_are_named() -> None:
    method, oracle = method_of("bdpl", 2), Scores()
    oracle.table[3, 1] = np.nan
    with pytest.raises(FloatingPointError, match=r"not finite|non-finite"):
        method.step(method.init(), ModelObjective(oracle, LABELS, Ledger(99)), np.arange(9))


def test_scores_of_whole_queries_are_kept_for_the_end() -> None:
    asked, tokens, z = objective(), np.array([[0, 1], [2, 2]]), np.array([[0.1, 0.2], [0.3, 0.4]])
    asked.losses(tokens, z, np.arange(9))
    assert asked.paid_scores(tokens[1], z[1]) is None  # nobody empties it: nothing is kept
    asked.whole = []
    order = np.array([3, 1, 0, 2, 8, 7, 6, 5, 4])
    asked.losses(tokens, z, order)
    expected = Scores().logits(tokens[1:], z[1:], np.arange(9))[0]
    np.testing.assert_array_equal(asked.paid_scores(tokens[1], z[1]), expected)
    assert asked.paid_scores(tokens[1], z[0]) is None
    asked.whole = []
    asked.losses(tokens, z, np.arange(8))
    assert asked.paid_scores(tokens[1], z[1]) is None
    assert Settings().readout_folds == 0


@pytest.mark.parametrize("loss", ["cross_entropy", "hinge", "error"])
def test_a_replayed_query_gives_the_same_losses_and_scores(loss: str) -> None:
    class Journal:
        def __init__(self) -> None:
            self.kept: list[np.ndarray] = []
            self.ready: list[np.ndarray] = []

        def replay(self) -> np.ndarray | None:
            return self.ready.pop(0) if self.ready else None

        def record(self, losses: np.ndarray) -> None:
            self.kept.append(np.asarray(json.loads(json.dumps(losses.tolist())), np.float64))

    journal, tokens, z, found = Journal(), np.array([[0, 1]]), np.array([[0.1, 0.2]]), []
    for _ in range(2):
        asked = objective(loss=loss, journal=journal)
        asked.whole = []
        whole, part = asked.losses(tokens, z, np.arange(9)), asked.losses(tokens, z, np.arange(4))
        found.append((whole, part, asked.paid_scores(tokens[0], z[0]), asked.ledger.calls))
        journal.ready = list(journal.kept)
    assert [each.ndim for each in journal.kept] == [3, 2]
    assert all(np.array_equal(a, b) for a, b in zip(*found))
    old = objective(loss=loss, journal=journal)  # of a version that kept losses alone
    old.whole, journal.ready = [], [found[0][0]]
    assert np.array_equal(old.losses(tokens, z, np.arange(9)), found[0][0])
    assert old.paid_scores(tokens[0], z[0]) is None


def test_features_and_what_reads_them_by_hand() -> None:
    """[s P; 1]: the intercept is pulled as well, and a row's mean goes."""
    assert PULL == 3
    assert features([[[1.0, 2.0, 6.0]]]).tolist() == [[[-2, -1, 3, 1]]]
    assert plain(2).tolist() == [[1, 0], [0, 1], [0, 0]]


def test_as_many_folds_as_rows_and_whose_they_are() -> None:
    read = ReadLoss(objective(), 9, np.zeros((0, 0, 0)), 7)
    assert sorted(read.fold.tolist()) == list(range(9))
    order = permutation(7, 0, Purpose.READOUT_FOLDS, 9)
    assert read.fold[order].tolist() == list(range(9))
    assert sorted(ReadLoss(objective(), 2, np.zeros((0, 0, 0)), 7).fold.tolist()) == [0] * 5 + [1] * 4


@pytest.mark.parametrize("folds", [1, 2])
def test_the_refit_of_a_step_by_hand(folds: int) -> None:
    """Two queries on the rows 4, 0, 7: each fold is refitted on the others' rows, all prompts of both queries."""
    rows, z, rng = np.array([4, 0, 7]), np.zeros((2, 2)), np.random.default_rng(3)
    read = ReadLoss(objective(), folds, plain(3) + rng.normal(size=(folds, 4, 3)), 7)
    before, x = read.theta.copy(), []
    for tokens in (np.array([[0, 1], [2, 2]]), np.array([[1, 1], [0, 0]])):
        read.losses(tokens, z, rows)
        x.append(features(Scores().logits(tokens, z, rows)))
    for f in range(folds):
        kept = [i for i, row in enumerate(rows) if folds == 1 or read.fold[row] != f]
        seen = np.concatenate([each[:, kept].reshape(-1, 4) for each in x])
        y = np.tile(LABELS[rows[kept]], 4)
        expected = refit(before[f], seen, y, 9 * len(kept) / 3, 3 / 9) if kept else before[f]
        np.testing.assert_allclose(read.refitted()[f], expected, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(read.theta, before)


def test_what_is_deployed_is_the_mean_of_the_folds() -> None:
    assert deployed(np.array([[[1.0, 2.0]], [[3.0, 6.0]]])).tolist() == [[2, 4]]
    assert deployed(None) is deployed(np.zeros((0, 0, 0))) is None
    assert ReadLoss(objective(), 2, np.ones((2, 4, 3)), 7).refitted().tolist() == np.ones((2, 4, 3)).tolist()
    assert start(2).shape == (0, 0, 0)
