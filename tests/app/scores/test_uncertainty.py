"""Uncertainty against closed forms, enumeration and scikit-learn; every check also sees a version that is wrong."""

import json
import re
from collections.abc import Callable
from itertools import permutations, product
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks.calibration import rejection_plot, reliability_diagram
from zopog_ref.app.scores import uncertainty
from zopog_ref.app.scores.uncertainty import (
    RejectionCurve,
    Reliability,
    auroc,
    brier,
    ensemble_metrics,
    entropy,
    expected_entropy,
    mutual_information,
    negative_log_likelihood,
    predictive,
    rejection_curve,
    reliability,
    uncertainty_metrics,
)

Check = Callable[..., None]


def random_problem(seed: int, rows: int = 60, classes: int = 4, prompts: int = 5):
    rng = np.random.default_rng(seed)
    each = rng.dirichlet(np.full(classes, 0.6), (prompts, rows))
    return each, rng.dirichlet(np.ones(prompts)), rng.integers(classes, size=rows)


def fails(check: Check, *arguments: object) -> bool:
    try:
        check(*arguments)
    except AssertionError:
        return True
    return False


# -- the predictive and its entropies ------------------------------------------------------------------------------


def test_mean_and_votes_by_loops() -> None:
    each, weights, _ = random_problem(0)
    mean, votes = np.zeros(each.shape[1:]), np.zeros(each.shape[1:])
    for m, r in product(range(len(each)), range(each.shape[1])):
        mean[r] += weights[m] * each[m, r]
        votes[r, int(np.argmax(each[m, r]))] += weights[m]
    np.testing.assert_allclose(predictive(each, 7 * weights), mean, atol=1e-14)  # weights need not sum to 1
    np.testing.assert_allclose(predictive(each, weights, "votes"), votes, atol=1e-12)
    np.testing.assert_allclose(predictive(each), each.mean(axis=0), atol=1e-14)


def test_equal_votes_are_equal_and_the_first_class_wins() -> None:
    each = np.eye(3)[[0, 1, 2] * 3 + [2, 1]][:, None, :]  # 3, 4 and 4 votes, not in order of the classes
    votes = predictive(each, kind="votes")
    assert votes[0, 1] == votes[0, 2]
    assert votes.argmax() == 1
    shared = predictive([[[0.4, 0.4, 0.2]]], kind="votes")
    assert shared.tolist() == [[1.0, 0.0, 0.0]]
    silent = predictive(np.full((1, 1, 2), 0.5), kind="votes")  # not answered: no class is the first
    assert silent.tolist() == [[0.5, 0.5]]


def check_entropy(entropy: Callable) -> None:
    for classes in (2, 3, 10):
        assert entropy(np.full((1, classes), 1 / classes))[0] == pytest.approx(np.log(classes), abs=1e-14)
    assert entropy(np.array([[0.0, 1.0, 0.0]])).tolist() == [0.0]
    assert str(entropy(np.array([1.0, 0.0]))) == "0.0"  # and not -0.0
    assert entropy(np.array([0.5, 0.25, 0.25])) == pytest.approx(1.5 * np.log(2), abs=1e-15)


def test_entropy_in_closed_form() -> None:
    check_entropy(entropy)
    assert fails(check_entropy, lambda p: entropy(p) / np.log(2))  # bits
    with np.errstate(invalid="ignore", divide="ignore"):
        assert fails(check_entropy, lambda p: -(p * np.log(p)).sum(-1))  # 0 log 0 is NaN


def check_mutual_information(information: Callable) -> None:
    each, weights, _ = random_problem(1)
    w, mean = weights[:, None, None], np.einsum("m,mrc->rc", weights, each)
    divergence = (w * each * (np.log(each) - np.log(mean))).sum(axis=(0, 2))  # I = E KL(p_m || mean)
    np.testing.assert_allclose(information(each, weights), divergence, atol=1e-13)
    two = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert information(two, None)[0] == pytest.approx(np.log(2), abs=1e-15)  # all of the entropy is disagreement
    same = np.repeat(each[:1], 4, axis=0)
    assert (information(same, None) >= 0).all()
    np.testing.assert_allclose(information(same, None), 0, atol=1e-14)


def test_mutual_information_is_a_mean_divergence() -> None:
    check_mutual_information(mutual_information)
    assert fails(check_mutual_information, lambda p, w: entropy(predictive(p)) - expected_entropy(p))  # no weights
    assert fails(check_mutual_information, lambda p, w: entropy(predictive(p, w)) - entropy(p[0]))


# -- scoring rules -------------------------------------------------------------------------------------------------


def check_scores(nll: Callable, brier: Callable) -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    labels = np.array([0, 1, 2])
    expected = [-np.log(0.7), 0.0, -np.log(np.finfo(np.float64).eps)]
    np.testing.assert_allclose(nll(p, labels), expected, rtol=1e-14)
    np.testing.assert_allclose(brier(p, labels), [0.09 + 0.04 + 0.01, 0.0, 2.0], atol=1e-15)


def test_scores_by_hand() -> None:
    check_scores(negative_log_likelihood, brier)
    with np.errstate(divide="ignore"):
        assert fails(check_scores, lambda p, y: -np.log(p[np.arange(len(y)), y]), brier)  # infinite
    assert fails(check_scores, negative_log_likelihood, lambda p, y: (1 - p[np.arange(len(y)), y]) ** 2)


def test_both_scores_are_proper() -> None:
    """Their expectation over labels drawn from q is least at p = q."""
    grid = np.array([(a, b, 10 - a - b) for a in range(1, 9) for b in range(1, 10 - a)]) / 10
    for score in (negative_log_likelihood, brier):
        for q in grid:
            expected = [q @ score(np.tile(p, (3, 1)), np.arange(3)) for p in grid]
            assert grid[int(np.argmin(expected))].tolist() == q.tolist()


def test_scores_are_scikit_learn_s() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="the reference is scikit-learn (extra sklearn)")
    for seed in range(5):
        each, weights, labels = random_problem(seed, prompts=8)
        for kind in ("mean", "votes"):  # votes have zeros, and sums that are off by 1e-13
            p = predictive(each, weights, kind)
            p = p / p.sum(axis=1, keepdims=True)
            classes = list(range(4))
            reference = metrics.log_loss(labels, p, labels=classes)
            assert negative_log_likelihood(p, labels).mean() == pytest.approx(reference, rel=1e-9)
            reference = metrics.brier_score_loss(labels, p, labels=classes, scale_by_half=False)
            assert brier(p, labels).mean() == pytest.approx(reference, rel=1e-12)


# -- calibration ---------------------------------------------------------------------------------------------------


def check_bins(reliability: Callable) -> None:
    """Ten prompts give confidences that lie on the edges of ten bins: 7 of 10 votes belong to (0.6, 0.7]."""
    for votes in range(5, 11):
        p = np.array([[votes / 10, 1 - votes / 10]])
        assert np.flatnonzero(reliability(p, [0]).rows).tolist() == [votes - 1]
    thirds = np.full((1, 3), 1 / 3)
    assert np.flatnonzero(reliability(thirds, [0]).rows).tolist() == [3]
    added = np.array([[sum([0.1] * 8), 1 - sum([0.1] * 8)]])  # 0.7999999999999999
    assert np.flatnonzero(reliability(added, [0]).rows).tolist() == [7]
    added = np.array([[sum([0.1] * 3) * 2, 1 - sum([0.1] * 3) * 2]])  # 0.6000000000000001
    assert np.flatnonzero(reliability(added, [0]).rows).tolist() == [5]


def binned(place: Callable) -> Callable:
    def wrong(p, labels, bins: int = 10) -> Reliability:
        rows = np.bincount(place(np.max(p, axis=1)), minlength=bins)
        return Reliability(rows, np.zeros(bins), np.zeros(bins))

    return wrong


def test_bins_are_closed_on_the_right() -> None:
    check_bins(reliability)
    assert fails(check_bins, binned(lambda c: np.minimum((c * 10).astype(int), 9)))  # closed on the left
    assert fails(check_bins, binned(lambda c: np.ceil(c * 10).astype(int) - 1))  # 0.7 * 10 = 7.000000000000001


def check_ece(ece: Callable) -> None:
    sure = np.array([[0.9, 0.1]] * 10)
    assert ece(sure, [0] * 9 + [1]) == pytest.approx(0, abs=1e-15)  # as good as it claims
    assert ece(sure, [1] * 10) == pytest.approx(0.9)
    assert ece(np.array([[1.0, 0.0]]), [0]) == 0.0
    # 4 rows at 0.75 with 1 right, 6 at 0.95 with all right: 0.4 * 0.5 + 0.6 * 0.05
    p = np.array([[0.75, 0.25]] * 4 + [[0.95, 0.05]] * 6)
    assert ece(p, [0, 1, 1, 1] + [0] * 6) == pytest.approx(0.4 * 0.5 + 0.6 * 0.05)


def test_calibration_error_by_hand() -> None:
    check_ece(lambda p, y: reliability(p, y).ece)

    def unweighted(p, y) -> float:
        table = reliability(p, y)
        return float(np.nanmean(np.abs(table.accuracy - table.confidence)))

    assert fails(check_ece, unweighted)
    assert fails(check_ece, lambda p, y: abs(np.mean(np.max(p, 1)) - np.mean(np.argmax(p, 1) == y)))  # one bin


def test_bins_are_scikit_learn_s() -> None:
    calibration = pytest.importorskip("sklearn.calibration", reason="the reference is scikit-learn (extra sklearn)")
    for seed in range(5):
        each, weights, labels = random_problem(seed, rows=200)
        p = predictive(each, weights)
        accuracy, confidence = calibration.calibration_curve(p.argmax(1) == labels, p.max(1), n_bins=10)
        table = reliability(p, labels)
        filled = table.rows > 0
        assert not filled[0]  # of four classes, one has at least 1/4
        np.testing.assert_allclose(table.accuracy[filled], accuracy, atol=1e-14)
        np.testing.assert_allclose(table.confidence[filled], confidence, atol=1e-14)
        assert np.isnan(table.accuracy[~filled]).all()


def test_a_table_as_json() -> None:
    table = reliability(np.array([[0.75, 0.25]]), [0], bins=2)
    saved = json.loads(json.dumps(table.to_json(), allow_nan=False))
    assert saved == {"rows": [0, 1], "confidence": [None, 0.75], "accuracy": [None, 1.0]}
    assert table.ece == 0.25


# -- errors, rejection, detection ----------------------------------------------------------------------------------


def check_auroc(auroc: Callable) -> None:
    rng = np.random.default_rng(2)
    for size in (1, 3, 20):
        low, high = rng.integers(5, size=size).astype(float), rng.integers(1, 6, size=size + 2).astype(float)
        pairs = [(h > l) + (h == l) / 2 for l, h in product(low, high)]  # noqa: E741
        assert auroc(low, high) == pytest.approx(np.mean(pairs), abs=1e-15)
    assert auroc([1.0], [1.0]) == 0.5
    assert auroc([0.0, 1.0], [2.0]) == 1.0
    assert np.isnan(auroc([], [1.0]))


def ranks_without_ties(low, high) -> float:
    low, high = np.asarray(low), np.asarray(high)
    if not low.size or not high.size:
        return float("nan")
    ranks = np.argsort(np.argsort(np.concatenate([low, high]), kind="stable"), kind="stable") + 1
    return float((ranks[low.size :].sum() - high.size * (high.size + 1) / 2) / (low.size * high.size))


def test_auroc_by_enumerating_pairs() -> None:
    check_auroc(auroc)
    assert fails(check_auroc, ranks_without_ties)
    assert fails(check_auroc, lambda low, high: 1 - auroc(low, high))


def test_auroc_is_scikit_learn_s() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="the reference is scikit-learn (extra sklearn)")
    rng = np.random.default_rng(3)
    for _ in range(20):
        values, wrong = rng.integers(8, size=50) / 8, rng.integers(2, size=50).astype(bool)
        assert auroc(values[~wrong], values[wrong]) == pytest.approx(metrics.roc_auc_score(wrong, values), abs=1e-14)


def check_rejection(curve: Callable) -> None:
    """The mean over all orders of the rows that keep the uncertainties sorted."""
    uncertainty, correct = np.array([2, 1, 1, 3, 1, 2.0]), np.array([1, 1, 0, 0, 0, 1])
    orders = [o for o in permutations(range(6)) if (np.diff(uncertainty[list(o)]) >= 0).all()]
    assert len(orders) == 6 * 2
    every = [np.cumsum(correct[list(o)]) / np.arange(1, 7) for o in orders]
    np.testing.assert_allclose(curve(uncertainty, correct).accuracy, np.mean(every, axis=0), atol=1e-15)


def first_come(uncertainty, correct) -> RejectionCurve:
    order, kept = np.argsort(uncertainty, kind="stable"), np.arange(1, len(correct) + 1)
    return RejectionCurve(kept / len(kept), np.cumsum(np.asarray(correct)[order]) / kept)


def test_rejection_is_the_mean_over_orders_of_ties() -> None:
    check_rejection(rejection_curve)
    assert fails(check_rejection, first_come)
    assert fails(check_rejection, lambda u, c: rejection_curve(-np.asarray(u), c))


def test_rejection_at_its_ends() -> None:
    rng = np.random.default_rng(4)
    correct = rng.integers(2, size=40)
    flat = rejection_curve(np.zeros(40), correct)  # no order at all: the plain accuracy everywhere
    np.testing.assert_allclose(flat.accuracy, correct.mean(), atol=1e-14)
    perfect = rejection_curve(1 - correct, correct)
    right, kept = int(correct.sum()), np.arange(1, 41)
    np.testing.assert_allclose(perfect.accuracy, np.minimum(1, right / kept), atol=1e-14)
    assert perfect.area > flat.area > rejection_curve(correct, correct).area
    assert perfect.coverage[-1] == 1
    assert perfect.accuracy[-1] == pytest.approx(correct.mean())


# -- together ------------------------------------------------------------------------------------------------------


def test_metrics_are_those_of_their_functions() -> None:
    each, weights, labels = random_problem(5)
    found = ensemble_metrics(each, weights, labels)
    json.dumps(found, allow_nan=False)
    for kind in ("mean", "votes"):
        p = predictive(each, weights, kind)
        right, unsure = p.argmax(1) == labels, entropy(p).round(12)
        assert found[kind]["ece"] == reliability(p, labels).ece
        assert found[kind]["nll"] == pytest.approx(negative_log_likelihood(p, labels).mean())
        assert found[kind]["brier"] == pytest.approx(brier(p, labels).mean())
        assert found[kind]["auroc_errors"] == auroc(unsure[right], unsure[~right])
        assert found[kind]["rejection_area"] == rejection_curve(unsure, right).area
        assert found[kind]["rejection"]["coverage"][-1] == 1
        assert len(found[kind]["rejection"]["accuracy"]) == 20
    assert found["mean"]["nll_clipped"] == 0
    assert found["votes"]["nll_clipped"] == int((predictive(each, weights, "votes")[range(60), labels] == 0).sum()) > 0
    assert found["mean"]["mutual_information"] == pytest.approx(mutual_information(each, weights).mean())
    assert list(ensemble_metrics(each[:1], None, labels)) == ["mean"]


def test_what_is_not_defined_is_none() -> None:
    found = uncertainty_metrics(np.array([[0.9, 0.1], [0.8, 0.2]]), [0, 0])  # nothing is wrong
    assert found["auroc_errors"] is None
    assert found["rejection_area"] == 1.0
    assert found["reliability"]["accuracy"][0] is None
    assert found["rejection"]["coverage"] == [0.5, 1.0]


def test_permuting_classes_changes_nothing() -> None:
    """Also not the ties among votes, whose entropies are sums in another order."""
    each, _, labels = random_problem(6, rows=300, prompts=7)
    order = np.array([2, 0, 3, 1])
    p = predictive(each, kind="votes")
    keep = np.sort(p, axis=1)[:, -1] > np.sort(p, axis=1)[:, -2]  # where argmax does not depend on the order
    a = uncertainty_metrics(p[keep], labels[keep])
    b = uncertainty_metrics(p[keep][:, order], np.argsort(order)[labels[keep]])
    assert a["auroc_errors"] == b["auroc_errors"]
    assert a["rejection"] == b["rejection"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: brier([[0.5, 0.6]], [0]), "sum to 1"),
        (lambda: brier([[-0.5, 1.5]], [0]), "must be >= 0"),
        (lambda: brier([[np.nan, 1.0]], [0]), "sum to 1"),
        (lambda: brier([[0.5, 0.5]], [0, 1]), "a label for every row"),
        (lambda: brier([[0.5, 0.5]], [2]), "from 0 to 1"),
        (lambda: brier([[0.5, 0.5]], ["a"]), "class numbers"),
        (lambda: brier(np.zeros((0, 2)), []), "a label for every row"),
        (lambda: reliability([[0.5, 0.5]], [0], bins=0), "at least 1"),
        (lambda: predictive([[0.5, 0.5]]), "(prompts, rows, C)"),
        (lambda: predictive([[[0.5, 0.5]]], [1, 2]), "expected 1 weights"),
        (lambda: predictive([[[0.5, 0.5]]], [0.0]), "positive sum"),
        (lambda: predictive([[[0.5, 0.5]]], kind="median"), "choose mean or votes"),
        (lambda: rejection_curve([1.0], [1, 0]), "one uncertainty for every row"),
        (lambda: rejection_plot({}), "no curve"),
    ],
)
def test_unusable_values_are_named(call: Callable, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        call()


# -- plots ---------------------------------------------------------------------------------------------------------


def circles(plot: str) -> list[tuple[float, float, float]]:
    svg = ElementTree.fromstring(f"<figure>{plot}</figure>")
    return [tuple(float(c.get(name)) for name in ("cx", "cy", "r")) for c in svg.iter("circle")]


def test_dots_stand_where_the_bins_are() -> None:
    p = np.array([[0.75, 0.25]] * 4 + [[0.95, 0.05]] * 6)
    table = reliability(p, [0, 1, 1, 1] + [0] * 6)
    plot = reliability_diagram({"one <prompt>": table}).svg
    (x1, y1, r1), (x2, y2, r2) = circles(plot)
    width, height = 460 - 62 - 14, 330 - 14 - 46
    assert (x1, y1) == pytest.approx((62 + 0.75 * width, 330 - 46 - 0.25 * height), abs=0.06)
    assert (x2, y2) == pytest.approx((62 + 0.95 * width, 14), abs=0.06)
    assert r2 > r1
    assert "one &lt;prompt&gt;, ECE 0.230" in plot
    assert "nan" not in plot


def test_curves_are_drawn_and_named() -> None:
    curves = {
        name: rejection_curve(np.arange(500.0), np.arange(500) < right) for name, right in (("a", 400), ("b", 300))
    }
    plot = rejection_plot(curves).svg
    svg = ElementTree.fromstring(f"<figure>{plot}</figure>")
    paths = [path.get("d") for path in svg.iter("path") if path.get("class", "").startswith("curve")]
    assert [path.count("L") for path in paths] == [199, 199]
    ends = [tuple(map(float, path.rpartition("L")[2].split())) for path in paths]
    assert ends[0][1] < ends[1][1]  # the more accurate one ends higher
    starts = [float(path[1:].split()[0]) for path in paths]
    assert starts == pytest.approx([62 + 0.02 * (460 - 62 - 14)] * 2, abs=0.06)  # 10 rows of 500
    assert ends[0] == pytest.approx(
        (460 - 14, 14 + (1 - 0.8) / (1 - 0.5) * (330 - 46 - 14)), abs=0.06
    )  # from 50% to 100%
    assert f"a, area {curves['a'].area:.3f}" in plot


def test_a_probability_of_zero_costs_what_scikit_learn_has_it_cost() -> None:
    assert uncertainty.SMALLEST == 2.0**-52
