"""[R3] to [R6], [R8], [R9]: closed forms against n refits, scikit-learn and fine grids; each with a twin that is broken."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from zopog_ref.linear_fits import (
    PENALTIES,
    kernel_ridge,
    left_out_logistic,
    left_out_of_smoother,
    log_softmax,
    logistic,
    members,
    penalised_loss,
    permutation_p_value,
    smoothed,
    softmax,
    temperature,
)
from zopog_ref.randomness import Purpose, permutation


def drawn(
    n: int = 24, width: int = 40, classes: int = 3, seed: int = 0, signal: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Features with mean 0 and mean square norm 1, and labels that they half tell."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = rng.normal(size=(n, width)) + signal * rng.normal(size=(classes, width))[y]
    x -= x.mean(axis=0)
    return x / np.sqrt((x**2).sum(axis=1).mean()), y


GROUPS = [None, np.arange(24) // 2, np.array(["a", "b", "c", "c", "d", "d"] * 4), np.arange(24) % 5]


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("penalty", [0.05, 1.0, 20.0])
def test_closed_form_leave_one_out_is_n_refits_r4(penalty: float, groups: np.ndarray | None) -> None:
    x, y = drawn()
    Y = np.eye(3)[y]
    fit = kernel_ridge(x @ x.T, Y, penalty, groups)
    for G in members(groups, len(y)):
        rest = np.setdiff1d(np.arange(len(y)), G)
        refit = Ridge(alpha=penalty, fit_intercept=True, solver="svd").fit(x[rest], Y[rest])
        np.testing.assert_allclose(fit.left_out[G], refit.predict(x[G]), rtol=0, atol=1e-10)
    assert fit.press == pytest.approx(((fit.left_out - Y) ** 2).sum(axis=1).mean(), rel=1e-14)


@pytest.mark.parametrize("penalty", [0.05, 1.0, 20.0])
def test_the_fit_is_scikit_learn_s_ridge_r3(penalty: float) -> None:
    x, y = drawn()
    fit, new = kernel_ridge(x @ x.T, np.eye(3)[y], penalty), drawn(seed=3)[0]
    peer = Ridge(alpha=penalty, solver="svd").fit(x, np.eye(3)[y])
    np.testing.assert_allclose(fit.mean + new @ x.T @ fit.dual, peer.predict(new), rtol=0, atol=1e-11)


def test_a_leave_one_out_that_forgets_the_leverage_is_caught() -> None:
    x, y = drawn()
    Y, K = np.eye(3)[y], x @ x.T
    fit = kernel_ridge(K, Y, 1.0)
    hat = 1 / 24 + K @ np.linalg.inv(K + np.eye(24))
    np.testing.assert_allclose(left_out_of_smoother(hat, Y, members(None, 24)), fit.left_out, atol=1e-12)
    assert np.abs(hat @ Y - fit.left_out).max() > 0.1  # (1 - H_ii) forgotten, and the row's own target left in
    without_mean = hat - 1 / 24
    assert np.abs(left_out_of_smoother(without_mean, Y, members(None, 24)) - fit.left_out).max() > 1e-2


def test_copies_look_perfect_row_by_row_and_not_by_group() -> None:
    """Every text twice, labels at random: left out alone, the copy gives the answer away."""
    rng = np.random.default_rng(1)
    x = np.repeat(rng.normal(size=(20, 60)), 2, axis=0)
    x -= x.mean(axis=0)
    x /= np.sqrt((x**2).sum(axis=1).mean())
    y = np.repeat(rng.permutation(np.arange(20) % 2), 2)
    alone = kernel_ridge(x @ x.T, np.eye(2)[y], 0.1).left_out
    grouped = kernel_ridge(x @ x.T, np.eye(2)[y], 0.1, groups=np.arange(40) // 2).left_out
    assert (alone.argmax(axis=1) == y).mean() == 1.0
    assert (grouped.argmax(axis=1) == y).mean() < 0.7


def test_the_penalty_is_1_for_few_rows_and_has_the_least_press_from_100_r5() -> None:
    x, y = drawn(n=99)
    assert kernel_ridge(x @ x.T, np.eye(3)[y]).penalty == 1.0
    x, y = drawn(n=102)
    chosen = kernel_ridge(x @ x.T, np.eye(3)[y])
    press = {value: kernel_ridge(x @ x.T, np.eye(3)[y], value).press for value in PENALTIES}
    assert chosen.penalty == min(press, key=press.__getitem__)
    assert len(set(press.values())) == 13


@pytest.mark.parametrize("penalty", [0.3, 3.0])
def test_logistic_is_scikit_learn_s_when_pulled_to_zero_r8(penalty: float) -> None:
    x, y = drawn()
    theta = logistic(x, np.eye(3)[y], penalty, np.zeros((40, 3)))
    peer = LogisticRegression(C=1 / penalty, fit_intercept=False, tol=1e-12, max_iter=10_000).fit(x, y)
    np.testing.assert_allclose(softmax(x @ theta), peer.predict_proba(x), rtol=0, atol=1e-6)


def pulled(classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    y = np.arange(24) % classes
    x = np.column_stack([rng.normal(size=(24, classes)) + 2 * np.eye(classes)[y], np.ones(24)])
    return x, np.eye(classes)[y], np.vstack([np.eye(classes), np.zeros((1, classes))])


def test_the_gradient_vanishes_at_the_fit_and_every_other_map_is_worse_r8() -> None:
    x, t, prior = pulled()
    theta = logistic(x, t, 2.0, prior)
    least = penalised_loss(theta, x, t, 2.0, prior)
    rng = np.random.default_rng(0)
    for direction in rng.normal(size=(20, *theta.shape)):
        slope = penalised_loss(theta + 1e-5 * direction, x, t, 2.0, prior)
        slope = (slope - penalised_loss(theta - 1e-5 * direction, x, t, 2.0, prior)) / 2e-5
        assert abs(slope) < 1e-6
        assert penalised_loss(theta + 0.1 * direction, x, t, 2.0, prior) > least


@pytest.mark.parametrize("penalty", [1e-3, 0.1, 3.0])
def test_a_w_step_never_raises_the_regularised_batch_loss_r8(penalty: float) -> None:
    """From any start: what three-block descent asks of its third block."""
    x, t, prior = pulled()
    rng = np.random.default_rng(3)
    for scale in (0.0, 1.0, 30.0):
        start = prior + scale * rng.normal(size=prior.shape)
        theta = logistic(x, t, penalty, prior, start)
        assert penalised_loss(theta, x, t, penalty, prior) <= penalised_loss(start, x, t, penalty, prior)
        np.testing.assert_allclose(theta, logistic(x, t, penalty, prior), rtol=0, atol=1e-7)


def test_a_full_newton_step_would_raise_it() -> None:
    """Why the steps are damped: the undamped one is what a broken twin would take."""
    x, t, prior = pulled()
    start = prior + 30 * np.random.default_rng(3).normal(size=prior.shape)
    p = softmax(x @ start)
    curvature = np.einsum("nf,ng,ncd->fcgd", x, x, p[:, :, None] * (np.eye(3) - p[:, None, :])).reshape(12, 12)
    gradient = x.T @ (p - t) + 1e-3 * (start - prior)
    full = start - np.linalg.solve(curvature + 1e-3 * np.eye(12), gradient.ravel()).reshape(4, 3)
    assert penalised_loss(full, x, t, 1e-3, prior) > penalised_loss(start, x, t, 1e-3, prior)


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("penalty", [0.05, 3.0])
def test_left_out_logistic_is_n_refits(penalty: float, groups: np.ndarray | None) -> None:
    x, t, prior = pulled()
    theta = logistic(x, t, penalty, prior)
    left_out = left_out_logistic(theta, x, t, penalty, prior, members(groups, 24))
    for G in members(groups, 24):
        rest = np.setdiff1d(np.arange(24), G)
        np.testing.assert_allclose(left_out[G], x[G] @ logistic(x[rest], t[rest], penalty, prior), rtol=0, atol=1e-5)
    assert np.abs(left_out - x @ theta).max() > 0.05


def test_the_temperature_has_the_least_loss_of_a_fine_grid_r6() -> None:
    rng = np.random.default_rng(2)
    f, targets = rng.normal(size=(30, 4)), smoothed(np.arange(30) % 4, 4)
    f[np.arange(30), np.arange(30) % 4] += 1.0
    grid = np.exp(np.linspace(-6.9, 6.9, 100_001))
    losses = [-(targets * log_softmax(f / T)).sum() for T in grid]
    assert temperature(f, targets) == pytest.approx(grid[int(np.argmin(losses))], rel=3e-4)


def test_a_temperature_fitted_on_training_scores_is_too_sure() -> None:
    """The broken twin's probabilities cost more on rows that neither has seen."""
    x, y = drawn(n=600, width=200, seed=4, signal=0.12)
    train, test = slice(0, 48), slice(48, None)
    centre = x[train].mean(axis=0)
    x = (x - centre) / np.sqrt(((x[train] - centre) ** 2).sum(axis=1).mean())
    fit = kernel_ridge(x[train] @ x[train].T, np.eye(3)[y[train]], 0.1)
    trained, new = (fit.mean + x[part] @ x[train].T @ fit.dual for part in (train, test))
    honest, broken = (temperature(f, smoothed(y[train], 3)) for f in (fit.left_out, trained))
    losses = [-log_softmax(new / T)[np.arange(len(new)), y[test]].mean() for T in (honest, broken)]
    assert broken < 0.6 * honest
    assert losses[0] < losses[1] - 0.05


def test_temperature_of_scores_that_say_nothing_or_the_contrary() -> None:
    targets = smoothed(np.arange(6) % 2, 2)
    assert temperature(np.ones((6, 2)), targets) == 1.0
    assert temperature(-np.eye(2)[np.arange(6) % 2], targets) == pytest.approx(1e3)  # as flat as it gets
    assert temperature(np.eye(2)[np.arange(6) % 2], targets) < 1  # the smoothing keeps it above the sharpest
    assert temperature(np.eye(2)[np.arange(6) % 2], targets) > 0.1


def test_smoothed_targets_are_jeffreys_r6() -> None:
    np.testing.assert_allclose(smoothed([0, 1, 1], 2), np.eye(2)[[0, 1, 1]] * 0.75 + 0.125, rtol=1e-15)
    np.testing.assert_allclose(smoothed(np.arange(96) % 6, 6).sum(axis=1), 1, rtol=1e-14)


def test_the_p_value_is_that_of_refits_on_shuffled_labels_r9() -> None:
    x, y = drawn(n=12)
    K = x @ x.T
    press = [kernel_ridge(K, np.eye(3)[y], 1.0).press]
    press += [kernel_ridge(K, np.eye(3)[y[permutation(5, d, Purpose.LABEL_SHUFFLE, 12)]], 1.0).press for d in range(49)]
    by_hand = sum(value <= press[0] * (1 + 1e-9) for value in press) / 50
    assert permutation_p_value(K, y, 3, seed=5, draws=49) == pytest.approx(by_hand)


def test_the_test_keeps_its_level_and_copies_do_not_break_it_r9() -> None:
    """200 data sets where nothing is there, every text three times: p <= 0.1 in about 20, not in nearly all."""
    small, small_ungrouped = 0, 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        x = np.repeat(rng.normal(size=(12, 30)), 3, axis=0)
        x -= x.mean(axis=0)
        y, groups = np.repeat(rng.permutation(np.arange(12) % 2), 3), np.arange(36) // 3
        small += permutation_p_value(x @ x.T / 30, y, 2, groups, draws=39) <= 0.1
        small_ungrouped += permutation_p_value(x @ x.T / 30, y, 2, None, draws=39) <= 0.1
    assert 8 <= small <= 34  # 20 plus or minus 3.3 standard deviations
    assert small_ungrouped > 150


def test_what_is_there_is_found_r9() -> None:
    x, y = drawn(n=30)
    assert permutation_p_value(x @ x.T, y, 3) == 0.001
    assert permutation_p_value(x[:2] @ x[:2].T, y[:2], 3) == 1.0  # two rows: no shuffle says otherwise


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": np.eye(5)}, r"kernel \(n, n\)"),
        ({"targets": np.full((24, 3), np.nan)}, "must be finite"),
        ({"penalty": 0.0}, "must be positive"),
        ({"penalty": np.inf}, "must be positive"),
        ({"groups": np.zeros(24)}, "two different texts"),
        ({"groups": np.zeros(23)}, r"one entry a row, \(24,\)"),
        ({"targets": np.zeros((0, 3)), "kernel": np.zeros((0, 0))}, "targets"),
    ],
)
def test_errors_say_what_was_expected(change: dict[str, object], message: str) -> None:
    x, y = drawn()
    arguments = {"kernel": x @ x.T, "targets": np.eye(3)[y]} | change
    with pytest.raises(ValueError, match=message):
        kernel_ridge(**arguments)  # type: ignore[arg-type]


def test_one_target_that_is_not_finite_is_enough() -> None:
    x, y = drawn()
    Y = np.eye(3)[y]
    Y[5, 1] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        kernel_ridge(x @ x.T, Y)
    K = x @ x.T
    K[3, 4] = np.inf
    with pytest.raises(ValueError, match="must be finite"):
        kernel_ridge(K, np.eye(3)[y])


def test_a_hundred_rows_are_enough_to_choose_the_penalty_r5() -> None:
    """Labels that nothing tells: the least PRESS is that of a heavy penalty, which 99 rows do not ask for."""
    x, y = drawn(n=100, signal=0.0)
    assert kernel_ridge(x @ x.T, np.eye(3)[y]).penalty > 1
    assert kernel_ridge(x[:99] @ x[:99].T, np.eye(3)[y[:99]]).penalty == 1


def test_the_p_value_does_not_see_where_the_features_stand_r9() -> None:
    x, y = drawn(signal=0.05)
    here, there = (permutation_p_value(z @ z.T, y, 3, draws=99) for z in (x, x + 1.0))
    assert here == there
    assert 0.05 < here < 1


def test_the_labels_are_shuffled_by_their_own_stream_r9() -> None:
    """Labels that nothing tells: p hangs on the shuffles, and these are LABEL_SHUFFLE's."""
    x, y = drawn(signal=0.0)
    K, Y, n = x @ x.T, np.eye(3)[y], len(y)

    def press(targets: np.ndarray) -> float:
        return kernel_ridge(K, targets, 1.0).press

    for seed in (0, 1, 2):
        below = [press(Y[permutation(seed, k, Purpose.LABEL_SHUFFLE, n)]) <= press(Y) * (1 + 1e-12) for k in range(99)]
        assert permutation_p_value(K, y, 3, None, seed, 99) == (1 + sum(below)) / 100
