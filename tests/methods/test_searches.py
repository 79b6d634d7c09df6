"""BBT, CatCMA, SSPT and random search against the packages called directly, and against brute force."""

import dataclasses
from itertools import combinations

import numpy as np
import pytest

from tests.core import toy
from zopog_ref import FunctionObjective, Ledger, Method, Settings, ZOPoG
from zopog_ref.methods import bbt, catcma, random_search, sspt
from zopog_ref.methods.fixed_tokens import fixed_tokens

ROWS = np.arange(toy.ROWS)
SHAPE = (toy.N_POSITIONS, toy.N_CANDIDATES, toy.DIM)


def states(method: Method, count: int, function=toy.losses) -> list:
    """The states of `count` steps on all rows."""
    objective, found = FunctionObjective(function, Ledger(10**6)), [method.init()]
    for _ in range(count):
        found.append(method.step(found[-1], objective, ROWS))
    return found


# -- fixed tokens ----------------------------------------------------------------------------------------------------


def test_fixed_tokens_are_uniform_and_fixed() -> None:
    assert np.array_equal(fixed_tokens(3, 20, 100), fixed_tokens(3, 20, 100))
    assert not np.array_equal(fixed_tokens(3, 20, 100), fixed_tokens(4, 20, 100))
    counts = np.bincount(fixed_tokens(0, 60_000, 6), minlength=6)
    assert len(counts) == 6
    assert np.abs(counts - 10_000).max() < 4 * np.sqrt(60_000 * 5 / 36)


# -- BBT -------------------------------------------------------------------------------------------------------------


def cma_directly(seed: int, generations: int, sigma: float, **options) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What `cma` asks for and is told, called as its documentation does, on the toy loss at the fixed tokens."""
    cma = pytest.importorskip("cma", reason="BBT needs the package cma (extra methods)")
    before = np.random.get_state()  # noqa: NPY002
    tokens = fixed_tokens(seed, toy.N_POSITIONS, toy.N_CANDIDATES)
    strategy = cma.CMAEvolutionStrategy(toy.DIM * [0], sigma, {"seed": seed, "verbose": -9, "verb_log": 0} | options)
    asked, told = [], []
    for _ in range(generations):
        points = strategy.ask()
        values = [float(toy.losses(tokens[None], np.array(z)[None], ROWS).mean()) for z in points]
        strategy.tell(points, values)
        asked.append(np.array(points))
        told.append(np.array(values))
    np.random.set_state(before)  # noqa: NPY002
    return asked, told


@pytest.mark.parametrize("options", [{}, {"CMA_diagonal": True}, {"bounds": [-0.7, 0.7]}])
def test_bbt_is_cma_called_directly(options: dict) -> None:
    settings = bbt.BBT.Settings(
        popsize=8, sigma=0.5, diagonal="CMA_diagonal" in options, bound=0.7 * ("bounds" in options)
    )
    asked, told = cma_directly(42, 12, 0.5, popsize=8, **options)
    last = states(bbt.BBT(*SHAPE, settings, seed=42), 12)[-1]
    np.testing.assert_allclose(last.told, told, rtol=0, atol=1e-15)
    best = np.unravel_index(np.argmin(told), np.shape(told))
    assert np.array_equal(last.z, asked[best[0]][best[1]])
    assert last.best_loss == pytest.approx(np.min(told), abs=1e-15)


def test_another_seed_step_size_or_order_would_be_noticed() -> None:
    _, told = cma_directly(42, 12, 0.5, popsize=8)

    def differs(method: bbt.BBT) -> bool:
        return bool(np.abs(states(method, 12)[-1].told - told).max() > 1e-3)

    class Shuffled(bbt.BBT):
        def step(self, state, objective, examples):
            """Tells the losses in another order than it was asked for."""
            real = super()._fresh(state.told)
            real_tell = real.tell
            real.tell = lambda losses: real_tell(losses[::-1])  # type: ignore[method-assign]
            self._live = real
            return super().step(state, objective, examples)

    settings = bbt.BBT.Settings(popsize=8, sigma=0.5)
    assert differs(bbt.BBT(*SHAPE, settings, seed=43))
    assert differs(bbt.BBT(*SHAPE, dataclasses.replace(settings, sigma=0.6), seed=42))
    assert differs(Shuffled(*SHAPE, settings, seed=42))
    assert not differs(bbt.BBT(*SHAPE, settings, seed=42))


def test_bbt_deploys_its_incumbent_and_learns() -> None:
    pytest.importorskip("cma", reason="BBT needs the package cma (extra methods)")
    method = bbt.BBT(*SHAPE, bbt.BBT.Settings(popsize=10, sigma=0.5), seed=1)
    found = states(method, 40)
    [prompt] = method.prompts(found[-1])
    assert np.array_equal(prompt.tokens, method.tokens)
    np.testing.assert_allclose(prompt.z, toy.CENTRE, atol=0.02)
    incumbents = [state.best_loss for state in found[1:]]
    assert incumbents == sorted(incumbents, reverse=True)
    assert incumbents[-1] == found[-1].told.min()


def test_bbt_told_again_by_another_instance_goes_on() -> None:
    pytest.importorskip("cma", reason="BBT needs the package cma (extra methods)")
    settings = bbt.BBT.Settings(popsize=6)
    whole = states(bbt.BBT(*SHAPE, settings, seed=5), 9)
    fresh = bbt.BBT(*SHAPE, settings, seed=5)
    for k in (2, 7, 4):  # back and forth: nothing hangs on the instance
        again = fresh.step(whole[k], FunctionObjective(toy.losses, Ledger(100)), ROWS)
        for field in dataclasses.fields(again):
            assert np.array_equal(getattr(again, field.name), getattr(whole[k + 1], field.name)), field.name


def test_catcma_told_again_by_another_instance_goes_on() -> None:
    pytest.importorskip("cmaes", reason="CatCMA needs the package cmaes (extra methods)")
    settings = catcma.CatCMA.Settings(popsize=6)
    whole = states(catcma.CatCMA(*SHAPE, settings, seed=5), 6)
    for k in (2, 5, 3):
        fresh = catcma.CatCMA(*SHAPE, settings, seed=5)
        again = fresh.step(whole[k], FunctionObjective(toy.losses, Ledger(100)), ROWS)
        for field in dataclasses.fields(again):
            assert np.array_equal(getattr(again, field.name), getattr(whole[k + 1], field.name)), field.name


def test_catcma_takes_two_candidates_and_two_dimensions() -> None:
    assert catcma.CatCMA(1, 2, 2).init().z.shape == (2,)


# -- CatCMA ----------------------------------------------------------------------------------------------------------


def test_catcma_is_cmaes_called_directly() -> None:
    cmaes = pytest.importorskip("cmaes", reason="CatCMA needs the package cmaes (extra methods)")
    strategy = cmaes.CatCMA(
        mean=np.zeros(toy.DIM),
        sigma=0.8,
        cat_num=np.full(toy.N_POSITIONS, toy.N_CANDIDATES),
        seed=42,
        population_size=8,
    )
    best, told = (np.inf, None, None), []
    for _ in range(15):
        solutions = []
        for _ in range(8):
            z, chosen = strategy.ask()
            tokens = np.argmax(chosen, axis=1)
            value = float(toy.losses(tokens[None], z[None], ROWS).mean())
            solutions.append(((z, chosen), value))
            if value < best[0]:
                best = (value, tokens, z)
        told.append([value for _, value in solutions])
        strategy.tell(solutions)
    last = states(catcma.CatCMA(*SHAPE, catcma.CatCMA.Settings(popsize=8, sigma=0.8), seed=42), 15)[-1]
    np.testing.assert_allclose(last.told, told, rtol=0, atol=1e-15)
    assert np.array_equal(last.tokens, best[1])
    assert np.array_equal(last.z, best[2])
    other = states(catcma.CatCMA(*SHAPE, catcma.CatCMA.Settings(popsize=8, sigma=0.8), seed=43), 15)[-1]
    assert np.abs(other.told - told).max() > 1e-3


def test_catcma_learns_both_parts() -> None:
    pytest.importorskip("cmaes", reason="CatCMA needs the package cmaes (extra methods)")
    method = catcma.CatCMA(*SHAPE, catcma.CatCMA.Settings(popsize=16), seed=0)
    [prompt] = method.prompts(states(method, 120)[-1])
    loss = toy.losses(prompt.tokens[None], prompt.z[None], ROWS).mean() - toy.SHIFT.mean()
    assert loss < toy.BEST + 0.05


@pytest.mark.parametrize("shape", [(2, 1, 3), (2, 3, 1)])
def test_catcma_says_what_it_cannot_take(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least 2 candidates and 2 dimensions"):
        catcma.CatCMA(*shape)


@pytest.mark.parametrize("seed", [0, 2**32, 2**64 - 1])
def test_every_seed_of_a_run_is_a_seed_of_theirs(seed: int) -> None:
    for package, method in (("cma", bbt.BBT(*SHAPE, seed=seed)), ("cmaes", catcma.CatCMA(*SHAPE, seed=seed))):
        pytest.importorskip(package, reason="needs the extra methods")
        again = type(method)(*SHAPE, seed=seed)
        assert np.array_equal(states(method, 2)[-1].told, states(again, 2)[-1].told)


# -- SSPT ------------------------------------------------------------------------------------------------------------


def test_hard_threshold_is_the_nearest_sparse_point() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        z = np.round(rng.standard_normal(6), 1)
        for k in range(1, 8):
            sparse = sspt.hard_threshold(z, k)
            assert (sparse != 0).sum() <= k
            supports = [list(support) for support in combinations(range(6), min(k, 6))]
            nearest = min((np.delete(z, support) ** 2).sum() for support in supports)
            assert ((z - sparse) ** 2).sum() == pytest.approx(nearest, abs=1e-12)
    assert sspt.hard_threshold([1.0, -1.0, 1.0], 2).tolist() == [1.0, -1.0, 0.0]


def one_candidate(method: type[Method], settings: object) -> Method:
    return method(
        toy.N_POSITIONS, 1, toy.DIM, settings, 11
    )  # no choice of tokens: the continuous parts can be compared


@pytest.mark.parametrize("directions", ["per_example", "shared"])
def test_sspt_without_its_threshold_is_zo_pog_s_zeroth_order_half(directions: str) -> None:
    numbers = {"direction_pairs": 3, "mu": 0.1, "eta_z": 0.2, "decay": 0.1, "directions": directions}
    sparse = states(one_candidate(sspt.SSPT, sspt.SSPT.Settings(keep=toy.DIM, **numbers)), 6)
    dense = states(one_candidate(ZOPoG, Settings(policy=False, **numbers)), 6)
    assert all(np.array_equal(a.z, b.z) and a.loss == b.loss for a, b in zip(sparse[1:], dense[1:]))
    thresholded = states(one_candidate(sspt.SSPT, sspt.SSPT.Settings(keep=1, **numbers)), 6)
    assert [(state.z != 0).sum() for state in thresholded[1:]] == [1] * 6
    assert np.array_equal(thresholded[1].z, sspt.hard_threshold(dense[1].z, 1))


# -- random search ---------------------------------------------------------------------------------------------------


def test_random_search_keeps_the_best_of_all_it_drew() -> None:
    drawn: list[tuple[float, np.ndarray, np.ndarray]] = []

    def seen(tokens, z, examples):
        values = toy.losses(tokens, z, examples)
        drawn.extend(zip(values.mean(axis=1).tolist(), tokens, z))
        return values

    method = random_search.RandomSearch(*SHAPE, random_search.RandomSearch.Settings(samples=50, sigma=0.5), seed=2)
    last = states(method, 40, seen)[-1]
    loss, tokens, z = min(drawn, key=lambda one: one[0])
    assert (len(drawn), last.best_loss) == (2000, loss)
    assert np.array_equal(last.tokens, tokens)
    assert np.array_equal(last.z, z)
    every = np.stack([t for _, t, _ in drawn])
    points = np.stack([z for _, _, z in drawn])
    frequency = np.bincount(every.reshape(-1), minlength=toy.N_CANDIDATES) / every.size
    assert np.abs(frequency - 1 / toy.N_CANDIDATES).max() < 4 / np.sqrt(every.size)
    assert abs(points.std() - 0.5) < 0.03


def test_random_search_for_tokens_alone() -> None:
    method = random_search.RandomSearch(*SHAPE, random_search.RandomSearch.Settings(sigma=0.0), seed=2)
    [prompt] = method.prompts(states(method, 3)[-1])
    assert not prompt.z.any()


@pytest.mark.parametrize(
    ("settings", "change", "words"),
    [
        (bbt.BBT.Settings, {"popsize": 1}, "popsize is 1"),
        (bbt.BBT.Settings, {"sigma": 0.0}, "sigma is 0.0"),
        (bbt.BBT.Settings, {"bound": -1.0}, "bound is -1.0"),
        (catcma.CatCMA.Settings, {"popsize": 3}, "at least 4"),
        (catcma.CatCMA.Settings, {"sigma": -1.0}, "sigma is -1.0"),
        (sspt.SSPT.Settings, {"keep": 0}, "keep is 0"),
        (sspt.SSPT.Settings, {"mu": 0.0}, "mu is 0.0"),
        (sspt.SSPT.Settings, {"decay": -1.0}, "decay is -1.0"),
        (sspt.SSPT.Settings, {"directions": "both"}, "per_example, shared"),
        (random_search.RandomSearch.Settings, {"samples": 0}, "samples is 0"),
        (random_search.RandomSearch.Settings, {"sigma": -0.1}, "sigma is -0.1"),
    ],
)
def test_unusable_settings(settings: type, change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        settings(**change)
