"""Losses against their definitions; the ledger never overspends; the journal never pays twice."""

import numpy as np
import pytest

from zopog_ref import BudgetExhausted, FunctionObjective, Ledger, ModelObjective, cross_entropy, hinge
from zopog_ref.objective import LOSSES, Thinnable, error, log_sum_exp


class TableOracle:
    """Logits from a table: class 0 gets the sum of the tokens, class 1 the sum of z."""

    n_positions, n_candidates, dim, n_classes = 2, 3, 4, 2

    def __init__(self) -> None:
        self.lengths = np.array([5, 7, 9])
        self.queries = 0

    def logits(self, tokens: np.ndarray, z: np.ndarray, examples: np.ndarray) -> np.ndarray:
        self.queries += 1
        z = z if z.ndim == 3 else np.repeat(z[:, None], len(examples), axis=1)
        return np.stack([np.repeat(tokens.sum(1)[:, None], len(examples), 1), z.sum(-1)], axis=-1).astype(np.float32)


def test_cross_entropy_is_minus_log_softmax() -> None:
    logits, labels = np.random.default_rng(0).normal(size=(3, 4, 5)), np.array([0, 4, 2, 2])
    softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -np.log(softmax[:, np.arange(4), labels])
    np.testing.assert_allclose(cross_entropy(logits, labels), expected, rtol=1e-12)
    assert np.isfinite(cross_entropy(np.array([[1e4, -1e4]]), np.array([1]))).all()


def test_hinge_by_hand() -> None:
    logits = np.array([[3.0, 1.0, 0.0], [0.0, 1.5, 1.0], [0.0, 0.0, 4.0]])
    np.testing.assert_allclose(hinge(logits, np.array([0, 1, 0])), [0.0, 1.5, 6.0])
    assert logits[0, 0] == 3.0  # the caller's array is left alone


def test_ledger_refuses_before_it_charges() -> None:
    ledger = Ledger(budget=10)
    ledger.charge(8, 80, 800)
    with pytest.raises(BudgetExhausted, match="3 calls asked for, 2 of 10 left"):
        ledger.charge(3)
    assert (ledger.calls, ledger.sequences, ledger.tokens, ledger.left) == (8, 80, 800, 2)


def test_a_model_objective_charges_and_stops_before_the_model() -> None:
    oracle = TableOracle()
    objective = ModelObjective(oracle, [0, 1, 0], Ledger(budget=3))
    losses = objective.losses(np.array([[0, 1], [2, 2]]), np.zeros((2, 4)), np.array([0, 2]))
    np.testing.assert_allclose(losses, np.log1p(np.exp(-np.array([[1.0, 1.0], [4.0, 4.0]]))), rtol=1e-6)
    assert (objective.ledger.calls, objective.ledger.sequences, objective.ledger.tokens) == (2, 4, 28)
    with pytest.raises(BudgetExhausted):
        objective.losses(np.zeros((2, 2), int), np.zeros((2, 4)), np.array([0]))
    assert oracle.queries == 1


def test_the_journal_is_asked_before_the_model() -> None:
    class Memory:
        def __init__(self) -> None:
            self.kept: list[np.ndarray] = []
            self.place = 0

        def replay(self) -> np.ndarray | None:
            self.place += 1
            return self.kept[self.place - 1] if self.place <= len(self.kept) else None

        def record(self, losses: np.ndarray) -> None:
            self.kept.append(losses)
            self.place = len(self.kept)

    journal, first, second = Memory(), TableOracle(), TableOracle()
    arguments = np.array([[0, 1]]), np.zeros((1, 4)), np.array([0])
    paid = ModelObjective(first, [0, 1, 0], Ledger(9), journal=journal).losses(*arguments)
    journal.place = 0  # as after a crash
    resumed = ModelObjective(second, [0, 1, 0], Ledger(9), journal=journal)
    assert (resumed.losses(*arguments) == paid).all()
    assert (second.queries, resumed.ledger.calls) == (0, 1)
    resumed.losses(*arguments)
    assert (second.queries, len(journal.kept)) == (1, 2)


def test_a_diverged_model_is_named() -> None:
    objective = ModelObjective(TableOracle(), [0, 1, 0], Ledger(9))
    with pytest.raises(FloatingPointError, match="1 non-finite losses of 1"), np.errstate(invalid="ignore"):
        objective.losses(np.array([[0, 1]]), np.full((1, 4), np.nan), np.array([0]))
    with pytest.raises(FloatingPointError, match="1 non-finite losses of 2"), np.errstate(invalid="ignore"):
        objective.losses(np.array([[0, 1]] * 2), np.array([[0.0] * 4, [np.nan] * 4]), np.array([0]))


@pytest.mark.parametrize(
    ("labels", "loss", "message"),
    [
        ([0, 1], "hinge", "3 rows"),
        ([0, 1, 2], "hinge", r"0\.\.1"),
        ([0, 1, -1], "hinge", r"0\.\.1"),
        ([0, 1, 0], "zero_one", "unknown loss"),
    ],
)
def test_errors_say_what_is_wrong(labels: list[int], loss: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelObjective(TableOracle(), labels, Ledger(9), loss)


def test_any_function_is_an_objective() -> None:
    objective = FunctionObjective(lambda tokens, z, examples: np.ones((len(tokens), len(examples))), Ledger(4))
    assert objective.losses(np.zeros((3, 1), int), np.zeros((3, 1)), np.arange(2)).shape == (3, 2)
    assert objective.ledger.calls == 3


def test_no_rows_are_refused_before_anything_is_paid() -> None:
    ledger = Ledger(budget=10)
    objective = FunctionObjective(lambda tokens, z, examples: np.zeros((len(tokens), 0)), ledger)
    with pytest.raises(ValueError, match="0 rows"):
        objective.losses(np.zeros((2, 1), np.int64), np.zeros((2, 1)), np.arange(0))
    assert ledger.calls == 0


def test_a_call_is_one_prompt_on_at_most_a_mini_batch() -> None:
    ledger = Ledger(budget=100, batch_size=32)
    assert [ledger.price(5, rows) for rows in (1, 31, 32, 33, 64, 96, 97)] == [5, 5, 5, 10, 10, 15, 20]
    assert Ledger(budget=100).price(5, 96) == 5
    objective = FunctionObjective(lambda tokens, z, examples: np.zeros((len(tokens), len(examples))), ledger)
    objective.losses(np.zeros((2, 1), int), np.zeros((2, 1)), np.arange(96))
    assert (ledger.calls, ledger.sequences) == (6, 192)
    model = ModelObjective(TableOracle(), [0, 1, 0], Ledger(budget=3, batch_size=2))
    with pytest.raises(BudgetExhausted, match="4 calls asked for"):  # three rows are two mini-batches
        model.losses(np.zeros((2, 2), int), np.zeros((2, 4)), np.arange(3))


def test_error_counts_what_predicting_gets_wrong() -> None:
    logits = np.array([[3.0, 1.0, 0.0], [0.0, 1.5, 0.0], [2.0, 2.0, 1.0], [2.0, 2.0, 1.0]])
    labels = np.array([0, 0, 0, 1])  # a tie of some is answered with the first of them
    np.testing.assert_array_equal(error(logits, labels), [0.0, 1.0, 0.0, 1.0])
    assert error(np.stack([logits, -logits]), labels).shape == (2, 4)
    assert ModelObjective(TableOracle(), [0, 1, 0], Ledger(9), "error").losses(
        np.array([[1, 1]]), np.zeros((1, 4)), np.arange(3)
    ).tolist() == [[0.0, 1.0, 0.0]]


class BrokenOracle(TableOracle):
    """Its answer to the second row is what was given."""

    def __init__(self, row: list[float]) -> None:
        super().__init__()
        self.row = row

    def logits(self, tokens: np.ndarray, z: np.ndarray, examples: np.ndarray) -> np.ndarray:
        found = super().logits(tokens, z, examples).copy()
        found[:, 1] = self.row
        return found


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("row", [[np.nan, 1.0], [1.0, np.nan], [np.inf, 1.0], [-np.inf, -np.inf]])
def test_a_model_that_is_broken_is_no_model_that_is_right(loss: str, row: list[float]) -> None:
    """Whatever the loss: argmax reads NaN as class 0, so that rows of class 0 would count as right."""
    objective = ModelObjective(BrokenOracle(row), [0, 0, 0], Ledger(9), loss)
    with (
        pytest.raises(
            FloatingPointError, match=r"(not finite|non-finite losses of 3): the continuous prompt may have diverged"
        ),
        np.errstate(invalid="ignore"),
    ):
        objective.losses(np.array([[1, 1]]), np.zeros((1, 4)), np.arange(3))


@pytest.mark.parametrize("loss", ["cross_entropy", "error"])
def test_a_class_without_probability_is_an_answer(loss: str) -> None:
    objective = ModelObjective(BrokenOracle([0.0, -np.inf]), [0, 0, 0], Ledger(9), loss)
    assert objective.losses(np.array([[1, 1]]), np.zeros((1, 4)), np.arange(3))[0, 1] == 0


class ThinnableOracle(TableOracle):
    """Its one layer of four hidden units scales the logits."""

    hidden_units = (1, 4)
    scale = 1.0

    def thinned(self, unit_mask: np.ndarray) -> "ThinnableOracle":
        network = ThinnableOracle()
        network.scale = float(unit_mask.mean())
        return network

    def logits(self, tokens: np.ndarray, z: np.ndarray, examples: np.ndarray) -> np.ndarray:
        return super().logits(tokens, z, examples) * self.scale


def test_a_thinned_objective_shares_the_ledger() -> None:
    asked = np.array([[0, 1]]), np.zeros((1, 4)), np.arange(3)
    objective = ModelObjective(ThinnableOracle(), [0, 1, 0], Ledger(9))
    assert isinstance(objective, Thinnable)
    assert objective.hidden_units == (1, 4)
    half = objective.thinned(np.array([[0.0, 0.0, 1.0, 1.0]]))
    full = objective.losses(*asked)
    assert not np.array_equal(half.losses(*asked), full)
    assert np.array_equal(objective.thinned(np.ones((1, 4))).losses(*asked), full)
    assert objective.ledger.calls == 3
    plain = FunctionObjective(lambda tokens, z, examples: np.zeros((len(tokens), len(examples))), Ledger(9))
    assert not isinstance(plain, Thinnable)
    with pytest.raises(ValueError, match="TableOracle has none"):
        ModelObjective(TableOracle(), [0, 1, 0], Ledger(9)).thinned(np.ones((1, 4)))


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_several_prompts_are_those_of_each(name: str) -> None:
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(2, 4, 3, 5)), np.array([4, 0, 2])
    each = [[LOSSES[name](prompt, labels) for prompt in group] for group in logits]
    np.testing.assert_allclose(LOSSES[name](logits, labels), each, rtol=1e-15)


def test_a_charge_of_calls_alone() -> None:
    ledger = Ledger(10)
    ledger.charge(3)
    assert (ledger.calls, ledger.sequences, ledger.tokens, ledger.left) == (3, 0, 0, 7)
    ledger.charge(7, 5, 4)
    assert (ledger.calls, ledger.sequences, ledger.tokens, ledger.left) == (10, 5, 4, 0)
    with pytest.raises(BudgetExhausted, match="1 calls asked for, 0 of 10 left"):
        ledger.charge(1)


def test_the_normaliser_of_large_logits() -> None:
    assert log_sum_exp([[1e4, 1e4], [-1e4, -1e4], [0.0, np.log(3)]]).tolist() == pytest.approx(
        [1e4 + np.log(2), -1e4 + np.log(2), np.log(4)], rel=1e-15
    )


def test_what_rounding_a_loss_has() -> None:
    """Logits are float32; 0 and 1 are exact."""
    for name, size in (("cross_entropy", 2.0**-24), ("hinge", 2.0**-24), ("error", 2.0**-53)):
        given = ModelObjective(TableOracle(), [0, 1, 0], Ledger(9), name).roundoff
        assert size / 4 < given < 4 * size, name


@pytest.mark.parametrize("loss", LOSSES)
def test_a_row_keeps_its_label_in_whatever_order_rows_are_asked(loss: str) -> None:
    objective = ModelObjective(BrokenOracle([3.0, 1.0]), [0, 1, 1], Ledger(9), loss)
    prompt = np.array([[2, 2]]), np.full((1, 4), 0.5)
    in_order = objective.losses(*prompt, np.arange(3))
    shuffled = ModelObjective(TableOracle(), [0, 1, 1], Ledger(9), loss).losses(*prompt, np.array([2, 0]))
    assert in_order[0, 0] != in_order[0, 2]
    assert shuffled.tolist() == [[in_order[0, 2], in_order[0, 0]]]


def test_the_least_mini_batch_of_a_ledger() -> None:
    assert Ledger(9, batch_size=1).price(2, 3) == 6
    with pytest.raises(ValueError, match="batch_size"):
        Ledger(9, batch_size=0)
    empty = Ledger(9)
    assert (empty.calls, empty.sequences, empty.tokens) == (0, 0, 0)


def test_further_forward_passes_are_charged() -> None:
    """Of label words of several tokens: as many calls and sequences more, and a token each."""
    ledger = Ledger(budget=24, batch_size=4, forwards=3)
    assert ledger.price(2, 5) == 3 * 2 * 2
    ledger.charge(ledger.price(2, 5), sequences=10, tokens=70)
    assert (ledger.calls, ledger.sequences, ledger.tokens) == (12, 30, 90)
    assert Ledger(budget=24, batch_size=4).price(2, 5) == 4
