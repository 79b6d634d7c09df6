"""Algorithm 1: its steps against the official code's, its variants, its ablations, its cost."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tests.core import toy
from zopog_ref import FunctionObjective, Ledger, Settings, ZOPoG, algorithm, run
from zopog_ref.backend import NUMPY, NumPyBackend

OFFICIAL = json.loads((Path(__file__).parent / "official_steps.json").read_text())
MODES = [(g, d) for g in ("per_sample", "per_step", "none") for d in ("per_example", "shared")]
QUICK = {"eta_alpha": 0.05, "eta_z": 0.1}


def toy_method(settings: Settings, seed: int = 0) -> ZOPoG:
    return ZOPoG(toy.N_POSITIONS, toy.N_CANDIDATES, toy.DIM, settings, seed)


class RecordedDraws(ZOPoG):
    """ZO-PoG whose tokens and directions are those the official code drew."""

    def _draw(self, p, step, purpose, samples):
        half = "policy" if purpose == algorithm.Purpose.TOKENS_POLICY else "zeroth"
        return np.array(OFFICIAL["steps"][step][half]["tokens"])

    def _directions(self, step, batch):
        return np.array(OFFICIAL["steps"][step]["zeroth"]["directions"])


def official_toy(tokens: np.ndarray, z: np.ndarray, examples: np.ndarray) -> np.ndarray:
    table, centre = np.array(OFFICIAL["table"])[examples], np.array(OFFICIAL["centre"])[examples]
    z = np.broadcast_to(z if z.ndim == 3 else z[:, None, :], (len(tokens), *centre.shape))  # (K, B, d)
    discrete = np.stack([table[:, np.arange(tokens.shape[1]), t].sum(axis=-1) for t in tokens])  # (K, B)
    return discrete * (1 + 0.3 * np.tanh(z.sum(axis=-1))) + 0.5 * ((z - centre) ** 2).sum(axis=-1)


def official_steps(method: ZOPoG, monkeypatch: pytest.MonkeyPatch, shift: int = 0):
    noise = np.array(OFFICIAL["gumbel"])
    monkeypatch.setattr(NUMPY, "gumbel", lambda seed, step, purpose, shape: noise[min(step + shift, len(noise) - 1)])
    objective, state, states = FunctionObjective(official_toy, Ledger(24)), method.init(), []
    for _ in OFFICIAL["steps"]:
        state = method.step(state, objective, np.arange(2))
        states.append(state)
    assert objective.ledger.left == 0
    return states


def official_settings(**changes) -> Settings:
    numbers = {name: OFFICIAL[name] for name in ("tau", "mu", "eta_alpha", "eta_z")}
    return Settings.official(policy_samples=6, direction_pairs=3, **numbers, **changes)


def test_two_steps_equal_the_official_code(monkeypatch: pytest.MonkeyPatch) -> None:
    states = official_steps(RecordedDraws(3, 4, 5, official_settings()), monkeypatch)
    for state, official in zip(states, OFFICIAL["steps"]):
        np.testing.assert_allclose(state.alpha, official["alpha"], rtol=1e-5)
        np.testing.assert_allclose(state.z, official["z"], rtol=1e-4, atol=2e-6)


def test_noise_of_another_moment_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The official code draws p once after each update of alpha and uses it for the next two halves."""
    states = official_steps(RecordedDraws(3, 4, 5, official_settings()), monkeypatch, shift=1)
    # alpha of the first step does not depend on g through [V3]: with shared noise p cancels. tau, though, stays.
    np.testing.assert_allclose(states[0].alpha, OFFICIAL["steps"][0]["alpha"], rtol=1e-5)
    wrong_tau = RecordedDraws(3, 4, 5, dataclasses.replace(official_settings(), tau=1.0))
    assert np.abs(official_steps(wrong_tau, monkeypatch)[0].alpha - OFFICIAL["steps"][0]["alpha"]).max() > 1e-3


def test_noise_timing_within_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Policy half of step s and zeroth-order half of step s - 1 share a draw; the two halves of one step do not."""
    seen: list[tuple[int, int]] = []
    real = NUMPY.gumbel
    monkeypatch.setattr(
        NUMPY,
        "gumbel",
        lambda seed, step, purpose, shape: (seen.append((step, int(purpose))), real(seed, step, purpose, shape))[1],
    )
    method, objective = toy_method(Settings(gumbel="per_step")), toy.objective(80)
    state = method.step(method.init(), objective, np.arange(3))
    method.step(state, objective, np.arange(3))
    assert [step for step, _ in seen] == [0, 1, 1, 2]
    assert len({purpose for _, purpose in seen}) == 1


@pytest.mark.parametrize(("gumbel", "directions"), MODES)
def test_every_variant_learns_the_toy(gumbel: str, directions: str) -> None:
    method = toy_method(Settings(gumbel=gumbel, directions=directions, **QUICK))
    result = run(method, toy.objective(4000), rows=toy.ROWS, batch_size=4, dev=toy.dev)
    assert result.dev is not None
    assert result.dev.loss < toy.BEST + 0.05
    start = method.prompts(method.init())[0]
    assert toy.dev([start]).loss > toy.BEST + 0.5  # the check could fail


@pytest.mark.parametrize(
    ("changes", "calls", "frozen"),
    [({}, 40, ()), ({"zeroth_order": False}, 20, ("z",)), ({"policy": False}, 20, ("alpha",))],
)
def test_ablations_are_one_switch_each(changes: dict, calls: int, frozen: tuple[str, ...]) -> None:
    method, objective = toy_method(Settings(**QUICK, **changes)), toy.objective(100)
    assert method.calls_per_step == calls
    start = method.init()
    state = method.step(start, objective, np.arange(4))
    assert objective.ledger.calls == calls
    for name in ("alpha", "z"):
        assert np.array_equal(getattr(state, name), getattr(start, name)) == (name in frozen)


def test_step_sizes_decay_as_they_say() -> None:
    """The first step is the same; at step t, both moves are 1 / (1 + decay t) of the constant ones."""
    start = dataclasses.replace(toy_method(Settings()).init(), step=4)
    moves = []
    for decay in (0.0, 0.25):
        state = toy_method(Settings(**QUICK, decay=decay)).step(start, toy.objective(40), np.arange(4))
        moves.append((state.alpha - start.alpha, state.z - start.z))
    np.testing.assert_allclose(moves[1][0], moves[0][0] / 2, atol=1e-15)
    halved = moves[0][1] / 2  # z: the prompts of the second half are drawn from another alpha, so only the size agrees
    assert 0.5 < np.linalg.norm(moves[1][1]) / np.linalg.norm(halved) < 2.0


def test_clipping_keeps_alpha_above_its_floor() -> None:
    settings = Settings(eta_alpha=50.0, eta_z=0.1, alpha_min=1e-3)
    state, objective, method = toy_method(settings).init(), toy.objective(400), toy_method(settings)
    for _ in range(10):
        state = method.step(state, objective, np.arange(4))
    assert state.alpha.min() == 1e-3
    assert np.isfinite(state.z).all()


def test_a_step_is_a_function_of_seed_step_and_state() -> None:
    method = toy_method(Settings(**QUICK), seed=3)
    states = [method.step(method.init(), toy.objective(40), np.arange(4)) for _ in range(2)]
    assert states[0].alpha.tobytes() == states[1].alpha.tobytes()
    assert states[0].z.tobytes() == states[1].z.tobytes()
    other = toy_method(Settings(**QUICK), seed=4)
    assert other.step(other.init(), toy.objective(40), np.arange(4)).z.tobytes() != states[0].z.tobytes()


def test_deployed_prompt() -> None:
    method = toy_method(Settings())
    state = dataclasses.replace(method.init(), alpha=np.eye(toy.N_POSITIONS, toy.N_CANDIDATES, 1) + 0.1)
    assert method.prompts(state)[0].tokens.tolist() == [1, 2, 3, 4]
    draws = [
        toy_method(Settings(deploy="noisy_mode"), seed).prompts(
            dataclasses.replace(state, alpha=np.ones_like(state.alpha))
        )[0]
        for seed in range(5)
    ]
    assert len({tuple(draw.tokens) for draw in draws}) == 5  # the argmax of a noisy p is a random prompt


def test_paper_settings_are_the_published_numbers() -> None:
    s = Settings.paper()
    assert (s.policy_samples, s.direction_pairs, s.tau, s.mu, s.eta_alpha, s.eta_z) == (20, 10, 1.0, 0.01, 1e-3, 1e-2)
    assert (s.gumbel, s.directions, s.deploy, s.alpha_min) == ("per_step", "per_example", "noisy_mode", 1e-11)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"policy_samples": 1}, "at least 2"), ({"direction_pairs": 0}, "at least 1"), ({"mu": 0.0}, "mu is 0.0"),
        ({"decay": -1.0}, "decay is -1.0"),
     ({"eta_z": float("nan")}, "eta_z is nan"), ({"gumbel": "often"}, "per_sample, per_step, none"),
     ({"policy": False, "zeroth_order": False}, "nothing would be learned")],
)  # fmt: skip
def test_settings_refuse_nonsense(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**change)


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="n_candidates is 0"):
        ZOPoG(1, 0, 1)


def test_another_backend_is_taken_unless_the_settings_need_numpy() -> None:
    other = NumPyBackend()
    assert ZOPoG(2, 3, 4, Settings(), 0, other).backend is other
    with pytest.raises(ValueError, match="runs in NumPy only"):
        ZOPoG(2, 3, 4, Settings(readout_folds=2), 0, other)
