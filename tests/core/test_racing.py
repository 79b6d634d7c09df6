"""Racing: PRESS against refits, averaged kernels against products of features, calls, rows that are never asked."""

import numpy as np
import pytest

from zopog_ref.ledger import Ledger
from zopog_ref.racing import Race, affordable, cost, press, spread, survivors
from zopog_ref.readout import vocabulary
from zopog_ref.readout_kernel import kernel_of

C, N, T = 3, 20, 12


def box(arms: int, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Scores (arms, N, T), each arm with more noise than the one before; labels."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(N) % C)
    code = rng.normal(size=(C, T))
    return [code[y] + (0.3 + 0.8 * a) * rng.normal(size=(N, T)) for a in range(arms)], y


def features_of(s: np.ndarray) -> np.ndarray:
    """[R1], written out: both blocks of one arm side by side, so that X X^T is its kernel."""
    found = []
    for part in (s[:, :C], s[:, C:]):
        x = part - part.mean(axis=1, keepdims=True)
        x = x - x.mean(axis=0)
        found.append(x / np.sqrt((x**2).sum() / len(x)))
    return np.hstack(found) / np.sqrt(2)


def race_of(scores: list[np.ndarray], y: np.ndarray, batch: int, groups: np.ndarray | None = None) -> tuple[Race, list]:
    asked: list[tuple[int, list[int]]] = []

    def ask(arm: int, rows: np.ndarray) -> np.ndarray:
        asked.append((arm, rows.tolist()))
        return scores[arm][rows]

    return Race(y, C, np.arange(len(y)) if groups is None else groups, batch, ask, seed=5), asked


def test_the_kernel_of_several_arms_is_the_mean_of_theirs() -> None:
    scores, _ = box(3)
    direct = np.mean([features_of(s) @ features_of(s).T for s in scores], axis=0)
    np.testing.assert_allclose(kernel_of(scores, C), direct, rtol=1e-12, atol=1e-12)
    assert np.trace(kernel_of(scores, C)) == pytest.approx(N)


def test_press_is_the_error_of_refits_without_the_row() -> None:
    scores, y = box(2)
    x = np.hstack([features_of(s) for s in scores]) / np.sqrt(2)  # K = mean of both
    Y = np.eye(C)[y]
    groups = np.arange(N)
    groups[3] = groups[11]  # a copy: both are left out together
    expected = np.empty(N)
    for i in range(N):
        rest = groups != groups[i]
        mean_x, mean_y = x[rest].mean(axis=0), Y[rest].mean(axis=0)
        xc = x[rest] - mean_x
        w = np.linalg.solve(xc.T @ xc + np.eye(x.shape[1]), xc.T @ (Y[rest] - mean_y))
        expected[i] = ((mean_y + (x[i] - mean_x) @ w - Y[i]) ** 2).sum()
    np.testing.assert_allclose(press(scores, y, C, groups), expected, rtol=1e-9)
    race, _ = race_of(scores, y, 7, groups)
    for arm in range(2):
        for _ in range(3):
            race.go_on(arm)
    np.testing.assert_allclose(race.press([0, 1]), expected, rtol=1e-9)


def test_one_text_tells_nothing() -> None:
    scores, y = box(1)
    assert np.isinf(press([scores[0][:4]], y[:4], C, np.zeros(4, int))).all()


def test_every_stretch_of_rows_has_all_classes() -> None:
    y = np.repeat(np.arange(4), [8, 8, 8, 2])
    order = spread(y, seed=3)
    assert sorted(order) == list(range(26))
    assert sorted(y[order[:4]]) == sorted(y[order[4:8]]) == [0, 1, 2, 3]
    assert set(y[order[8:11]]) == {0, 1, 2}
    assert (spread(y, 3) == order).all()
    assert (spread(y, 4) != order).any()


def test_half_of_the_arms_go_on_but_never_fewer_than_are_kept() -> None:
    given = [(1, 1), (2, 1), (3, 1), (5, 1), (9, 2), (5, 4), (4, 8)]
    assert [survivors(alive, keep) for alive, keep in given] == [1, 1, 2, 3, 5, 4, 4]
    assert cost(9, 2, 4) == 9 + 5 + 3 + 2


@pytest.mark.parametrize(("arms", "keep", "blocks"), [(1, 1, 1), (5, 5, 3), (9, 2, 4), (3, 8, 2), (10, 1, 5)])
def test_a_round_costs_what_it_says(arms: int, keep: int, blocks: int) -> None:
    scores, y = box(arms)
    race, asked = race_of(scores, y, -(-N // blocks))
    left = race.run(list(range(arms)), {}, keep, cost(arms, keep, race.blocks()))
    assert len(asked) == cost(arms, keep, race.blocks())
    assert left
    assert all(len(race.rows[arm]) == N for arm in left)
    alive = arms
    for _ in range(race.blocks()):
        alive = survivors(alive, keep)
    assert len(left) == alive


def test_a_budget_pays_for_as_many_arms_as_end() -> None:
    for left in range(40):
        count = affordable(12, 3, 4, left)
        assert cost(count, 3, 4) <= left or count == 0
        assert count == 12 or cost(count + 1, 3, 4) > left
    scores, y = box(6)
    race, asked = race_of(scores, y, 5)
    assert race.run(list(range(6)), {}, 2, 3) == []
    assert not asked
    assert race.run(list(range(6)), {}, 2, 9)
    assert len(asked) == 9


def test_the_worse_half_stops_and_the_best_wins() -> None:
    scores, y = box(8, seed=2)
    race, asked = race_of(scores, y, 10)
    best = race.run(list(range(8)), {}, 1, 100)
    assert best[0] == race.ranked(best)[0] == 0
    assert [sum(arm == a for arm, _ in asked) for a in range(8)].count(1) == 4  # four answered one mini-batch alone


def test_rows_that_a_prompt_shows_are_never_asked_nor_their_copies() -> None:
    scores, y = box(2)
    groups = np.arange(N)
    groups[7] = groups[2]  # row 7 is a copy of row 2
    race, asked = race_of(scores, y, 6, groups)
    race.run([0, 1], {1: (2, 5)}, 2, 100)
    of_first, of_second = ({row for arm, rows in asked if arm == a for row in rows} for a in (0, 1))
    assert of_first == set(range(N))
    assert of_second == set(range(N)) - {2, 5, 7}
    assert race.common([0, 1]).tolist() == sorted(of_second)
    with pytest.raises(ValueError, match="was not asked about 1 of these rows"):
        race.scores(1, np.array([0, 5]))


def test_what_is_kept_is_what_the_readout_is_fitted_to() -> None:
    scores, y = box(3)
    race, _ = race_of(scores, y, 8)
    kept = race.run([0, 1, 2], {}, 3, 100)
    rows = race.common(kept)
    given = [race.scores(arm, rows) for arm in kept]
    left_out = ((vocabulary(given, y[rows], C, penalty=1.0).left_out.argmax(axis=1)) == y[rows]).mean()
    direct = vocabulary([scores[arm] for arm in kept], y, C, penalty=1.0).left_out.argmax(axis=1)
    assert left_out == (direct == y).mean()


def test_a_ledger_that_is_charged_by_ask_is_never_overdrawn() -> None:
    scores, y = box(12)
    for budget in range(1, 60):
        ledger = Ledger(budget, batch_size=7)

        def ask(arm: int, rows: np.ndarray, ledger: Ledger = ledger) -> np.ndarray:
            ledger.charge(ledger.price(1, len(rows)), len(rows))
            return scores[arm][rows]

        race = Race(y, C, np.arange(N), 7, ask, seed=0)
        race.run(list(range(12)), {11: (0, 1, 2)}, 3, ledger.left)
        assert ledger.calls <= budget
