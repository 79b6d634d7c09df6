"""What was tried to make ZO-PoG better, and did not all earn its place: the ablation of docs/zo-pog.md, on dev alone.

    python benchmarks/zopog_variants.py --out variants.jsonl [--only NAME ...]

A number is the accuracy on the task's WHOLE dev file of the prompt that a run selected on its few-shot dev rows, at 400
and at 800 calls of one run. No test row is read. A line of the file for each run; a run that is there is not repeated.
"""

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from zopog_models.frozen.model import FrozenModel, load_model
from zopog_models.tasks.task_files import load_task, read_rows
from zopog_ref import perturb, policy_gradient, probabilities, sample, search, two_point_gradient
from zopog_ref.app.run.experiment import Experiment, prepare
from zopog_ref.app.run.presets import PRESETS
from zopog_ref.app.tune.result import evaluate
from zopog_ref.distribution import mode
from zopog_ref.method import Method, WeightedPrompt
from zopog_ref.methods.fixed_tokens import fixed_tokens
from zopog_ref.objective import Ledger, Objective
from zopog_ref.randomness import Purpose, normal, uniform

NEVER = 10**9


@dataclass(frozen=True)
class VariantState:
    """alpha and z; a running mean of g_z, and one of z for averaging."""

    step: int
    alpha: np.ndarray
    z: np.ndarray
    direction: np.ndarray
    average: np.ndarray


class Variant(Method):
    """Pairs that feed both halves, after a screening step or not, with everything that was tried on top."""

    @dataclass(frozen=True)
    class Settings:
        """All off but the pairs; eta_alpha is a step of log alpha where natural, else of alpha."""

        screen: int = 40  # prompts of the first step, on one mini-batch; 0: none
        confidence: float = np.inf  # log-odds of the screened prompt beyond N : 1; inf: it is kept
        draws: int = 1  # K prompts a step; 1: none but the mode is asked about
        pairs: int = 20  # M for each
        natural: bool = True  # multiplicative steps of alpha
        commit: int = NEVER  # steps after which the mode is kept
        orthogonal: bool = False  # directions of a row's pairs
        momentum: float = 0.0
        average: float = 0.0  # of z, exponential, deployed
        clip: float = np.inf  # largest norm of g_z
        guided: float = 0.0  # more variance of u along the running mean of g_z
        mu: float = 0.1
        eta_z: float = 1.2
        eta_alpha: float = 1.0
        decay: float = 0.06

    settings: Settings

    @property
    def calls_per_step(self) -> int:
        """At most: the first step may be the screening."""
        return max(2 * self.settings.draws * self.settings.pairs, self.settings.screen)

    def init(self) -> VariantState:
        """Uniform, or one random prompt where there is neither screening nor learning."""
        alpha = np.full((self.n_positions, self.n_candidates), 1 / self.n_candidates)
        if self.settings.draws == 1 and not self.settings.screen:
            alpha = self._around(fixed_tokens(self.seed, self.n_positions, self.n_candidates), np.inf)
        nothing = np.zeros(self.dim)
        return VariantState(0, alpha, nothing, nothing, nothing)

    def _around(self, tokens: np.ndarray, confidence: float) -> np.ndarray:
        alpha = np.ones((self.n_positions, self.n_candidates))
        alpha[np.arange(self.n_positions), tokens] = min(self.n_candidates * np.exp(confidence), 1e9)
        return np.asarray(alpha / alpha.sum(axis=1, keepdims=True))

    def step(self, state: VariantState, objective: Objective, examples: Any) -> VariantState:
        """The screening, or a step on both blocks from the same pairs."""
        s, K, M = self.settings, self.settings.draws, self.settings.pairs
        if s.screen and not state.step:
            u = uniform(self.seed, 0, Purpose.TOKENS_SEARCH, (s.screen, self.n_positions))
            tokens = np.floor(u * self.n_candidates).astype(np.int64)
            losses = objective.losses(tokens, np.zeros((s.screen, self.dim)), examples).mean(axis=1)
            return replace(state, step=1, alpha=self._around(tokens[losses.argmin()], s.confidence))
        since = state.step - bool(s.screen)
        learning = K > 1 and since < s.commit
        eta_z, eta_alpha = (eta / (1 + s.decay * since) for eta in (s.eta_z, s.eta_alpha))
        p = probabilities(state.alpha)
        if learning:
            tokens = sample(p, uniform(self.seed, state.step, Purpose.TOKENS_POLICY, (K, self.n_positions)))
        else:
            tokens, K, M = mode(state.alpha)[None], 1, K * M
        u = self._directions(state, K * M, len(examples))
        points = np.concatenate(perturb(state.z, u, s.mu))
        losses = objective.losses(np.tile(np.repeat(tokens, M, axis=0), (2, 1)), points, examples)  # (2 K M, B)
        plus, minus = losses[: K * M], losses[K * M :]
        g = two_point_gradient(plus, minus, u, s.mu, 2.0**-24)
        g = g * min(1.0, s.clip / float(np.linalg.norm(g)))
        keep = s.momentum or s.guided
        direction = s.momentum * state.direction + (1 - s.momentum) * g if keep else g
        z = state.z - eta_z * (direction if s.momentum else g)
        alpha = state.alpha
        if learning:
            of_prompt = (plus + minus).mean(axis=1).reshape(K, M).mean(axis=1) / 2  # h_k of [J1]
            alpha = self._learned(alpha, policy_gradient(of_prompt, tokens, alpha, p), eta_alpha)
        return VariantState(state.step + 1, alpha, z, direction, s.average * state.average + (1 - s.average) * z)

    def _learned(self, alpha: np.ndarray, g: np.ndarray, eta: float) -> np.ndarray:
        if not self.settings.natural:
            return np.maximum(alpha - eta * g, 1e-11)
        alpha = np.exp(np.log(alpha) - eta * alpha * g)  # a gradient step of log alpha
        return np.maximum(alpha / alpha.sum(axis=1, keepdims=True), 1e-9)

    def _directions(self, state: VariantState, pairs: int, batch: int) -> np.ndarray:
        u = normal(self.seed, state.step, Purpose.DIRECTIONS, (pairs, batch, self.dim)).astype(np.float64)
        length = np.linalg.norm(state.direction)
        if self.settings.guided and length:
            h = state.direction / length
            u += (np.sqrt(1 + self.settings.guided) - 1) * (u @ h)[..., None] * h
        if self.settings.orthogonal:
            for b in range(batch):
                q, _ = np.linalg.qr(u[:, b].T)
                u[:, b] = q.T * np.linalg.norm(u[:, b], axis=1)[:, None]
        return np.asarray(u)

    def prompts(self, state: VariantState) -> list[WeightedPrompt]:
        """The mode, and z or its mean."""
        s = self.settings
        steps = state.step - bool(s.screen)  # which have moved z
        z = state.average / (1 - s.average**steps) if s.average and steps > 0 else state.z
        return [WeightedPrompt(mode(state.alpha), z, 1.0)]


SHIPPED = PRESETS["zo-pog", "embedded"].method
FASTER = replace(SHIPPED, eta_z=0.7, decay=0.06)
FEW = {"draws": 5, "pairs": 4}
TRIED: dict[str, tuple[int, Any]] = {  # name -> n, settings
    "alternating": (20, SHIPPED),
    "alternating, faster": (20, FASTER),
    "alternating, faster, n = 5": (5, FASTER),
    "screened": (5, Variant.Settings()),
    "screened, slower": (5, Variant.Settings(eta_z=0.7, decay=0.03)),
    "screened, slower, n = 10": (10, Variant.Settings(eta_z=0.7, decay=0.03)),
    "screened, slower, n = 20": (20, Variant.Settings(eta_z=0.7, decay=0.03)),
    "not screened, slower": (5, Variant.Settings(screen=0, eta_z=0.7, decay=0.03)),
    "not screened, slower, n = 20": (20, Variant.Settings(screen=0, eta_z=0.7, decay=0.03)),
    "joint, slower": (5, Variant.Settings(screen=0, commit=5, eta_z=0.7, decay=0.03, **FEW)),
    "screened, then joint, slower": (5, Variant.Settings(confidence=1.0, commit=5, eta_z=0.7, decay=0.03, **FEW)),
    "joint": (5, Variant.Settings(screen=0, commit=5, **FEW)),
    "joint, steps of alpha itself": (5, Variant.Settings(screen=0, commit=5, natural=False, eta_alpha=30.0, **FEW)),
    "joint, a prompt a pair": (5, Variant.Settings(screen=0, commit=5, draws=20, pairs=1)),
    "screened, orthogonal": (5, Variant.Settings(orthogonal=True)),
    "screened, averaged": (5, Variant.Settings(average=0.8)),
    "screened, clipped": (5, Variant.Settings(clip=0.5)),
    "screened, slower, momentum": (5, Variant.Settings(momentum=0.5, eta_z=0.7, decay=0.03)),
    "screened, slower, guided": (5, Variant.Settings(guided=1.0, eta_z=0.7, decay=0.03)),
}  # fmt: skip


def accuracies(model: FrozenModel, experiment: Experiment, method: Method, marks: tuple[int, ...]) -> dict[str, float]:
    """Accuracy on the whole dev file at each number of calls."""
    task, p = experiment.task, experiment.preset
    assert task.dev is not None
    rows, every = len(experiment.train.labels), -(-len(experiment.train.labels) // p.batch_size)
    objective = experiment.objective(Ledger(max(marks), batch_size=p.batch_size))
    state, best, prompts, found = method.init(), None, None, {}
    for mark in sorted(marks):
        while objective.ledger.calls + method.calls_per_step <= mark:
            state = method.step(state, objective, search.step_rows(method, state.step, rows, p.batch_size))
            score = experiment.dev_score(method.prompts(state)) if state.step % every == 0 else None
            if score is not None and score.beats(best):
                best, prompts = score, method.prompts(state)
        if prompts is None or experiment.dev_score(method.prompts(state)).beats(best):
            shown = method.prompts(state)
        else:
            shown = prompts
        found[str(mark)] = float(
            evaluate(model, experiment.deployable(shown), task, read_rows(task.dev, task))["accuracy"]
        )
    return found


def main() -> None:
    """Run what is not there yet, then print the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--task", default="supersense")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", nargs="*", choices=list(TRIED), default=list(TRIED), metavar="NAME")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    model, task = load_model(asked.model, threads=1), load_task(asked.task)
    lines = [json.loads(line) for line in asked.out.read_text().splitlines()] if asked.out.exists() else []
    for name in asked.only:
        n, settings = TRIED[name]
        for seed in asked.seeds:
            if any((line["name"], line["seed"]) == (name, seed) for line in lines):
                continue
            experiment = prepare(model, task, replace(PRESETS["zo-pog", "embedded"], n_positions=n), seed, shots=16)
            p = experiment.preset
            kind = Variant if isinstance(settings, Variant.Settings) else type(experiment.method())
            method = kind(n, p.n_candidates, p.dim, settings, seed)
            found = accuracies(model, experiment, method, (400, 800))
            lines.append({"name": name, "seed": seed, "n": n, "dev": found, "settings": asdict(settings)})
            with asked.out.open("a") as file:
                file.write(json.dumps(lines[-1]) + "\n")
        of_name = [line["dev"] for line in lines if line["name"] == name]
        means = {calls: round(100 * float(np.mean([one[calls] for one in of_name])), 1) for calls in of_name[0]}
        print(name, means, flush=True)


if __name__ == "__main__":
    main()
