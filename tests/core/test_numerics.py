"""Numbers at the edge: rounding that hides the gradient, overflow, shapes, arguments written to, seeds, empty sizes."""

import dataclasses
import warnings

import numpy as np
import pytest

from tests.core import toy
from zopog_ref import (
    FunctionObjective,
    Ledger,
    ModelObjective,
    RoundingWarning,
    Settings,
    ZOPoG,
    perturb,
    policy_gradient,
    probabilities,
    run,
    two_point_gradient,
)  # fmt: skip
from zopog_ref.methods.bdpl import BDPL
from zopog_ref.methods.sspt import SSPT
from zopog_ref.norms import norm
from zopog_ref.randomness import bits, normal
from zopog_ref.rounding import DOUBLE, SINGLE, differences_are_lost, roundoff_of
from zopog_ref.search import mini_batch, step_price

SHAPE = (toy.N_POSITIONS, toy.N_CANDIDATES, toy.DIM)

# -- rounding --------------------------------------------------------------------------------------------------------

CENTRE = np.random.default_rng(0).normal(size=50)


def quadratic(points: np.ndarray) -> np.ndarray:
    return 1 + 0.5 * ((points - CENTRE) ** 2).sum(axis=-1)


def share_of_the_gradient(mu: float, dtype: type) -> float:
    """The estimate's part along the exact gradient at 0, over that of exact differences with the same directions."""
    u = np.random.default_rng(1).normal(size=(2000, 50))
    plus, minus = (quadratic(points).astype(dtype) for points in perturb(np.zeros(50), u, mu))
    estimate, exact = two_point_gradient(plus, minus, u, mu), u.T @ (u @ -CENTRE) / len(u)
    return float(estimate @ CENTRE / (exact @ CENTRE))


def test_a_mu_that_drowns_in_rounding_is_warned_of() -> None:
    with pytest.warns(RoundingWarning, match=r"mu = 1e-08"):
        assert abs(share_of_the_gradient(1e-8, np.float32) - 1) > 0.5  # rounding is what it sees
    with pytest.warns(RoundingWarning):
        share_of_the_gradient(1e-7, np.float32)
    with pytest.warns(RoundingWarning):
        share_of_the_gradient(1e-15, np.float64)
    with pytest.warns(RoundingWarning):
        share_of_the_gradient(1e-3, np.float16)


@pytest.mark.parametrize(
    ("mu", "dtype"), [(1e-5, np.float32), (0.01, np.float32), (1e-8, np.float64), (0.1, np.float16)]
)
def test_a_mu_that_does_not_is_not(mu: float, dtype: type) -> None:
    assert share_of_the_gradient(mu, dtype) == pytest.approx(1, abs=0.03)  # and a warning would be an error here


def test_float32_losses_are_known_by_their_values() -> None:
    """An objective's losses are float64 arrays, whatever the function returned."""
    values = np.random.default_rng(2).random(9)
    assert roundoff_of(values) == DOUBLE
    assert roundoff_of(values.astype(np.float32)) == roundoff_of(values.astype(np.float32).astype(np.float64)) == SINGLE
    assert roundoff_of(values.astype(np.float16)) == 2.0**-11
    assert roundoff_of([1e300, 0.5]) == DOUBLE  # 1e300 is no float32 number
    with pytest.warns(RoundingWarning):
        two_point_gradient([1.0, 1.0], [1 + 2.0**-23, 1.0], np.ones((2, 3)), 1e-7)
    two_point_gradient([1.0, 1.0], [1 + 2.0**-23, 1.1], np.ones((2, 3)), 1e-7)  # 1.1 is no float32 number
    two_point_gradient([1.0, 1.0], [1 + 2.0**-23, 1.0], np.ones((2, 3)), 1e-7, DOUBLE)


@pytest.mark.parametrize(("factor", "lost"), [(7.99, True), (8.01, False)])
def test_differences_of_eight_rounding_errors_are_clear(factor: float, lost: bool) -> None:
    """A loss l that is off by up to r |l| is off by r |l| / sqrt(3) in the mean square."""
    r = 2.0**-24
    difference = factor * r * np.sqrt(2 * 5**2 / 3)  # two losses near 5
    plus, minus = np.full(4, 5.0), np.full(4, 5.0 + difference)
    assert differences_are_lost(plus, minus, 1e-3, r) == differences_are_lost(minus, plus, 1e-3, r) == lost
    assert not differences_are_lost(plus, minus, 2.0**-8, r)  # the cube root: the losses are flat
    assert differences_are_lost(plus, minus, 2.0**-8 * 0.999, r) == lost


def test_equal_losses_are_lost_with_a_tiny_mu_only() -> None:
    same, r = np.full(4, 0.1), 2.0**-24
    assert differences_are_lost(same, same, 2.0**-12 * 0.999, r)
    assert not differences_are_lost(same, same, 2.0**-12, r)  # the square root: they do not depend on z
    assert not differences_are_lost(np.zeros(4), np.zeros(4), 1e-12, r)


class Float32Oracle:
    """Logits (K, B, 2) = +-(0.3 + z_1 + z_2) in float32."""

    n_positions, n_candidates, dim, n_classes, lengths = 2, 3, 2, 2, np.full(6, 4)

    def logits(self, tokens, z, examples):
        z = np.asarray(z if z.ndim == 3 else np.repeat(z[:, None], len(examples), axis=1), np.float32)
        margin = np.float32(0.3) + z.sum(axis=-1)
        return np.stack((margin, -margin), axis=-1)


@pytest.mark.parametrize("directions", ["per_example", "shared"])
@pytest.mark.parametrize("kind", ["model", "function"])
def test_a_step_knows_where_its_losses_come_from(kind: str, directions: str) -> None:
    """A model's losses are float64 numbers made of float32 logits, and those of shared directions are means."""

    def step(mu: float) -> None:
        ledger, labels = Ledger(100), np.arange(6) % 2
        model = ModelObjective(Float32Oracle(), labels, ledger)
        function = FunctionObjective(
            lambda t, z, e: model.loss(model.oracle.logits(t, z, e), labels[e]).astype("f4"), ledger
        )
        method = ZOPoG(2, 3, 2, Settings(mu=mu, directions=directions), 1)
        method.step(method.init(), model if kind == "model" else function, np.arange(6))

    step(0.01)
    with pytest.warns(RoundingWarning):
        step(1e-9)


def test_sspt_passes_it_on() -> None:
    method = SSPT(2, 3, 2, SSPT.Settings(mu=1e-9), 1)
    with pytest.warns(RoundingWarning):
        method.step(method.init(), ModelObjective(Float32Oracle(), np.zeros(6, int), Ledger(100)), np.arange(6))


def test_right_or_wrong_has_no_rounding() -> None:
    method = ZOPoG(2, 3, 2, Settings(mu=1e-6), 1)
    method.step(method.init(), ModelObjective(Float32Oracle(), np.zeros(6, int), Ledger(100), "error"), np.arange(6))


# -- overflow --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1e160, 1e-170, 1e300])
def test_norms_do_not_overflow(scale: float) -> None:
    assert norm(scale * np.array([[3.0, 0.0], [0.0, -4.0]])) == pytest.approx(5 * scale, rel=1e-15, abs=0)


def test_norms_of_nothing_and_of_what_is_not_finite() -> None:
    assert norm([]) == norm([0.0, 0.0]) == 0
    assert norm([1.0, -np.inf]) == np.inf
    assert np.isnan(norm([1.0, np.nan]))
    values = np.random.default_rng(0).normal(size=1000)
    assert norm(values) == np.linalg.norm(values)  # to the bit
    for row in values.reshape(100, 10) / 1e5:
        assert norm(row) == np.linalg.norm(row)


@pytest.mark.parametrize("kind", [ZOPoG, SSPT, BDPL])
def test_huge_losses_have_finite_norms(kind: type) -> None:
    objective = FunctionObjective(lambda t, z, e: 1e160 * toy.losses(t, z, e), Ledger(1000))
    method = kind(*SHAPE, seed=1)
    state = method.step(method.init(), objective, np.arange(3))
    norms = [value for name, value in vars(state).items() if name.endswith("norm")]
    assert norms
    assert all(1e150 < value < 1e180 for value in norms)


def test_one_huge_half_is_enough() -> None:
    """The other half's norm is 0."""
    for ablation in ({"zeroth_order": False}, {"policy": False}):
        method = ZOPoG(*SHAPE, Settings(**ablation), seed=1)
        huge = FunctionObjective(lambda t, z, e: 1e160 * toy.losses(t, z, e), Ledger(1000))
        state = method.step(method.init(), huge, np.arange(3))
        assert sorted((state.alpha_gradient_norm, state.z_gradient_norm))[0] == 0
        assert 1e150 < max(state.alpha_gradient_norm, state.z_gradient_norm) < 1e180


def test_a_gradient_that_overflows_ends_the_run_by_name() -> None:
    method = ZOPoG(*SHAPE, Settings(zeroth_order=False), seed=1)
    near_zero = dataclasses.replace(method.init(), alpha=np.full(SHAPE[:2], 1e-11))
    huge = FunctionObjective(lambda t, z, e: 1e300 * toy.losses(t, z, e), Ledger(1000))
    with np.errstate(over="ignore"), pytest.raises(FloatingPointError, match=r"step 0 .* gradients of norm inf and 0"):
        method.step(near_zero, huge, np.arange(3))
    larger = FunctionObjective(lambda t, z, e: np.full((len(t), len(e)), 1e307), Ledger(1000))  # their sum overflows
    with np.errstate(over="ignore"), pytest.raises(FloatingPointError, match="mean loss inf"):
        ZOPoG(*SHAPE, Settings(policy=False), seed=1).step(method.init(), larger, np.arange(3))


def test_clipping_survives_huge_losses() -> None:
    """An infinite norm would have scaled the gradient to 0."""
    objective = FunctionObjective(lambda t, z, e: 1e160 * toy.losses(t, z, e), Ledger(1000))
    method = BDPL(*SHAPE, BDPL.Settings(clip=1.0, eta_p=0.01), 1)
    state = method.step(method.init(), objective, np.arange(3))
    assert np.abs(state.p - 1 / toy.N_CANDIDATES).max() > 1e-4


@pytest.mark.parametrize(
    ("alpha", "tau", "gumbel", "words"),
    [
        ([[np.inf, 1.0]], 1.0, None, "largest alpha is inf"),
        ([[1.0, 1.0]], 1.0, [[np.inf, 0.0]], "largest g is inf"),
        ([[1.0, 1.0]], 1.0, [[np.nan, 0.0]], "largest g is nan"),
        ([[2.0, 1.0]], 1e-320, None, "tau is"),
        ([[np.nan, 1.0]], 1.0, None, "alpha must be positive"),
    ],
)
def test_probabilities_of_what_is_not_finite(alpha, tau: float, gumbel, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        probabilities(alpha, tau, gumbel)


def test_probabilities_at_the_edge_are_exact() -> None:
    assert probabilities([[1.0, 1.0]], 1.0, [[-np.inf, 0.0]]).tolist() == [[0.0, 1.0]]
    assert probabilities([[1e308, 1e-308]]).tolist() == [[1.0, 0.0]]


# -- a function of your own ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 1), (2, 5), (2,), (3, 2), (1, 3), ()])
def test_losses_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    objective = FunctionObjective(lambda t, z, e: np.ones(shape), Ledger(100))
    with pytest.raises(ValueError, match=r"need \(2, 3\)"):
        objective.losses(np.zeros((2, 4), np.int64), np.zeros((2, 3)), np.arange(3))


def test_a_function_may_write_into_its_arguments() -> None:
    def rude(tokens, z, examples):
        values = toy.losses(tokens, z, examples)
        tokens[:], z[:], examples[:] = 0, np.nan, 0
        return values

    def states(function):
        method, objective, rows = (
            ZOPoG(*SHAPE, Settings(eta_alpha=0.1), seed=1),
            FunctionObjective(function, Ledger(1000)),
            np.arange(4),
        )
        state = method.init()
        for _ in range(3):
            state = method.step(state, objective, rows)
        assert rows.tolist() == [0, 1, 2, 3]
        return state

    polite, written = states(toy.losses), states(rude)
    assert polite.alpha.tobytes() == written.alpha.tobytes()
    assert polite.z.tobytes() == written.z.tobytes()


def test_a_journal_of_losses_is_in_the_result_s_type() -> None:
    objective = FunctionObjective(lambda t, z, e: np.ones((len(t), len(e)), np.float32), Ledger(10))
    losses = objective.losses(np.zeros((2, 1), np.int64), np.zeros((2, 1)), np.arange(3))
    assert losses.dtype == np.float64
    assert objective.roundoff == SINGLE


# -- seeds and sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint64, np.uint8])
def test_seeds_may_be_numpy_s_integers(kind: type) -> None:
    assert normal(kind(7), kind(1), kind(9), (5,)).tolist() == normal(7, 1, 9, (5,)).tolist()
    method, same = (ZOPoG(*SHAPE, Settings(), seed) for seed in (kind(7), 7))
    a, b = (m.step(m.init(), toy.objective(40), np.arange(3)) for m in (method, same))
    assert a.z.tobytes() == b.z.tobytes()


@pytest.mark.parametrize("seed", [-1, 2**64, 20 * 10**30, np.int32(-1)])
def test_seeds_out_of_range_are_refused_at_once(seed) -> None:
    with pytest.raises(ValueError, match=rf"seed is {seed}; it must lie in 0 to 2\^64 - 1"):
        ZOPoG(*SHAPE, Settings(), seed)
    with pytest.raises(ValueError, match=rf"seed is {seed}; a stream needs"):
        bits(seed, 0, 0, 4)


def test_a_seed_is_an_integer() -> None:
    with pytest.raises(TypeError, match="integer"):
        ZOPoG(*SHAPE, Settings(), 1.5)


def test_the_first_seed_is_the_default() -> None:
    assert ZOPoG(*SHAPE).seed == ZOPoG(*SHAPE, seed=0).seed == 0


def test_the_largest_seed_is_one() -> None:
    assert bits(2**64 - 1, 2**32 - 1, 2**32 - 1, 4).shape == (4,)
    method = ZOPoG(*SHAPE, Settings(), 2**64 - 1)
    assert np.isfinite(method.step(method.init(), toy.objective(40), np.arange(3)).loss)


@pytest.mark.parametrize("change", [{"rows": 0}, {"batch_size": 0}, {"evaluate_every": 0}, {"rows": -3}])
def test_a_run_of_nothing_is_refused(change: dict) -> None:
    [(name, value)] = change.items()
    objective = toy.objective(1000)
    with pytest.raises(ValueError, match=f"{name} is {value}; it must be at least 1"):
        run(ZOPoG(*SHAPE), objective, **({"rows": toy.ROWS} | change))
    assert objective.ledger.calls == 0


def test_the_smallest_run_is_one() -> None:
    assert run(ZOPoG(*SHAPE), toy.objective(80), rows=1, batch_size=1, evaluate_every=1).curve[-1].calls == 80


def test_a_call_of_no_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size is 0; it must be at least 1"):
        Ledger(100, batch_size=0)
    with pytest.raises(ValueError, match="rows is 0"):
        mini_batch(0, 0, 0, 5)
    with pytest.raises(ValueError, match="batch_size is 0"):
        mini_batch(0, 0, 5, 0)
    assert step_price(ZOPoG(*SHAPE), Ledger(100, batch_size=1), 1, 1) == 40


def test_a_method_without_kernels_takes_no_backend() -> None:
    with pytest.raises(ValueError, match="SSPT runs in NumPy only"):
        SSPT(*SHAPE, backend=object())


def test_policy_losses_that_are_not_finite_are_named() -> None:
    with pytest.raises(ValueError, match="entry 1 is not"):
        policy_gradient([1.0, np.inf], [[0], [1]], np.ones((1, 2)), np.full((1, 2), 0.5))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_one_loss_that_is_not_finite_is_enough(value: float) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        two_point_gradient([1.0, value], [2.0, 2.0], np.ones((2, 3)), 0.1)


def test_no_warning_is_left_behind() -> None:
    """A whole step on plain losses is silent."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method = ZOPoG(*SHAPE, Settings(), 3)
        method.step(method.init(), toy.objective(40), np.arange(3))
