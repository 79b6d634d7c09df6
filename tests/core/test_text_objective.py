"""Texts as tokens: the policy's gradient against exact sums over all texts, what is paid, what is never asked."""

import numpy as np
import pytest

from zopog_ref import Settings, ZOPoG, policy_gradient, probabilities
from zopog_ref.categorical import free_gradient
from zopog_ref.convergence.exact import differentiate, log_prompt_probability, policy_moments, prompt_atoms
from zopog_ref.ledger import BudgetExhausted, Ledger
from zopog_ref.methods.bdpl import BDPL
from zopog_ref.objective import cross_entropy
from zopog_ref.racing import Race, TextObjective, press
from zopog_ref.search import run

C, ROWS, T = 3, 18, 8
GRID = np.arange(6).reshape(2, 3)  # two templates, three things in front of them: N = 3, and template 0 twice
OWN = {2: (1, 4), 5: (1, 4)}  # the last thing in front shows two rows
BATCH = np.array([3, 1, 0, 7, 9, 4, 12, 16])


class Box:
    """Scores of six arms; arm 4 has the least noise."""

    def __init__(self, budget: int = 10**6, batch_size: int = 8) -> None:
        rng = np.random.default_rng(1)
        self.labels = rng.permutation(np.arange(ROWS) % C)
        noise = np.array([1.6, 1.2, 1.4, 0.9, 0.2, 1.1])
        code = rng.normal(size=(C, T))
        self.scores = code[self.labels] + noise[:, None, None] * rng.normal(size=(6, ROWS, T))
        self.asked: list[tuple[int, list[int]]] = []
        self.ledger = Ledger(budget, batch_size=batch_size)
        self.race = Race(self.labels, C, np.arange(ROWS), batch_size, self._ask, seed=0)

    def _ask(self, arm: int, rows: np.ndarray) -> np.ndarray:
        self.ledger.charge(self.ledger.price(1, len(rows)), len(rows))
        self.asked.append((arm, rows.tolist()))
        return self.scores[arm][rows]

    def by_hand(self, arm: int, batch: np.ndarray = BATCH) -> float:
        rows = [row for row in batch if row not in OWN.get(arm, ())]
        return float(press([self.scores[arm][rows]], self.labels[rows], C, np.arange(len(rows))).mean())


def objective_of(box: Box, **changes: object) -> TextObjective:
    return TextObjective(box.race, GRID, box.ledger, OWN, **changes)  # type: ignore[arg-type]


def ask(objective: TextObjective, tokens: np.ndarray) -> np.ndarray:
    return objective.losses(tokens, np.zeros((len(tokens), 1)), BATCH)


class ByHistory(TextObjective):
    """Broken twin: an answer that hangs on what was asked before is no function of the prompt."""

    def losses(self, tokens: np.ndarray, z: np.ndarray, examples: np.ndarray) -> np.ndarray:
        return super().losses(tokens, z, examples) * (1 + 0.1 * len(self.race.rows))


@pytest.mark.parametrize("shape", [(6,), (2, 3), (2, 3, 1)])
@pytest.mark.parametrize(("kind", "unbiased"), [(TextObjective, True), (ByHistory, False)])
def test_the_policy_gradient_is_that_of_the_sum_over_all_texts(
    kind: type[TextObjective], unbiased: bool, shape: tuple[int, ...]
) -> None:
    grid = GRID.reshape(shape)
    alpha = np.random.default_rng(2).uniform(0.3, 1.2, (len(shape), max(shape)))
    atoms = prompt_atoms(alpha)  # all N^n prompts, of six texts
    box = Box()
    of_text = np.array([box.by_hand(int(grid[tuple(j % size for j, size in zip(t, shape))])) for t in atoms.tokens])
    exact = differentiate(lambda a: np.exp(log_prompt_probability(atoms.tokens, a, 1.0)) @ of_text, alpha)
    objective = kind(box.race, grid, box.ledger, OWN)
    losses = np.array([ask(objective, one[None]).mean() for one in atoms.tokens])
    found = policy_moments(policy_gradient, atoms, losses, samples=2).mean  # over all pairs of draws
    assert np.allclose(found, exact, rtol=1e-9, atol=1e-12) is unbiased
    assert np.abs(exact).max() > 0.01


def test_bdpl_sees_what_a_text_is_worth_beside_the_mean() -> None:
    p = np.array([[0.2, 0.5, 0.3], [0.1, 0.6, 0.3]])
    atoms = prompt_atoms(p)
    losses = ask(objective_of(Box()), atoms.tokens).mean(axis=1)
    mean = float(atoms.weight @ losses)
    exact = np.empty_like(p)
    for i, j in np.ndindex(p.shape):
        given = atoms.tokens[:, i] == j
        exact[i, j] = atoms.weight[given] @ losses[given] / p[i, j] - mean
    found = policy_moments(lambda loss, tokens, alpha, q, tau: free_gradient(loss, tokens, q), atoms, losses, 2).mean
    np.testing.assert_allclose(found, exact, rtol=1e-9, atol=1e-12)


def test_a_step_of_zo_pog_is_its_own_unchanged() -> None:
    settings = Settings(zeroth_order=False, policy_samples=4, eta_alpha=0.05, gumbel="none")
    method, seen = ZOPoG(2, 3, 1, settings, seed=3), []

    class Watched(TextObjective):
        def losses(self, tokens: np.ndarray, z: np.ndarray, examples: np.ndarray) -> np.ndarray:
            seen.append((tokens, super().losses(tokens, z, examples)))
            return seen[-1][1]

    box, start = Box(), method.init()
    after = method.step(start, Watched(box.race, GRID, box.ledger, OWN), BATCH)
    [(tokens, losses)] = seen
    expected = [box.by_hand(int(GRID[t[0] % 2, t[1]])) for t in tokens]
    np.testing.assert_allclose(losses.mean(axis=1), expected, rtol=1e-12)
    g = policy_gradient(expected, tokens, start.alpha, probabilities(start.alpha))
    np.testing.assert_allclose(after.alpha, start.alpha - 0.05 * g, rtol=1e-12)


def test_shown_rows_are_not_asked_and_move_no_mean() -> None:
    box = Box()
    losses = ask(objective_of(box), np.array([[0, 2], [0, 1]]))
    assert box.asked[0] == (2, [3, 0, 7, 9, 12, 16])
    assert losses.mean(axis=1) == pytest.approx([box.by_hand(2), box.by_hand(1)])
    rows = [row for row in BATCH if row not in OWN[2]]
    np.testing.assert_allclose(
        losses[0][np.isin(BATCH, rows)], press([box.scores[2][rows]], box.labels[rows], C, np.arange(6))
    )


def test_a_prompt_that_shows_all_of_the_rows_is_an_error_before_anything_is_paid() -> None:
    box = Box()
    with pytest.raises(ValueError, match="arm 2 shows all of the 2 rows"):
        objective_of(box).losses(np.array([[0, 2]]), np.zeros((1, 1)), np.array([4, 1]))
    assert box.ledger.calls == 0


def test_nothing_is_paid_twice_and_copies_of_a_text_are_one() -> None:
    box = Box()
    objective = objective_of(box)
    first = ask(objective, np.array([[0, 1], [2, 1], [0, 1]]))  # token 2 of position 1 is template 0 again
    assert box.ledger.calls == 1
    assert (first == first[0]).all()
    assert (ask(objective, np.array([[0, 1]])) == first[0]).all()
    assert box.ledger.calls == 1
    objective.losses(np.array([[0, 1]]), np.zeros((1, 1)), np.array([0, 1, 2]))
    assert box.asked[-1] == (1, [2])  # the rows that it has not answered yet
    box.race.go_on(1)
    assert len(box.race.rows[1]) == len(set(box.race.rows[1].tolist())) == 17


def test_the_label_words_loss_is_each_rows_own() -> None:
    box = Box()
    losses = ask(objective_of(box, loss=cross_entropy), np.array([[1, 0]]))
    np.testing.assert_allclose(losses[0], cross_entropy(box.scores[3][BATCH][:, :C], box.labels[BATCH]))


@pytest.mark.parametrize("name", ["zo-pog", "bdpl"])
def test_a_policy_over_texts_finds_the_best_and_keeps_to_its_budget(name: str) -> None:
    zo_pog = Settings(zeroth_order=False, policy_samples=4, eta_alpha=0.3, gumbel="none")
    box = Box(budget=14, batch_size=9)
    method = ZOPoG(2, 3, 1, zo_pog) if name == "zo-pog" else BDPL(2, 3, 1, BDPL.Settings(samples=4, eta_p=1.0))
    steps = iter(range(200))
    result = run(method, objective_of(box), rows=ROWS, batch_size=9, should_stop=lambda: next(steps, None) is None)
    assert box.ledger.calls <= 12  # six texts, two mini-batches each: all that can be asked
    [prompt] = result.prompts
    assert GRID[prompt.tokens[0] % 2, prompt.tokens[1]] == 4
    with pytest.raises(BudgetExhausted):
        run(method, objective_of(Box(budget=3)), rows=ROWS, batch_size=9)
