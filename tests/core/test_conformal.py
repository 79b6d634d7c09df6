"""[Q1] to [Q3]: thresholds by hand, coverage by simulation, and twins whose coverage does not hold."""

import numpy as np
import pytest

from zopog_ref.conformal import abstains, conformal_sets, conformal_threshold, jackknife_plus_sets, sets_at
from zopog_ref.linear_fits import softmax
from zopog_ref.readout import vocabulary

ALPHA = 0.1


def test_the_threshold_is_the_kth_smallest_misfit_q1() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
    labels = [0, 1, 0, 0]  # misfits 0.1, 0.2, 0.3, 0.6
    assert conformal_threshold(p, labels, 0.5).tolist() == pytest.approx([0.3, 0.3])  # k = ceil(0.5 * 5) = 3
    assert conformal_threshold(p, labels, 0.2)[0] == pytest.approx(0.6)  # k = 4
    assert conformal_threshold(p, labels, 0.1)[0] == 1.0  # k = 5 > 4: every class is in the set
    assert conformal_threshold(p, labels, 0.5, groups=[0, 1, 1, 2])[0] == pytest.approx(0.2)  # misfits 0.1, 0.2, 0.6
    by_class = conformal_threshold(p, labels, 0.5, by_class=True)
    assert by_class.tolist() == pytest.approx([0.3, 0.2])  # k = 2 of 0.1, 0.3, 0.6; k = 1 of 0.2
    assert conformal_threshold(p, labels, 0.4, by_class=True).tolist() == pytest.approx([0.6, 1.0])
    assert conformal_threshold([[0.1, 0.9]], [1], 0.5, by_class=True).tolist() == pytest.approx([1.0, 0.1])
    assert sets_at([[0.7, 0.3], [0.5, 0.5]], 0.31).tolist() == [[True, False], [False, False]]
    assert abstains([[True, False], [False, False], [True, True]]).tolist() == [False, True, True]


def rows(rng: np.random.Generator, n: int, classes: int = 4, width: int = 12) -> tuple[np.ndarray, np.ndarray]:
    y = rng.integers(0, classes, n)
    y[:classes] = np.arange(classes)
    return rng.normal(size=(n, width)) + 1.2 * np.eye(classes, width)[y], y


def test_split_sets_cover_as_they_promise_q1() -> None:
    """Exactly k/(n + 1) without ties: 29 of 32 for n = 31."""
    covered = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(231, 3)) * 2, rng.integers(0, 3, 231)
        x[np.arange(231), y] += 1
        p = softmax(x)
        sets = conformal_sets(p[31:], p[:31], y[:31], ALPHA)
        covered.append(sets[np.arange(200), y[31:]].mean())
    error = np.std(covered) / np.sqrt(400)
    assert abs(np.mean(covered) - 29 / 32) < 4 * error
    assert 0.035 < np.std(covered) < 0.07  # sqrt(0.9 * 0.1 / 33) and the test rows' own: a single run is not 0.9


def test_jackknife_sets_of_a_readout_cover_and_those_of_its_training_scores_do_not_q2() -> None:
    left_out, trained, sizes = [], [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x, y = rows(rng, 348)
        fit = vocabulary(x[:48], y[:48], 4)
        p = fit.readout.predict(x[48:])
        sets = conformal_sets(p, fit.left_out, y[:48], ALPHA)
        left_out.append(sets[np.arange(300), y[48:]].mean())
        sizes.append(sets.sum(axis=1).mean())
        fooled = conformal_sets(p, fit.readout.predict(x[:48]), y[:48], ALPHA)
        trained.append(fooled[np.arange(300), y[48:]].mean())
    assert np.mean(left_out) > 0.9 - 3 * np.std(left_out) / np.sqrt(60)
    assert np.mean(left_out) < 0.96  # and not by answering every class
    assert 1 < np.mean(sizes) < 3.2
    assert np.mean(trained) < 0.87


def test_by_class_covers_every_class_where_frequencies_differ_q4() -> None:
    """Few-shot rows 16 a class, new rows nearly all of the hard class: one threshold for all misses too often."""
    by_class, pooled = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        y = np.concatenate([np.arange(32) % 2, (rng.random(300) < 0.9).astype(int)])
        x = rng.normal(size=332) + np.where(y == 0, 3.0, 0.0)  # class 0 is told well, by a rule that leans to it
        p = softmax(np.stack([x, 0.5 - x], axis=1))
        for chosen, covered in ((True, by_class), (False, pooled)):
            sets = conformal_sets(p[32:], p[:32], y[:32], ALPHA, by_class=chosen)
            covered.append(sets[np.arange(300), y[32:]].mean())
    error = np.std(by_class) / np.sqrt(200)
    assert abs(np.mean(by_class) - 16 / 17) < 4 * error  # k = 16 of 16 rows a class
    assert np.mean(pooled) < 0.88


def test_jackknife_plus_covers_q3() -> None:
    covered = []
    for seed in range(15):
        rng = np.random.default_rng(seed)
        x, y = rows(rng, 130)
        fit = vocabulary(x[:30], y[:30], 4)
        p = []
        for i in range(30):
            rest = np.delete(np.arange(30), i)
            p.append(vocabulary(x[rest], y[rest], 4).readout.predict(x[[i, *range(30, 130)]]))
        at_new = np.array([q[1:] for q in p])
        sets = jackknife_plus_sets(np.array([q[0] for q in p]), y[:30], at_new, ALPHA)
        covered.append(sets[np.arange(100), y[30:]].mean())
        by_hand = [
            [sum(1 - p[i][0, y[i]] < 1 - at_new[i, r, c] for i in range(30)) < 27.9 for c in range(4)] for r in range(5)
        ]
        assert sets[:5].tolist() == by_hand
        same = jackknife_plus_sets(
            fit.left_out, y[:30], np.broadcast_to(fit.readout.predict(x[30:]), (30, 100, 4)), ALPHA
        )
        np.testing.assert_array_equal(same, conformal_sets(fit.readout.predict(x[30:]), fit.left_out, y[:30], ALPHA))
    assert np.mean(covered) > 0.9 - 3 * np.std(covered) / np.sqrt(15)  # more than the 0.8 that is proved


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 0.0}, "between 0 and 1"),
        ({"labels": [0, 2]}, "must lie in 0..1"),
        ({"labels": [0]}, r"\(2, 2\) and \(1,\)"),
        ({"labels": [0.0, 1.0]}, "float64"),
        ({"left_out": [[0.5, np.nan], [0.1, 0.9]]}, r"in \[0, 1\]"),
        ({"groups": [1, 2, 3]}, "one entry a row"),
    ],
)
def test_errors(change: dict[str, object], message: str) -> None:
    arguments = {"left_out": [[0.5, 0.5], [0.1, 0.9]], "labels": [0, 1]} | change
    with pytest.raises(ValueError, match=message):
        conformal_threshold(**arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(2, rows, 2\)"):
        jackknife_plus_sets([[0.5, 0.5], [0.1, 0.9]], [0, 1], np.zeros((3, 4, 2)))


@pytest.mark.parametrize("row", [[1.5, 0.2], [-0.1, 0.5]])
def test_what_is_no_probability(row: list[float]) -> None:
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        conformal_threshold([[0.5, 0.5], row], [0, 1], 0.5)


def test_0_and_1_are_probabilities_and_alpha_is_a_tenth_unless_given() -> None:
    p, y = np.array([[1.0, 0.0]] * 9 + [[0.0, 1.0]]), np.zeros(10, int)
    new = np.array([[0.75, 0.25], [0.0, 1.0]])
    assert np.array_equal(conformal_sets(new, p, y), conformal_sets(new, p, y, 0.1))
    at_new = np.tile(new, (10, 1, 1))
    assert np.array_equal(jackknife_plus_sets(p, y, at_new), jackknife_plus_sets(p, y, at_new, 0.1))


@pytest.mark.parametrize("n", [9, 19, 32, 64, 99])
@pytest.mark.parametrize("alpha", [0.1, 0.25])
def test_split_coverage_lies_between_its_two_bounds_q1(n: int, alpha: float) -> None:
    """Exactly exchangeable and continuous: 1 - alpha <= k/(n + 1) <= 1 - alpha + 1/(n + 1), and Beta(k, n + 1 - k)."""
    rng, runs = np.random.default_rng(n), 4000
    q = np.empty(runs)
    for run in range(runs):
        right = rng.random(n)  # p of the true class: misfits are uniform, so a threshold q covers a share q
        q[run] = conformal_threshold(np.column_stack([right, 1 - right]), np.zeros(n, int), alpha)[0]
    k = np.ceil((1 - alpha) * (n + 1) - 1e-9)
    mean, spread = k / (n + 1), np.sqrt(k * (n + 1 - k) / ((n + 1) ** 2 * (n + 2)))
    assert 1 - alpha <= mean <= 1 - alpha + 1 / (n + 1)
    assert abs(q.mean() - mean) < 4 * spread / np.sqrt(runs)
    assert abs(q.std() - spread) < 4 * spread / np.sqrt(runs)
    fooled = np.quantile(rng.random((runs, n)), 1 - alpha, axis=1).mean()  # the plain quantile, without n + 1
    assert fooled < 1 - alpha


def test_held_out_and_left_out_rows_together_cover_q1_q2() -> None:
    """The threshold of a manual prompt: as good a mean as the held-out rows alone, and half the variance."""
    alone, together = [], []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        x, y = rows(rng, 496)
        fit = vocabulary(x[:48], y[:48], 4)
        p, new = fit.readout.predict(x[48:]), np.arange(400)
        for covered, left_out, labels in (
            (alone, p[:48], y[48:96]),
            (together, np.concatenate([p[:48], fit.left_out]), np.concatenate([y[48:96], y[:48]])),
        ):
            covered.append(conformal_sets(p[48:], left_out, labels, ALPHA)[new, y[96:]].mean())
    error = np.std(together) / np.sqrt(120)
    assert 0.9 - 3 * error < np.mean(together) < 0.93
    assert np.std(together) < 0.85 * np.std(alone)
