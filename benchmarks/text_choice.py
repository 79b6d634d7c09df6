"""Which questions to ask: racing against ZO-PoG's policy half and BDPL over one pool of texts, on equal calls.

    python benchmarks/text_choice.py --task supersense --out supersense.json

Texts: position 1 has the task's templates and generic ones, position 2 nothing, an instruction or demonstrations. Every
chooser pays once for the rows that it asks; the prompts that it ends with answer all training rows within the budget,
and are read together by one vocabulary readout. Settings are chosen by accuracy on the dev file with --tuning-seeds for
each budget, or taken over with --like; the test file is read with --seeds.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zopog_models.frozen.model import FrozenModel, load_model
from zopog_models.tasks.task_files import load_task
from zopog_models.tasks.template import Task
from zopog_ref.algorithm import Settings, ZOPoG
from zopog_ref.app.compare.paired import crossed
from zopog_ref.app.run.experiment import prepare
from zopog_ref.app.run.presets import preset_of
from zopog_ref.app.run.splits import taken
from zopog_ref.app.tune.arms import INSTRUCTIONS, Arm, demonstrated, instructed, templates
from zopog_ref.app.tune.readings import TOKENS, groups_of, prompt_of, scores_of, some_training_scores
from zopog_ref.ledger import Ledger
from zopog_ref.method import Method
from zopog_ref.methods.bdpl import BDPL
from zopog_ref.objective import cross_entropy
from zopog_ref.racing import Race, TextObjective
from zopog_ref.randomness import Purpose, permutation
from zopog_ref.readout import vocabulary

FLOAT64 = NDArray[np.float64]
INT64 = NDArray[np.int64]
BATCH = 32
IDLE = 25  # steps without a new question, after which a policy ends

Chosen = tuple[int, ...]
Chooser = Callable[["Pool", int], tuple[Chosen, int]]  # (pool, budget) -> arms to deploy, calls


class Remembered(Race):
    """A race that computes no PRESS twice: choosers ask for the same again and again."""

    known: dict[tuple[Any, ...], FLOAT64]

    def press(self, arms: Sequence[int], rows: INT64 | None = None) -> FLOAT64:
        rows = self.common(arms) if rows is None else rows
        key = (*arms, rows.tobytes())
        if key not in self.known:
            self.known[key] = super().press(arms, rows)
        return self.known[key]


class Pool:
    """The arms of a task with one seed's rows, and the model's answers, each computed once for all choosers."""

    def __init__(self, model: FrozenModel, task: Task, seed: int, size: int, measured: int) -> None:
        self.seed, self.classes = seed, len(task.labels)
        self.data = data = prepare(model, task, preset_of("auto", "embedded"), seed, 16)
        assert data.test is not None
        data.test = taken(data.test, np.sort(permutation(0, 0, Purpose.SPLIT, len(data.test.labels))[:measured]))
        rows: list[list[Arm]] = []
        for one in templates(task, model, task.templates or (task.template,), data.train):
            said = [one, *instructed(task, model, one.template, INSTRUCTIONS, data.train)]
            shown = demonstrated(task, model, one.template, data.train, seed)
            rows.append([*said, *shown])
        most = max(map(len, rows))  # a template in front of which not all of it fits is left out
        rows = [row for row in rows if len(row) == most][:size]
        self.arms = [arm for row in rows for arm in row]
        self.grid = np.arange(len(self.arms)).reshape(len(rows), -1)
        self.own = {number: arm.own for number, arm in enumerate(self.arms)}
        self.groups = groups_of(data.train)
        self._train: dict[int, FLOAT64] = {}
        self._columns: dict[int, INT64] = {}
        self._test: dict[int, FLOAT64] = {}
        self._answers: dict[Chosen, FLOAT64] = {}
        self._press: dict[tuple[Any, ...], FLOAT64] = {}

    def race(self, ledger: Ledger) -> Race:
        def ask(arm: int, rows: INT64) -> FLOAT64:
            ledger.charge(ledger.price(1, len(rows)), len(rows))
            return self._scores(arm, race)[rows]

        race = Remembered(self.data.train.labels, self.classes, self.groups, BATCH, ask, self.seed)
        race.known = self._press
        return race

    def _scores(self, arm: int, race: Race) -> FLOAT64:
        """(rows, T) on the training rows, zeros where the arm shows the row; columns are of its first mini-batch."""
        if arm not in self._train:
            prompt, texts = prompt_of(self.data, [self.arms[arm].template]), self.data.train.texts
            rows, found = race.allowed(self.own[arm]), []
            for part in (rows[:BATCH], rows[BATCH:]):
                given = [texts[row] for row in part]
                picked = self._columns.get(arm)
                scores, self._columns[arm] = some_training_scores(self.data, prompt, given, TOKENS, picked)
                found.append(scores)
            self._train[arm] = np.zeros((len(texts), found[0].shape[1]))
            self._train[arm][rows] = np.concatenate(found)
        return self._train[arm]

    def right(self, arms: Chosen) -> FLOAT64:
        """1 where the test row's class is named by these arms read together, (rows,)."""
        arms = tuple(sorted(arms))
        if arms not in self._answers:
            race, train, test = self.race(Ledger(10**9)), self.data.train, self.data.test
            assert test is not None
            shown = [row for arm in arms for row in self.own[arm]]
            rows = np.sort(race.allowed(shown))
            given = [self._scores(arm, race)[rows] for arm in arms]
            for arm in arms:
                if arm not in self._test:
                    prompt = prompt_of(self.data, [self.arms[arm].template])
                    [self._test[arm]], _ = scores_of(self.data, prompt, test, [self._columns[arm]])
            fit = vocabulary(given, train.labels[rows], self.classes, groups=self.groups[rows])
            p = fit.readout.predict([self._test[arm] for arm in arms])
            self._answers[arms] = (p.argmax(axis=1) == test.labels).astype(np.float64)
        return self._answers[arms]

    def order(self, stream: int) -> INT64:
        """The arms in a random order."""
        return permutation(self.seed, 100 + stream, Purpose.DEMONSTRATIONS, len(self.arms))


def unchosen(keep: int, *, plain: bool) -> Chooser:
    """No choice at all: the first templates with nothing in front, or random arms."""

    def choose(pool: Pool, budget: int) -> tuple[Chosen, int]:
        blocks = pool.race(Ledger(0)).blocks()
        arms = (pool.grid[:, 0] if plain else pool.order(0))[: min(keep, budget // blocks)]
        return tuple(arms.tolist()), len(arms) * blocks

    return choose


def raced(keep: int) -> Chooser:
    """[A2], the arms in a random order."""

    def choose(pool: Pool, budget: int) -> tuple[Chosen, int]:
        ledger = Ledger(budget, batch_size=BATCH)
        left = pool.race(ledger).run(pool.order(0).tolist(), pool.own, keep, budget)
        return tuple(left[:keep]), ledger.calls

    return choose


def learned(make: Callable[[int, int, int], Method], keep: int, deploy: str, loss: str = "press") -> Chooser:
    """A policy: of the prompts that are most probable at its end, or that it asked and have the least PRESS."""

    def choose(pool: Pool, budget: int) -> tuple[Chosen, int]:
        ledger = Ledger(budget, batch_size=BATCH)
        race = pool.race(ledger)
        of_words = cross_entropy if loss == "words" else None
        objective = TextObjective(race, pool.grid, ledger, pool.own, of_words)
        method = make(pool.grid.ndim, max(pool.grid.shape), pool.seed)
        blocks = [race.order[start : start + BATCH] for start in range(0, len(race.order), BATCH)]
        kept = min(keep, (budget - method.calls_per_step) // len(blocks))
        if kept < 1:
            return (), 0
        state, last = method.init(), 0
        while state.step - last < IDLE and ledger.left - kept * len(blocks) >= method.calls_per_step:
            before = ledger.calls
            state = method.step(state, objective, blocks[state.step % len(blocks)])
            last = state.step if ledger.calls > before else last
        if deploy == "press":
            best = race.ranked(list(race.rows))[:kept]
        else:
            best = most_probable(pool, state.p if hasattr(state, "p") else state.alpha)[:kept]
        for arm in best:
            while len(race.missing(arm, race.allowed(pool.own[arm]))):
                race.go_on(arm, pool.own[arm])
        return tuple(best), ledger.calls

    return choose


def most_probable(pool: Pool, weights: FLOAT64) -> list[int]:
    """The arms by the probability of their texts, copies of a text together; of equals in a random order."""
    p = np.ones(())
    for row, texts in zip(weights / weights.sum(axis=1, keepdims=True), pool.grid.shape):
        p = np.multiply.outer(p, np.bincount(np.arange(len(row)) % texts, row, minlength=texts))
    order = pool.order(1)
    return [int(arm) for arm in order[np.argsort(-p.ravel()[order], kind="stable")]]


def _zo_pog(samples: int, eta: float) -> Callable[[int, int, int], Method]:
    settings = Settings(zeroth_order=False, policy_samples=samples, eta_alpha=eta, gumbel="none")
    return lambda n, candidates, seed: ZOPoG(n, candidates, 1, settings, seed)


def _bdpl(samples: int, eta: float) -> Callable[[int, int, int], Method]:
    settings = BDPL.Settings(samples=samples, eta_p=eta)
    return lambda n, candidates, seed: BDPL(n, candidates, 1, settings, seed)


def choosers(losses: Sequence[str]) -> dict[str, dict[str, Chooser]]:
    """Every method with its settings by name, among which the tuning seeds choose."""
    found: dict[str, dict[str, Chooser]] = {
        "the first templates": {f"{m}": unchosen(m, plain=True) for m in (1, 5)},
        "random": {f"keep {m}": unchosen(m, plain=False) for m in (1, 5)},
        "race": {f"keep {m}": raced(m) for m in (1, 5)},
    }
    for name, make, etas in (("zo-pog", _zo_pog, (0.1, 0.3)), ("bdpl", _bdpl, (1.0, 3.0))):
        for loss, deploy in [("press", "press"), *((loss, "probability") for loss in losses)]:
            title = f"{name}, {deploy}" + (f", {loss}" if loss != "press" else "")
            found[title] = {
                f"keep {m}, samples {k}, eta {eta}": learned(make(k, eta), m, deploy, loss)
                for m, k, eta in product((1, 5), (2, 4, 8), etas)
            }
    return found


def tuned(
    model: FrozenModel, task: Task, asked: argparse.Namespace, every: dict[str, dict[str, Chooser]]
) -> dict[tuple[int, str], str]:
    """The settings of each method that are the most accurate with each budget, over the tuning seeds."""
    found: dict[tuple[int, str, str], list[float]] = {}
    for seed in asked.tuning_seeds:
        pool = Pool(model, task, seed, asked.templates, asked.dev_rows)
        print(f"tuning, seed {pool.seed}: {' x '.join(map(str, pool.grid.shape))} texts", flush=True)
        for budget, (name, settings) in product(asked.budgets, every.items()):
            for setting, choose in settings.items():
                arms, _ = choose(pool, budget)
                found.setdefault((budget, name, setting), []).append(pool.right(arms).mean() if arms else 0.0)
    return {
        (budget, name): max(settings, key=lambda s: float(np.mean(found[budget, name, s])))
        for budget, (name, settings) in product(asked.budgets, every.items())
    }


def main() -> None:
    """Choose the settings, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers: Callable[[str], list[int]] = lambda text: [int(each) for each in text.split(",")]  # noqa: E731
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--task", default="supersense")
    parser.add_argument("--budgets", default="15,50,200", type=numbers)
    parser.add_argument("--seeds", default="42,14,81,101,102", type=numbers)
    parser.add_argument("--tuning-seeds", default="1,2,3", type=numbers)
    parser.add_argument("--templates", default=8, type=int)
    parser.add_argument("--like", default=None, type=Path, help="take the settings of this --out file")
    parser.add_argument("--dev-rows", default=300, type=int, help="measured on at most, the same random ones for all")
    parser.add_argument("--test-rows", default=500, type=int)
    parser.add_argument("--losses", default="press,words", type=lambda text: text.split(","))
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args()
    model, task, every = load_model(asked.model, threads=1), load_task(asked.task), choosers(asked.losses)
    if asked.like is not None:
        known = json.loads(asked.like.read_text("utf-8"))["lines"]
        best = {(line["budget"], line["name"]): line["setting"] for line in known if line["budget"] in asked.budgets}
    else:
        best = tuned(model, replace(task, test=task.dev, dev=None), asked, every)
    right: dict[tuple[int, str], list[FLOAT64]] = {}
    calls: dict[tuple[int, str], list[int]] = {}
    lines: list[dict[str, Any]] = []
    for seed in asked.seeds:
        print(f"test, seed {seed}", flush=True)
        pool = Pool(model, task, seed, asked.templates, asked.test_rows)
        for (budget, name), setting in best.items():
            arms, spent = every[name][setting](pool, budget)
            right.setdefault((budget, name), []).append(pool.right(arms))
            calls.setdefault((budget, name), []).append(spent)
        lines = summed_up(best, right, calls)
        if asked.out is not None:  # after every seed: it can be stopped
            report = {"options": {name: str(value) for name, value in vars(asked).items()}, "lines": lines}
            asked.out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    for line in lines:
        accuracy, *less = (100 * line[name] for name in ("accuracy", "less race", "low", "high"))
        print(
            f"{line['budget']:4d}  {line['name']:32s} {accuracy:5.1f}  {less[0]:+5.1f} "
            f"({less[1]:+.1f} to {less[2]:+.1f})  {line['calls']:.0f} calls  {line['setting']}"
        )


def summed_up(
    best: dict[tuple[int, str], str],
    right: dict[tuple[int, str], list[FLOAT64]],
    calls: dict[tuple[int, str], list[int]],
) -> list[dict[str, Any]]:
    """Means over the seeds so far, and the paired difference from the race with its interval."""
    found = []
    for (budget, name), setting in best.items():
        line: dict[str, Any] = {"budget": budget, "name": name, "setting": setting, "seeds": len(right[budget, name])}
        line |= {"calls": float(np.mean(calls[budget, name])), "accuracy": float(np.mean(right[budget, name]))}
        less = crossed(np.array(right[budget, name]) - np.array(right[budget, "race"]))
        found.append(line | {"less race": less.mean, "low": less.low, "high": less.high})
    return found


if __name__ == "__main__":
    main()
