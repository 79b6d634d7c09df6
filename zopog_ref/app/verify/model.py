"""The rows of zopog verify on the embedded language model: [V4] and [V5] with every prompt enumerated, and how bounded
and how smooth its loss is where the method is used."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zopog_models.frozen.model import load_model
from zopog_models.tasks.task_files import load_task
from zopog_ref.app.run.experiment import Experiment, prepare
from zopog_ref.app.run.presets import PRESETS
from zopog_ref.convergence.cases import Bench
from zopog_ref.convergence.comparison import Equality, Inequality, estimated
from zopog_ref.convergence.exact import all_prompts, prompt_atoms
from zopog_ref.convergence.lines import Line
from zopog_ref.convergence.problems import random_alpha
from zopog_ref.convergence.prompt_lemmas import (
    PolicyCase,
    exact_policy_gradient,
    exact_variance,
    unbiased,
    variance_formula,
)
from zopog_ref.distribution import sample
from zopog_ref.objective import Ledger, ModelObjective

FLOAT64 = NDArray[np.float64]
SHOTS = 2
TASK = "supersense"


@dataclass(frozen=True)
class ModelBench:
    """The embedded model on a task: n = 2, N = 5 with all 25 prompts, and the shipped preset for the probes."""

    objective: ModelObjective  # n = 2, N = 5
    rows: NDArray[np.int64]
    dim: int
    alpha: FLOAT64  # (2, 5)
    probe: ModelObjective  # the shipped n, N, d
    experiment: Experiment
    effort: Bench

    def table(self, z: FLOAT64) -> FLOAT64:
        """l_B of all 25 prompts, the batch being all rows."""
        tokens = all_prompts(2, 5)
        return self.objective.losses(tokens, np.broadcast_to(z, (25, self.dim)), self.rows).mean(axis=1)


def model_lines(bench: Bench) -> tuple[Line, ...]:
    """The rows, with the model loaded. Errors: ModuleNotFoundError when a package for the model is missing."""
    model, task, preset = load_model("embedded", threads=2), load_task(TASK), PRESETS["zo-pog", "embedded"]
    small = prepare(model, task, preset.changed(n_positions=2, n_candidates=5), bench.seed, SHOTS)
    whole = prepare(model, task, preset, bench.seed, SHOTS)
    ledger = Ledger(budget=10**12)
    made = ModelBench(
        small.objective(ledger), np.arange(len(small.train.labels)), preset.dim, random_alpha(bench.rng(60), 2, 5),
        whole.objective(ledger), whole, bench,
    )  # fmt: skip
    _note(made, "weights and tokenizer, SHA-256", f"{model.sha256[:12]}, {model.tokenizer_sha256[:12]}")
    where = "test_verify_model.py::"
    return (
        Line("model-V4", "V4", "Unbiased on the embedded model, 25 prompts.", "proved", enumerated_mean,
             where + "test_enumerated_mean", lambda b: enumerated_mean(made)),
        Line("model-V5", "V5", "Exact variance on the embedded model.", "proved", enumerated_variance,
             where + "test_enumerated_variance", lambda b: enumerated_variance(made)),
        Line("model-V4-run", "V4", "The same with the model queried anew.", "proved", queried_anew,
             where + "test_queried_anew", lambda b: queried_anew(made)[0]),
        Line("model-V5-run", "V5", "The same with the model queried anew.", "proved", queried_anew,
             where + "test_queried_anew", lambda b: queried_anew(made)[1]),
        Line("model-A3", "A3", "Largest loss seen against ln C, that of a guess.", "measured", largest_loss,
             where + "test_probes", lambda b: largest_loss(made), required=False),
        Line("model-A1", "A1", "eta_z of the preset against D2's largest, L_z seen.", "measured", smoothness,
             where + "test_probes", lambda b: smoothness(made), required=False),
    )  # fmt: skip


def _case(made: ModelBench) -> PolicyCase:
    key = "model case"
    if key not in made.effort.cache:
        atoms = prompt_atoms(made.alpha)
        made.effort.cache[key] = PolicyCase("25 prompts", atoms, made.table(_place(made)))
    return made.effort.cache[key]  # type: ignore[return-value]


def _place(made: ModelBench) -> FLOAT64:
    """A continuous prompt as long as a run's after some steps."""
    return 0.05 * made.effort.rng(61).standard_normal(made.dim)


def enumerated_mean(made: ModelBench) -> list[Equality]:
    """Unbiased [V4] on a language model: all tuples of I = 2 (and 3) of the 25 prompts."""
    sizes = (2, 3) if made.effort.effort.name == "full" else (2,)
    return [unbiased(_case(made), size, made.effort.policy) for size in sizes]


def enumerated_variance(made: ModelBench) -> list[Equality]:
    """Exact variance [V5] on a language model: all tuples of I = 2 (and 3) of the 25 prompts."""
    sizes = (2, 3) if made.effort.effort.name == "full" else (2,)
    return [exact_variance(_case(made), size, made.effort.policy) for size in sizes]


def queried_anew(made: ModelBench) -> tuple[Equality, Equality]:
    """[V4] and [V5] end to end: prompts drawn as Algorithm 1 draws them, the model asked for each step's losses.

    Along the gradient the estimate must be 1 in the mean, and its squared distance from it the variance of [V5].
    """
    if "model run" not in made.effort.cache:
        case, rng, samples = _case(made), made.effort.rng(62), 4
        G, times = exact_policy_gradient(case), 4000 if made.effort.effort.name == "full" else 600
        z, alpha, p = _place(made), made.alpha, case.atoms.p
        tokens = sample(p, rng.random((times * samples, 2)))
        losses = np.concatenate([
            made.objective.losses(part, np.broadcast_to(z, (len(part), made.dim)), made.rows).mean(axis=1)
            for part in np.array_split(tokens, max(1, len(tokens) // 200))
        ])  # fmt: skip
        along, spread = np.empty(times), np.empty(times)
        for r in range(times):
            part = slice(r * samples, (r + 1) * samples)
            g = np.asarray(made.effort.policy(losses[part], tokens[part], alpha, p, 1.0))
            along[r], spread[r] = (g * G).sum() / (G * G).sum(), ((g - G) ** 2).sum()
        predicted = variance_formula(case.atoms.weight, case.losses, case.atoms.score, samples)
        name = f"I = {samples}, {len(made.rows)} rows"
        made.effort.cache["model run"] = (estimated(along, 1.0, name), estimated(spread, predicted, name))
    return made.effort.cache["model run"]  # type: ignore[return-value]


def _random_prompts(made: ModelBench, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    preset = made.experiment.preset
    return rng.integers(preset.n_candidates, size=(count, preset.n_positions))


def largest_loss(made: ModelBench) -> Inequality:
    """Bounded loss [A3]: cross-entropy has no bound of its own; F is at least the largest f seen, here against ln C.

    Random prompts at z = 0 and at z of the lengths 1, 3 and 10.
    """
    rng, dim = made.effort.rng(63), made.dim
    directions = rng.standard_normal((8, dim))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    losses = {
        length: made.probe.losses(_random_prompts(made, 8, rng), length * directions, made.rows)
        for length in (0.0, 1.0, 3.0, 10.0)
    }
    for length, values in losses.items():
        _note(made, f"f at ||z|| = {length:g}", f"{values.min():.3f} to {values.max():.3f}, mean {values.mean():.3f}")
    worst = max(float(v.max()) for v in losses.values())
    return Inequality(worst, float(np.log(made.experiment.labels.size)), "F seen on the left, ln C on the right")


def smoothness(made: ModelBench) -> Inequality:
    """Smoothness in z [A1]: |h''| along random unit directions, h = f(t, . ; x), against the step size of [D2].

    h'' by central differences with step 0.1, over 4 float32 digits above round-off, at 21 points from -1 to 1. The
    largest over directions and rows is a lower bound on L_z; eta_z must be at most min(1, I_2/(4(d+2)))/L_z in [D2].
    """
    rng, lines, step = made.effort.rng(64), 8 if made.effort.effort.name == "full" else 3, 0.1
    x = np.arange(-11, 12) * step
    tokens = _random_prompts(made, 1, rng)
    curvature = []
    for _ in range(lines):
        v = rng.standard_normal(made.dim)
        z = np.outer(x, v / np.linalg.norm(v))
        h = made.probe.losses(np.repeat(tokens, len(x), axis=0), z, made.rows)  # (23, B)
        curvature.append(np.abs(h[2:] - 2 * h[1:-1] + h[:-2]) / step**2)
    seen = np.stack(curvature)  # (lines, 21, B)
    L_z, settings, d = float(seen.max()), made.experiment.preset.method, made.dim
    allowed = min(1.0, settings.direction_pairs / (4 * (d + 2))) / L_z
    _note(made, "|h''| along random lines, single rows", f"largest {L_z:.3g}, median {np.median(seen):.3g}")
    _note(made, "largest eta_z of D2 with that L_z", f"{allowed:.3g}; the preset has {settings.eta_z:g}")
    _radius(made, tokens, rng)
    return Inequality(settings.eta_z, allowed, f"L_z seen {L_z:.3g}, d = {d}, I2 = {settings.direction_pairs}")


def _radius(made: ModelBench, tokens: NDArray[np.int64], rng: np.random.Generator) -> None:
    """How far the slopes of single pairs are from those for mu -> 0, for each mu: bias on the right, round-off on the
    left. The reference is Richardson's (4 s(mu) - s(2 mu)) / 3 at mu = 0.01."""
    pairs, radii = 16, np.array([1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 2e-2, 3e-2, 1e-1, 3e-1])
    u = rng.standard_normal((pairs, made.dim))

    def slopes(mu: float) -> FLOAT64:
        both = made.probe.losses(np.repeat(tokens, 2 * pairs, axis=0), np.concatenate([mu * u, -mu * u]), made.rows)
        mean = both.mean(axis=1)
        return np.asarray((mean[:pairs] - mean[pairs:]) / (2 * mu))

    reference = (4 * slopes(0.01) - slopes(0.02)) / 3
    size = np.sqrt((reference**2).mean())
    for mu in radii:
        error = np.sqrt(((slopes(float(mu)) - reference) ** 2).mean()) / size
        _note(made, f"error of a pair's slope at mu = {mu:g}", f"{error:.2%} of the slope")


def _note(made: ModelBench, name: str, value: Any) -> None:
    made.effort.cache.setdefault("model", {})[name] = value  # type: ignore[index]
