"""Numbers that saved runs depend on: a purpose, a stream or an order that moves would change every resumed run.

The values are of the first release. A change here is a change of results: it belongs in the changelog.
"""

import numpy as np
import pytest

from zopog_ref import FunctionObjective, Ledger, Settings, ZOPoG, probabilities, projection
from zopog_ref.backend import NUMPY
from zopog_ref.randomness import Purpose, bits, gumbel, normal, permutation, uniform
from zopog_ref.search import mini_batch, step_rows

PURPOSES = {
    "PROJECTION": 1, "SPLIT": 2, "EPOCH": 3, "GUMBEL_STEP": 4, "GUMBEL_POLICY": 5, "GUMBEL_ZEROTH": 6,
    "TOKENS_POLICY": 7, "TOKENS_ZEROTH": 8, "DIRECTIONS": 9, "TOKENS_SEARCH": 10, "Z_SEARCH": 11,
    "POSTERIOR_DRAWS": 12, "ANCESTORS": 13, "UNIT_MASK": 14, "LABEL_SHUFFLE": 15, "READOUT_FOLDS": 16,
    "DEMONSTRATIONS": 20,
}  # fmt: skip


def test_every_purpose_has_its_own_number_for_ever() -> None:
    """Names of one number would be aliases: two streams of the algorithm would be the same numbers."""
    numbers = {name: int(purpose) for name, purpose in Purpose.__members__.items()}
    assert numbers == PURPOSES  # a new one is pinned here as well
    assert len(set(numbers.values())) == len(numbers)


def test_the_first_numbers_of_a_stream() -> None:
    close = {"rtol": 0, "atol": 1e-11}
    given = uniform(3, 2, Purpose.TOKENS_POLICY, (3,))
    np.testing.assert_allclose(given, [0.745939692832, 0.308873278671, 0.30050414463], **close)
    given = gumbel(3, 2, Purpose.GUMBEL_STEP, (3,))
    np.testing.assert_allclose(given, [5.050590277425, 3.474260421125, -1.026112204901], **close)
    given = normal(3, 2, Purpose.DIRECTIONS, (3,))
    np.testing.assert_allclose(given, [-1.465817451477, 2.209786653519, 0.329687595367], **close)


def test_orders_of_an_epoch() -> None:
    assert permutation(3, 1, Purpose.EPOCH, 12).tolist() == [5, 9, 2, 0, 3, 1, 10, 6, 4, 7, 11, 8]
    batches = [mini_batch(9, step, 12, 5).tolist() for step in range(4)]
    assert batches == [[11, 10, 0, 4, 5], [1, 3, 8, 2, 9], [6, 7], [6, 2, 0, 4, 7]]
    assert batches[3] == permutation(9, 1, Purpose.EPOCH, 12)[:5].tolist()


def test_a_method_s_rows() -> None:
    method = ZOPoG(2, 3, 2, seed=9)
    assert step_rows(method, 1, 12, 5).tolist() == [1, 3, 8, 2, 9]


def test_permutations_have_keys_of_64_bits() -> None:
    """Among 300,000 keys some ten pairs share their upper word: the lower one decides, not the place."""
    count = 300_000
    upper, lower = bits(4, 5, 6, 2 * count).reshape(count, 2).T
    assert len(np.unique(upper)) < count
    order = permutation(4, 5, 6, count)
    assert (order == np.lexsort((lower, upper))).all()
    assert (order != np.argsort(upper, kind="stable")).any()


def test_the_projection_is_the_normals_times_its_scale() -> None:
    a = projection(3, 1, 2, 3, scale=2.0, embedding_std=0.5, sigma=4.0)
    exact = 2 * 0.5 / (np.sqrt(3) * 4) * normal(3, 0, Purpose.PROJECTION, (2, 3)).astype(np.float64)
    np.testing.assert_allclose(a, exact, rtol=1e-6)
    one = projection(3, 1, 2, 1, scale=2.0, embedding_std=0.5)  # sqrt(d) = 1
    np.testing.assert_allclose(one[:, 0], normal(3, 0, Purpose.PROJECTION, (2,)), rtol=1e-6)
    first = [[-1.234988689423, -0.380561619997, -0.451965749264], [-0.563740193844, -0.067411459982, -0.511181771755]]
    np.testing.assert_allclose(projection(3, 1, 2, 3, scale=2.0, embedding_std=0.5), first, rtol=1e-6)


# -- Algorithm 1 -----------------------------------------------------------------------------------------------------


def losses(tokens: np.ndarray, z: np.ndarray, examples: np.ndarray) -> np.ndarray:
    """Prompt and z multiply, so that every draw of either half shows in both parts of the state."""
    z = z if z.ndim == 3 else z[:, None]
    return (1 + tokens.sum(axis=1))[:, None] * (1 + 0.1 * ((z - 1) ** 2).sum(axis=-1)) + 0.1 * examples


def two_steps(**settings) -> tuple[ZOPoG, list]:
    chosen = Settings(policy_samples=4, direction_pairs=2, eta_alpha=0.1, deploy="noisy_mode", **settings)
    method, objective = ZOPoG(2, 3, 2, chosen, 7), FunctionObjective(losses, Ledger(1000))
    states = [method.init()]
    for step in range(2):
        states.append(method.step(states[-1], objective, mini_batch(7, step, 4, 3)))
    return method, states


# (gumbel, directions): alpha (2, 3), z (2,), tokens deployed
STEPS = {
    ("per_sample", "per_example"): (
        [[0.3928178117, 0.2718168934, 0.3360016489], [0.427861637, 0.4116643834, 0.1437773118]],
        [0.5730274547, 0.4582474989],
        [1, 1],
    ),
    ("per_sample", "shared"): (
        [[0.395737905, 0.2699666237, 0.3349600264], [0.427488923, 0.4161552452, 0.1389192247]],
        [0.3580839636, 0.4816396833],
        [1, 1],
    ),
    ("per_step", "per_example"): (
        [[0.5665162482, 0.3333333333, 0.1001504184], [0.4233333333, 0.2433333333, 0.3333333333]],
        [0.4307572856, 0.3657905976],
        [0, 0],
    ),
    ("per_step", "shared"): (
        [[0.5702555548, 0.3333333333, 0.0964111118], [0.4233333333, 0.2433333333, 0.3333333333]],
        [0.3591094552, 0.3735879924],
        [0, 0],
    ),
    ("none", "per_example"): (
        [[0.4438783562, 0.4191479085, 0.1313244999], [0.415819312, 0.3033333333, 0.2761236166]],
        [0.488647774, 0.3893957138],
        [0, 0],
    ),
    ("none", "shared"): (
        [[0.4427626584, 0.4215745513, 0.1298538073], [0.4173034972, 0.3033333333, 0.2745058547]],
        [0.3649826432, 0.3964840735],
        [0, 0],
    ),
}


@pytest.mark.parametrize(("gumbel", "directions"), STEPS)
def test_two_steps_of_the_algorithm(gumbel: str, directions: str) -> None:
    alpha, z, tokens = STEPS[gumbel, directions]
    method, states = two_steps(gumbel=gumbel, directions=directions)
    np.testing.assert_allclose(states[-1].alpha, alpha, rtol=0, atol=1e-9)
    np.testing.assert_allclose(states[-1].z, z, rtol=0, atol=1e-9)
    assert method.prompts(states[-1])[0].tokens.tolist() == tokens


@pytest.mark.parametrize(
    ("mode", "purpose", "shape"),
    [("per_step", Purpose.GUMBEL_STEP, (2, 3)), ("per_sample", Purpose.GUMBEL_POLICY, (1, 2, 3))],
)
def test_the_noisy_mode_is_of_the_last_noise(mode: str, purpose: Purpose, shape: tuple[int, ...]) -> None:
    """Of the draw that the last zeroth-order half had (per_step), not of the next one's: over many alphas they differ."""
    method, states = two_steps(gumbel=mode)
    differs = False
    for row in np.random.default_rng(0).dirichlet(np.ones(3), (40, 2)):
        state = type(states[-1])(step=2, alpha=row, z=states[-1].z)
        given, following = (
            probabilities(row, 1.0, gumbel(7, step, purpose, shape)).reshape(-1, 2, 3)[0].argmax(axis=1)
            for step in (2, 3)
        )
        assert method.prompts(state)[0].tokens.tolist() == given.tolist()
        differs |= given.tolist() != following.tolist()
    assert differs


def test_each_half_draws_from_its_own_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, int, int, tuple[int, ...]]] = []
    for kind in ("gumbel", "uniform", "normal"):
        real = getattr(NUMPY, kind)

        def recorded(seed, step, purpose, shape, kind=kind, real=real):
            drawn.append((kind, step, int(purpose), shape))
            return real(seed, step, purpose, shape)

        monkeypatch.setattr(NUMPY, kind, recorded)
    two_steps(gumbel="per_sample")
    assert drawn[:5] == [
        ("gumbel", 0, 5, (4, 2, 3)), ("uniform", 0, 7, (4, 2)), ("gumbel", 1, 6, (2, 2, 3)), ("uniform", 0, 8, (2, 2)),
        ("normal", 0, 9, (2, 3, 2)),
    ]  # fmt: skip
    assert len(set(drawn)) == len(drawn) == 10


def test_ties_of_the_mode_go_to_the_first() -> None:
    method = ZOPoG(2, 3, 2, Settings(deploy="mode"))
    assert method.prompts(method.init())[0].tokens.tolist() == [0, 0]
