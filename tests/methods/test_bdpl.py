"""BDPL: the estimator's expectation by enumeration, the optimiser against PyTorch's, a default that learns."""

from itertools import product

import numpy as np
import pytest

from zopog_ref import FunctionObjective, Ledger, run
from zopog_ref.backend import NUMPY
from zopog_ref.categorical import free_gradient, free_score
from zopog_ref.convergence.exact import all_prompts
from zopog_ref.convergence.problems import SeparableTable
from zopog_ref.methods import bdpl
from zopog_ref.methods.bdpl import BDPL

Settings = BDPL.Settings

N_POSITIONS, N_CANDIDATES = 2, 3
PROMPTS = all_prompts(N_POSITIONS, N_CANDIDATES)  # (9, 2)


def problem(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A loss for every prompt (9,), and p (2, 3)."""
    rng = np.random.default_rng(seed)
    return rng.random(len(PROMPTS)), rng.dirichlet(np.ones(N_CANDIDATES), N_POSITIONS)


def expected_gradient(estimator, losses: np.ndarray, p: np.ndarray, samples: int, kind: str) -> np.ndarray:
    """E g over all 9^I draws of I prompts."""
    chance = p[np.arange(N_POSITIONS), PROMPTS].prod(axis=1)  # (9,)
    total = np.zeros_like(p)
    for drawn in map(list, product(range(len(PROMPTS)), repeat=samples)):
        total += chance[drawn].prod() * estimator(losses[drawn], PROMPTS[drawn], p, kind)
    return total


def conditional_losses(losses: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, float]:
    """L_ij = E[l | t_i = j] (n, N), and L = E[l]."""
    chance = p[np.arange(N_POSITIONS), PROMPTS].prod(axis=1)
    drawn = PROMPTS[:, :, None] == np.arange(N_CANDIDATES)  # (9, n, N)
    weight = chance[:, None, None] * drawn
    return (weight * losses[:, None, None]).sum(axis=0) / weight.sum(axis=0), float(chance @ losses)


@pytest.mark.parametrize("samples", [2, 3])
@pytest.mark.parametrize(("kind", "factor"), [("unbiased", 1.0), ("official", 2.0)])
def test_the_expected_gradient_is_exact(samples: int, kind: str, factor: float) -> None:
    losses, p = problem()
    each, mean = conditional_losses(losses, p)
    expected = expected_gradient(free_gradient, losses, p, samples, kind)
    np.testing.assert_allclose(expected, factor * (each - mean), rtol=0, atol=1e-13)


def test_the_unbiased_one_is_the_gradient_up_to_a_constant_in_a_row() -> None:
    """d/dp_ij of E l = sum_t l(t) prod_i p_{i, t_i} is L_ij for free entries; the constant vanishes in the projection."""
    losses, p = problem(1)
    step, slope = 1e-6, np.zeros_like(p)
    for i, j in np.ndindex(p.shape):
        for sign in (1, -1):
            moved = p.copy()
            moved[i, j] += sign * step
            slope[i, j] += sign * (moved[np.arange(N_POSITIONS), PROMPTS].prod(axis=1) @ losses) / (2 * step)
    exact = expected_gradient(free_gradient, losses, p, 2, "unbiased")
    difference = slope - exact
    np.testing.assert_allclose(difference, np.repeat(difference[:, :1], N_CANDIDATES, axis=1), rtol=0, atol=1e-9)


def test_at_the_start_the_official_one_compares_with_the_plain_mean_over_candidates() -> None:
    losses, uniform = problem(2)[0], np.full((N_POSITIONS, N_CANDIDATES), 1 / N_CANDIDATES)
    each, _ = conditional_losses(losses, uniform)
    expected = expected_gradient(free_gradient, losses, uniform, 2, "official")
    np.testing.assert_allclose(expected, 2 * (each - each.mean(axis=1, keepdims=True)), rtol=0, atol=1e-13)


def biased_by_i(losses, tokens, p, kind):
    return free_gradient(losses, tokens, p, kind) * (len(losses) - 1) / len(losses)


def without_baseline(losses, tokens, p, kind):
    return np.tensordot(losses, free_score(tokens, p, kind), axes=1) / (len(losses) - 1)


def sign_of_the_others_forgotten(losses, tokens, p, kind):
    return free_gradient(losses, tokens, p, "unbiased")


@pytest.mark.parametrize("twin", [biased_by_i, without_baseline, sign_of_the_others_forgotten])
def test_a_wrong_estimator_is_caught(twin) -> None:
    losses, p = problem()
    each, mean = conditional_losses(losses, p)
    assert np.abs(expected_gradient(twin, losses, p, 2, "official") - 2 * (each - mean)).max() > 0.05


# -- the optimiser ---------------------------------------------------------------------------------------------------

SHAPE = (6, 8, 1)
TABLE = SeparableTable(np.random.default_rng(1).random(SHAPE[:2]))


def objective(budget: int, table: SeparableTable = TABLE) -> FunctionObjective:
    return FunctionObjective(table.losses, Ledger(budget))


def steps(settings: Settings, count: int, seed: int = 0, table: SeparableTable = TABLE) -> list[bdpl.BDPLState]:
    method = BDPL(*SHAPE, settings, seed)
    states, budget = [method.init()], objective(10**6, table)
    for _ in range(count):
        states.append(method.step(states[-1], budget, np.arange(1)))
    return states


def drawn_gradients(settings: Settings, count: int, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The gradients that `count` steps computed, before clipping."""
    kept: list[np.ndarray] = []
    real = free_gradient
    with monkeypatch.context() as patch:
        patch.setattr(NUMPY, "free_gradient", lambda *given: kept.append(real(*given)) or kept[-1])
        steps(settings, count)
    return kept


def test_adamw_and_clipping_are_pytorch_s(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch's AdamW, a development-only package")
    settings = Settings(optimizer="adamw", eta_p=1e-3, clip=1.0, score="official", floor=1e-6)
    gradients = drawn_gradients(settings, 4, monkeypatch)
    assert max(np.linalg.norm(g) for g in gradients) > 1
    states = steps(settings, 4)
    parameter = torch.full(SHAPE[:2], 1 / SHAPE[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.AdamW([parameter], lr=1e-3, weight_decay=0.1)
    for state, g in zip(states[1:], gradients):
        parameter.grad = torch.tensor(g)
        torch.nn.utils.clip_grad_norm_([parameter], 1.0)
        optimizer.step()
        with torch.no_grad():
            parameter.copy_(torch.tensor(bdpl.project(parameter.detach().numpy(), 1e-6)))
        np.testing.assert_allclose(state.p, parameter.detach().numpy(), rtol=1e-6, atol=1e-12)


def test_the_first_adamw_step_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first step AdamW moves every entry by eta g / (|g| + epsilon), after the decay."""
    settings = Settings(optimizer="adamw", eta_p=1e-3, score="official")
    [g] = drawn_gradients(settings, 1, monkeypatch)
    after = steps(settings, 1)[1].p
    moved = (1 - 1e-3 * 0.1) / SHAPE[1] - 1e-3 * g / (np.abs(g) + 1e-8)
    np.testing.assert_allclose(after, bdpl.project(moved, settings.floor), rtol=0, atol=1e-9)


def test_three_adamw_steps_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both moments as the weighted sums that they are: sum_i b^(t-i) (1-b) g_i^k / (1 - b^t), b = 0.9 and 0.999."""
    settings = Settings(optimizer="adamw", eta_p=1e-3, score="official")
    gradients = drawn_gradients(settings, 3, monkeypatch)
    states = steps(settings, 3)
    for t in (1, 2, 3):
        m, v = (
            sum(b ** (t - i) * (1 - b) * g**power for i, g in enumerate(gradients[:t], 1)) / (1 - b**t)
            for b, power in ((0.9, 1), (0.999, 2))
        )
        moved = (1 - 1e-3 * 0.1) * states[t - 1].p - 1e-3 * m / (np.sqrt(v) + 1e-8)
        np.testing.assert_allclose(states[t].p, bdpl.project(moved, settings.floor), rtol=0, atol=1e-12)


def test_the_loss_of_a_prompt_is_its_mean_over_the_rows() -> None:
    """Three rows whose losses stand 1 : 2 : 3, so twice the table in the mean."""
    method, rows = BDPL(*SHAPE, Settings(samples=6), 2), np.arange(3)
    asked: list[np.ndarray] = []

    def losses(tokens, z, examples):
        asked.append(tokens.copy())
        return TABLE.losses(tokens, z, examples) * (1 + examples)

    state = method.step(method.init(), FunctionObjective(losses, Ledger(10)), rows)
    each = 2 * TABLE.losses(asked[0], np.zeros(1), np.zeros(1, int))[:, 0]  # (6,)
    g = free_gradient(each, asked[0], method.init().p)
    assert state.loss == pytest.approx(each.mean(), rel=1e-14)
    assert state.gradient_norm == pytest.approx(np.linalg.norm(g), rel=1e-12)
    np.testing.assert_allclose(state.p, bdpl.project(1 / SHAPE[1] - 0.3 * g, 1e-4), rtol=0, atol=1e-14)


def test_plain_and_clipped_steps_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    for clip, bound in ((0.0, np.inf), (0.5, 0.5)):
        settings = Settings(clip=clip)
        [g] = drawn_gradients(settings, 1, monkeypatch)
        g = g * min(1.0, bound / np.linalg.norm(g))
        state = steps(settings, 1)[1]
        np.testing.assert_allclose(state.p, bdpl.project(1 / SHAPE[1] - settings.eta_p * g, settings.floor), atol=1e-15)
        assert state.gradient_norm > 0.5


# -- what it learns --------------------------------------------------------------------------------------------------


def test_the_default_finds_the_best_prompt() -> None:
    method = BDPL(*SHAPE, seed=3)
    result = run(method, objective(4000), rows=1)
    assert result.prompts[0].tokens.tolist() == TABLE.c.argmin(axis=1).tolist()
    assert not result.prompts[0].z.any()
    assert result.curve[-1].diagnostics["loss"] < result.curve[0].diagnostics["loss"] / 2


def test_the_published_step_hardly_leaves_the_start() -> None:
    """30 steps of at most 1e-4: what users report as a loss that never falls."""
    states = steps(Settings.paper(), 30)
    assert np.abs(states[-1].p - states[0].p).max() < 30 * 1e-4 + 1e-3


def test_a_run_that_commits_never_divides_by_zero() -> None:
    states = steps(Settings(eta_p=100.0, score="official", floor=1e-8), 60)
    for state in states:
        assert np.isfinite(state.p).all()
        assert state.p.min() >= 1e-8
        np.testing.assert_allclose(state.p.sum(axis=1), 1, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"samples": 1}, "samples is 1"), ({"eta_p": 0.0}, "eta_p is 0.0"), ({"clip": -1.0}, "clip is -1.0"),
     ({"weight_decay": np.inf}, "weight_decay is inf"), ({"floor": 0.0}, "floor is 0.0"), ({"score": "other"}, "unbiased, official"),
     ({"optimizer": "sgd"}, "plain, adamw")],
)  # fmt: skip
def test_unusable_settings(change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Settings(**change)


def test_a_floor_that_does_not_fit_the_candidates() -> None:
    with pytest.raises(ValueError, match=r"floor is 0\.2; 8 candidates allow 0\.125"):
        BDPL(*SHAPE, Settings(floor=0.2))
    assert BDPL(*SHAPE, Settings(floor=0.125)).settings.floor == 0.125  # 1/N itself leaves the uniform distribution
