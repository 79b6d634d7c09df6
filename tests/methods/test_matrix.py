"""Every method x every synthetic problem x every embedded task: it runs, charges what it says, resumes bit for bit,
never overspends. A method joins by standing in the registry."""

import copy
import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from zopog_ref import DevScore, FunctionObjective, Ledger, Method, WeightedPrompt, run, search
from zopog_ref.convergence import problems
from zopog_ref.methods import METHODS, method_class, settings_class

SEED, BATCH = 7, 5
needs_model = pytest.mark.skipif(
    any(importlib.util.find_spec(package) is None for package in ("onnxruntime", "tokenizers")),
    reason="the embedded tasks need the extra cpu",
)

SYNTHETIC: dict[str, problems.Problem] = {
    "table quadratic": problems.table_quadratic(np.random.default_rng(0), 2, 4, 3, 12),
    "gaussian wells": problems.gaussian_wells(np.random.default_rng(1), 2, 4, 3, 12),
    "binary vocabulary": problems.binary_vocabulary(np.random.default_rng(2), 3, 2, 12),
    "separable table": problems.SeparableTable(np.random.default_rng(3).random((6, 8)), d=2, rows=12),
    "kink": problems.Kink(d=4, n=2, n_candidates=2, rows=12),
}


@pytest.fixture(params=METHODS)
def name(request: pytest.FixtureRequest) -> str:
    for package in METHODS[request.param].packages:
        pytest.importorskip(package, reason="this method needs the extra methods")
    return str(request.param)


class Counted:
    """An objective that counts for itself what it is asked; thinned, its losses shrink with the mask (Clip-Tuning)."""

    hidden_units = (2, 3)

    def __init__(self, inner) -> None:
        self.inner, self.counts, self.factor = inner, {"prompts": 0, "calls": 0}, 1.0

    @property
    def ledger(self) -> Ledger:
        return self.inner.ledger

    def losses(self, tokens, z, examples):
        losses = self.inner.losses(tokens, z, examples)
        self.counts["prompts"] += losses.shape[0]
        self.counts["calls"] += losses.shape[0] * -(-losses.shape[1] // BATCH)
        return self.factor * losses

    def thinned(self, unit_mask):
        network = copy.copy(self)  # the counts are shared
        network.factor = float(unit_mask.mean())
        return network


class Memory:
    """A store that can be cut off after any save, and hands out copies only."""

    def __init__(self, saves: int | None = None) -> None:
        self.arrays, self.curve, self.saves = None, [], saves

    def load(self):
        return None if self.arrays is None else ({k: v.copy() for k, v in self.arrays.items()}, list(self.curve))

    def save(self, arrays, record) -> None:
        if self.saves is not None and len(self.curve) == self.saves:
            raise KeyboardInterrupt
        self.arrays, self.curve = {k: np.array(v) for k, v in arrays.items()}, [*self.curve, record]


def same(a: search.SearchResult, b: search.SearchResult) -> bool:
    """Same curve, same selection, same prompts: bit for bit."""
    return (
        a.curve == b.curve and (a.best_step, a.dev, a.stop_reason) == (b.best_step, b.dev, b.stop_reason)
        and len(a.prompts) == len(b.prompts)
        and all(np.array_equal(x, y) for p, q in zip(a.prompts, b.prompts) for x, y in zip(p, q))
    )  # fmt: skip


def on(problem: problems.Problem, make: Callable[..., Method], steps: float, store: Memory | None = None):
    """A run of `steps` steps on a problem; (result, what was counted, price of a step)."""
    method = make(problem.n, problem.n_candidates, problem.d, None, SEED)
    middle = np.median(problem.losses(*_anything(problem, method), np.arange(problem.rows)))

    def losses(tokens, z, examples):
        value = np.broadcast_to(problem.losses(tokens, z, examples), (len(tokens), len(examples)))
        return (value > middle).astype(float) if method.loss == "error" else value

    def dev(prompts: list[WeightedPrompt]) -> DevScore:
        value = sum(p.weight * losses(p.tokens[None], p.z[None], np.arange(problem.rows)).mean() for p in prompts)
        return DevScore(0.0, float(value))

    ledger = Ledger(0, batch_size=BATCH)
    price = search.step_price(method, ledger, problem.rows, BATCH)
    ledger.budget = int(steps * price)
    counted = Counted(FunctionObjective(losses, ledger))
    return run(method, counted, rows=problem.rows, batch_size=BATCH, dev=dev, store=store), counted, price


def _anything(problem: problems.Problem, method: Method):
    rng = np.random.default_rng(4)
    return rng.integers(0, problem.n_candidates, (20, problem.n)), rng.standard_normal((20, problem.d))


# -- the checks, for a method's class -------------------------------------------------------------------------------


def check_charges(make: Callable[..., Method], problem: problems.Problem) -> None:
    """Each step costs what the method says; all that the budget allows is used, and no more."""
    result, counted, price = on(problem, make, 4.9)
    assert counted.counts["calls"] == counted.ledger.calls == result.curve[-1].calls <= counted.ledger.budget
    spent = np.diff([0, *(record.calls for record in result.curve)])
    rows = [len(search.step_rows(make(problem.n, problem.n_candidates, problem.d, None, SEED), s, problem.rows, BATCH))
            for s in range(len(spent))]  # fmt: skip
    assert counted.counts["prompts"] == len(spent) * price // -(-max(rows) // BATCH)
    assert (spent == price).all()
    assert len(spent) == 4 or result.stop_reason not in ("", "budget")


def check_result(make: Callable[..., Method], problem: problems.Problem) -> None:
    """Prompts that exist, weights that sum to 1, a curve of finite numbers."""
    result, _, _ = on(problem, make, 4.9)
    assert sum(prompt.weight for prompt in result.prompts) == pytest.approx(1)
    for prompt in result.prompts:
        assert (prompt.tokens.shape, prompt.z.shape) == ((problem.n,), (problem.d,))
        assert prompt.tokens.dtype == np.int64
        assert ((0 <= prompt.tokens) & (prompt.tokens < problem.n_candidates)).all()
        assert np.isfinite(prompt.z).all()
    values = [value for record in result.curve for value in record.diagnostics.values()]
    assert "loss" in result.curve[0].diagnostics
    assert np.isfinite(values).all()


def check_resumes(make: Callable[..., Method], problem: problems.Problem, cuts: tuple[int, ...] = (1, 3)) -> None:
    """Cut after a step and taken up by another instance, a run repeats an uninterrupted one bit for bit."""
    whole = on(problem, make, 4.9)[0]
    for cut in cuts:
        if len(whole.curve) > cut:
            store = Memory(cut)
            with pytest.raises(KeyboardInterrupt):
                on(problem, make, 4.9, store)
            store.saves = None
            assert same(on(problem, make, 4.9, store)[0], whole)


@pytest.mark.parametrize("problem", SYNTHETIC)
def test_synthetic(name: str, problem: str) -> None:
    random_state = np.random.get_state()[1].copy()  # noqa: NPY002
    for check in (check_charges, check_result, check_resumes):
        check(method_class(name), SYNTHETIC[problem])
    assert np.array_equal(np.random.get_state()[1], random_state)  # noqa: NPY002  nobody drew from NumPy's global


# -- embedded tasks, through a run folder ----------------------------------------------------------------------------

SHAPE = {"n_positions": 2, "n_candidates": 6, "dim": 4, "batch_size": 8}


@pytest.fixture(scope="module", params=["hyponym", "supersense"])
def experiment(request: pytest.FixtureRequest):
    from zopog_models.frozen.model import load_model
    from zopog_models.tasks.task_files import load_task
    from zopog_ref.app.run.experiment import prepare
    from zopog_ref.app.run.presets import PRESETS

    preset = PRESETS["zo-pog", "embedded"].changed(**SHAPE)
    return prepare(load_model("embedded", threads=1), load_task(request.param), preset, SEED, shots=2)


def in_folder(experiment, path: Path, steps: float, stop_after: int | None = None):
    """A run (or the rest of one) in a run folder, of `steps` steps, that is asked to stop after some."""
    from zopog_ref.app.run.folder import RunFolder

    rows = len(experiment.train.labels)
    ledger = Ledger(0, batch_size=experiment.preset.batch_size)
    price = search.step_price(experiment.method(), ledger, rows, experiment.preset.batch_size)
    ledger.budget = int(steps * price)
    folder = RunFolder.open(path)[0] if (path / "config.json").exists() else RunFolder.create(path, {})
    done = iter(range(10**6))
    try:
        return run(
            experiment.method(), experiment.objective(ledger, folder), rows=rows, store=folder,
            batch_size=experiment.preset.batch_size, dev=experiment.dev_score,
            should_stop=lambda: stop_after is not None and next(done) >= stop_after,
        ), price  # fmt: skip
    finally:
        folder.close()


@needs_model
def test_embedded(name: str, experiment, tmp_path: Path) -> None:
    preset = dataclasses.replace(experiment.preset, method=settings_class(name)(), method_name=name)
    chosen = dataclasses.replace(experiment, preset=preset)
    whole, price = in_folder(chosen, tmp_path / "whole", 2.5)
    assert [record.calls for record in whole.curve] == [price * (s + 1) for s in range(len(whole.curve))]
    assert len(whole.curve) == 2 or whole.stop_reason != "budget"
    cut, _ = in_folder(chosen, tmp_path / "cut", 2.5, stop_after=1)
    assert cut.stop_reason == "interrupted"
    assert same(in_folder(chosen, tmp_path / "cut", 2.5)[0], whole)
    assert (tmp_path / "cut" / "curve.jsonl").read_bytes() == (tmp_path / "whole" / "curve.jsonl").read_bytes()
    deployed = chosen.deployable(whole.prompts)
    assert deployed.ids.shape == (len(whole.prompts), SHAPE["n_positions"])


# -- the same checks fail for a method that breaks its word ----------------------------------------------------------


def broken(name: str = "random-search"):
    return method_class(name)


class Forgets(broken()):  # type: ignore[misc]
    """Draws from a generator that no state holds."""

    def __init__(self, *shape) -> None:
        super().__init__(*shape)
        self.rng = np.random.default_rng(0)

    def _draw(self, step):
        tokens, z = super()._draw(step)
        return tokens, z + self.rng.standard_normal(z.shape)


class Understates(broken()):  # type: ignore[misc]
    """Asks for two prompts more than it says."""

    @property
    def calls_per_step(self) -> int:
        return super().calls_per_step - 2


class Overweights(broken()):  # type: ignore[misc]
    """Deploys its prompt twice at full weight."""

    def prompts(self, state):
        return 2 * super().prompts(state)


@pytest.mark.parametrize(
    ("check", "twin"), [(check_resumes, Forgets), (check_charges, Understates), (check_result, Overweights)]
)
def test_a_broken_method_is_caught(check, twin) -> None:
    problem = SYNTHETIC["gaussian wells"]
    check(broken(), problem)
    with pytest.raises(AssertionError):
        check(twin, problem)
