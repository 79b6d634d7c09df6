"""CmaEs against `cma` called directly, and what resuming must not change."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

from zopog_ref.methods import blas_threads
from zopog_ref.methods.cma_es import CmaEs, standing_at

pytest.importorskip("cma", reason="the evolution strategy is in the methods extra")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import cma

GENERATIONS = 12


def losses(points: np.ndarray) -> np.ndarray:
    return ((points - 0.3) ** 2 * np.arange(1, points.shape[1] + 1)).sum(axis=1)


def trajectory(search: CmaEs, generations: int = GENERATIONS) -> np.ndarray:
    asked = []
    for _ in range(generations):
        asked.append(search.ask())
        search.tell(losses(asked[-1]))
    return np.array(asked)


def direct(dim: int, sigma: float, options: dict[str, object], generations: int = GENERATIONS) -> np.ndarray:
    strategy = cma.CMAEvolutionStrategy(np.zeros(dim), sigma, options | {"verbose": -10, "verb_log": 0})
    asked = []
    for _ in range(generations):
        points = strategy.ask()
        asked.append(np.array(points))
        strategy.tell(points, losses(np.array(points)).tolist())
    return np.array(asked)


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize(("dim", "bound"), [(1, None), (3, None), (7, 0.5), (120, None)])
def test_the_trajectory_is_cma_s_own(dim: int, bound: float | None, diagonal: bool) -> None:
    """In 120 dimensions cma draws between the points as well, from the global state: there a private stream would part."""
    ours = trajectory(CmaEs(dim, 0.7, 8, seed=5, diagonal=diagonal, bound=bound))
    bounds = [None, None] if bound is None else [-bound, bound]
    options: dict[str, object] = {"popsize": 8, "CMA_diagonal": diagonal, "bounds": bounds}
    assert np.array_equal(ours, direct(dim, 0.7, options | {"seed": 5}))
    assert not np.array_equal(ours, direct(dim, 0.7, options | {"seed": 6}))
    if bound is not None:
        assert np.abs(ours).max() <= bound


def test_the_whole_covariance_is_learned_unless_asked_otherwise() -> None:
    assert np.array_equal(trajectory(CmaEs(3, 0.7, 8, 5)), trajectory(CmaEs(3, 0.7, 8, 5, diagonal=False)))
    assert not np.array_equal(trajectory(CmaEs(3, 0.7, 8, 5)), trajectory(CmaEs(3, 0.7, 8, 5, diagonal=True)))


@pytest.mark.parametrize("seed", [100, 2**32 - 2])
def test_a_seed_of_32_bits_is_cma_s_own(seed: int) -> None:
    assert np.array_equal(trajectory(CmaEs(3, 0.7, 8, seed), 2), direct(3, 0.7, {"popsize": 8, "seed": seed}, 2))


def test_a_seed_above_32_bits_is_its_two_words() -> None:
    given = CmaEs(3, 0.7, 8, 5 + 2**33).ask()
    np.random.seed([5, 2])  # noqa: NPY002
    strategy = cma.CMAEvolutionStrategy(np.zeros(3), 0.7, {"popsize": 8, "seed": np.nan, "verbose": -10, "verb_log": 0})
    assert np.array_equal(given, np.array(strategy.ask()))


@pytest.mark.parametrize("seed", [0, 2**32 - 1, 2**32, 2**63])
def test_every_seed_is_a_seed(seed: int) -> None:
    one, again = trajectory(CmaEs(3, 1.0, 6, seed)), trajectory(CmaEs(3, 1.0, 6, seed))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, trajectory(CmaEs(3, 1.0, 6, seed % 2**32 + 1)))


def test_replaying_the_losses_is_going_on() -> None:
    whole = trajectory(CmaEs(5, 1.0, 8, seed=3))
    for stop in (0, 1, 7):
        first = CmaEs(5, 1.0, 8, seed=3)
        trajectory(first, stop)
        again = CmaEs(5, 1.0, 8, seed=3, told=first.told)
        assert again.told.shape == (stop, 8)
        assert np.array_equal(trajectory(again, GENERATIONS - stop), whole[stop:])


def test_one_other_loss_is_another_trajectory() -> None:
    """The twin of replaying: a history with two losses exchanged."""
    first = CmaEs(5, 1.0, 8, seed=3)
    trajectory(first, 7)
    told = first.told
    told[2, [0, 1]] = told[2, [1, 0]]
    assert not np.array_equal(CmaEs(5, 1.0, 8, seed=3, told=told).ask(), first.ask())


def test_the_global_random_state_is_left_alone() -> None:
    np.random.seed(1)  # noqa: NPY002
    expected = np.random.rand(2)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    search = CmaEs(120, 1.0, 8, seed=3)
    drawn = [np.random.rand()]  # noqa: NPY002
    trajectory(search, 6)
    drawn.append(np.random.rand())  # noqa: NPY002
    assert np.array_equal(drawn, expected)


def test_two_searches_do_not_disturb_each_other() -> None:
    one, other = CmaEs(120, 1.0, 8, seed=3), CmaEs(120, 1.0, 8, seed=4)
    pieces = []
    for _ in range(6):
        pieces.append(trajectory(one, 1)[0])
        trajectory(other, 1)
    assert np.array_equal(pieces, trajectory(CmaEs(120, 1.0, 8, seed=3), 6))


def test_asking_twice_gives_the_same_points() -> None:
    """A step that was interrupted between asking and telling asks again."""
    search = CmaEs(4, 1.0, 6, seed=1)
    first = search.ask()
    search.ask()[:] = 0  # what is handed out is a copy
    assert np.array_equal(search.ask(), first)


def test_equal_losses_are_survived() -> None:
    search = CmaEs(4, 1.0, 6, seed=1)
    for _ in range(40):
        assert np.isfinite(search.ask()).all()
        search.tell(np.ones(6))
    assert np.isfinite(search.mean).all()
    assert search.sigma > 0


def test_it_minimises() -> None:
    search = CmaEs(3, 1.0, 8, seed=2)
    trajectory(search, 60)
    assert np.abs(search.mean - 0.3).max() < 1e-2


def test_standing_at() -> None:
    made = []

    def fresh(told: np.ndarray) -> CmaEs:
        made.append(len(told))
        return CmaEs(3, 1.0, 6, seed=1, told=told)

    live = standing_at(None, np.empty((0, 6)), fresh)
    trajectory(live, 2)
    assert standing_at(live, live.told, fresh) is live
    assert standing_at(live, live.told[:1], fresh) is not live
    assert made == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 1.0, 6, 1), "dim >= 1"), ((3, 1.0, 1, 1), "popsize >= 2")],
)
def test_sizes(arguments: tuple[int, float, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CmaEs(*arguments)


def test_the_smallest_sizes() -> None:
    assert CmaEs(1, 1.0, 2, 1).ask().shape == (2, 1)


def test_the_search_starts_around_its_mean() -> None:
    """Moved by m and nothing else: points - m are those around 0."""
    here, there = CmaEs(3, 0.7, 8, 5), CmaEs(3, 0.7, 8, 5, mean=[1.0, 2.0, 4.0])
    np.testing.assert_allclose(there.ask() - [1.0, 2.0, 4.0], here.ask(), rtol=0, atol=1e-14)


def test_what_cannot_be_told() -> None:
    search = CmaEs(3, 1.0, 6, seed=1)
    with pytest.raises(ValueError, match="call ask"):
        search.tell(np.ones(6))
    search.ask()
    for wrong in (np.ones(5), np.array([1, 2, 3, 4, 5, np.nan])):
        with pytest.raises(ValueError, match="6 finite losses"):
            search.tell(wrong)


def test_loading_the_package_warns_of_nothing() -> None:
    """cma says at import that it cannot plot without matplotlib: nothing that its user here asked for."""
    code = (
        "import sys; sys.modules['matplotlib'] = None; from zopog_ref.methods.cma_es import CmaEs; CmaEs(1, 1.0, 4, 1)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


POINTS = """
import hashlib
import numpy as np
from zopog_ref.methods.catcma import CatCMA, MixedSearch
from zopog_ref.methods.cma_es import CmaEs
search = CmaEs(500, 1.0, 20, 0)  # its first decomposition of a matrix that is not diagonal is in the sixth generation
for _ in range(8):
    search.tell(((search.ask() - 1) ** 2).sum(axis=1))
mixed = MixedSearch((2, 3, 300), CatCMA.Settings(), 0, np.zeros((0, 20)))
for _ in range(4):
    tokens, z = mixed.ask()
    mixed.tell(((z - 1) ** 2).sum(axis=1))
print(*(hashlib.sha256(points.tobytes()).hexdigest() for points in (search.ask(), mixed.ask()[1])))
"""


def test_the_points_are_the_same_for_any_number_of_blas_threads() -> None:
    """A run that is resumed on more cores goes on as it would have (without the limit, d = 500 differs)."""
    pytest.importorskip("cmaes", reason="CatCMA needs the package cmaes (extra methods)")
    found = set()
    for threads in ("1", "2", "3"):
        environment = os.environ | dict.fromkeys(
            ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads
        )
        done = subprocess.run(
            [sys.executable, "-c", POINTS], env=environment, capture_output=True, text=True, check=True
        )
        found.add(done.stdout)
    assert len(found) == 1


def test_the_number_of_threads_is_put_back() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    threads = [library["num_threads"] for library in threadpoolctl.threadpool_info()]
    CmaEs(3, 1.0, 6, seed=1).ask()
    assert [library["num_threads"] for library in threadpoolctl.threadpool_info()] == threads


def test_without_threadpoolctl(monkeypatch: pytest.MonkeyPatch) -> None:
    blas_threads._libraries.cache_clear()
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with pytest.raises(ImportError, match=r'pip install "threadpoolctl>=3\.5"'):
        CmaEs(3, 1.0, 6, seed=1)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cma", None)
    with pytest.raises(ImportError, match=r'pip install "cma>=4\.0"'):
        CmaEs(3, 1.0, 6, seed=1)
