"""What a run ends with: its prompt beside the baselines that cost next to nothing, and the one to deploy.

    manual                  the first template, its label words' scores as they are
    manual, best template   of several templates the one that is right most often on the training and dev rows
    manual + centred        all templates, less the mean over the training rows: no label is looked at
    manual + readout        all templates, with the readout asked for, or the one that leave-one-out chooses
    tuned, tuned + readout

Leave-one-out on the training rows chooses the readout of a prompt. It cannot choose between prompts, since a tuned
prompt has seen those rows: the dev rows do, by their mean -log p. The search chose its prompt by them too, so a tuned
prompt has to be better there by one standard error of the difference. The test rows choose nothing. With `--refit` what
has been chosen is then fitted on the dev rows too (refit.py).
"""

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zopog_models.prompts.bundle import Prompt
from zopog_models.runners.runner import Scores
from zopog_models.tasks.task_files import Rows
from zopog_ref import readout
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.config import RunConfig
from zopog_ref.app.run.experiment import Experiment
from zopog_ref.app.run.presets import AUTO, SEARCHLESS
from zopog_ref.app.tune.auto import find
from zopog_ref.app.tune.readings import (
    BEST_TEMPLATE,
    TOKENS,
    Reading,
    Scored,
    ask,
    best_template,
    check_scores,
    fitted,
    groups_of,
    heard,
    plain_reading,
    price,
    reading,
    template_prompt,
    without_labels,
)
from zopog_ref.app.tune.refit import dev_price, refitted
from zopog_ref.app.tune.worth import beats_chance, measured
from zopog_ref.objective import Ledger
from zopog_ref.search import step_price

FLOAT64 = NDArray[np.float64]
INT64 = NDArray[np.int64]
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ending:
    """What to deploy, and everything beside it.

    readings: in the order above; deployed: one of them; best: the one that the dev rows say; learned: False where the
    labels could as well be shuffled; baseline_calls: of the calls, those of the manual prompt beside a tuned one.
    """

    readings: list[Reading]
    deployed: Reading
    best: Reading
    learned: bool
    baseline_calls: int
    arms: dict[str, Any] | None = None  # of `auto`: what was asked and decided

    def named(self, name: str) -> Reading | None:
        """The reading of this name."""
        return next((found for found in self.readings if found.name == name), None)

    def to_json(self, experiment: Experiment, config: RunConfig) -> dict[str, Any]:
        """What result.json says of it."""
        said = [measured(found, experiment.dev, experiment.test) for found in self.readings]
        keys = {"manual": "manual", BEST_TEMPLATE: "manual_best_template",
                "manual + centred": "manual_centred", "manual + readout": "manual_readout",
                "tuned": "tuned", "tuned + readout": "tuned_readout"}  # fmt: skip
        numbers: dict[str, Any] = {}
        for row in said:
            numbers |= {
                f"{keys[row['name']]}_accuracy": row.get("accuracy"),
                f"{keys[row['name']]}_calls": row["calls"],
            }
        kept = self.deployed.prompt.readout
        of_it = next(row for row in said if row["name"] == self.deployed.name)
        about = {
            "asked": config.readout,
            "kind": "none" if kept is None else kept.kind,
            "tokens": None if kept is None else [len(ids) for ids in kept.columns],
            **({} if kept is None else kept.about),
            "alpha": None if kept is None else kept.alpha,
            "coverage": of_it.get("coverage"),
            "set_size": of_it.get("set_size"),
        }
        choices = {
            found.name: {
                "p_value": found.choice.p_value,
                "losses": found.choice.losses,
                "skipped": found.choice.skipped,
            }
            for found in self.readings
            if found.choice is not None
        }
        return numbers | {
            "deployed": self.deployed.name,
            "best": self.best.name,
            "learned": self.learned,
            "readout": about | {"choices": choices},
            "baseline_calls": self.baseline_calls,
            "answers": said,
            **({} if self.arms is None else {"auto": self.arms}),
        }


def reads(config: RunConfig) -> bool:
    """Whether the run ends with readouts: not a run of version 0.1.0, nor one that asked for none."""
    return config.method in SEARCHLESS or config.readout not in (None, "none")


def reserved(experiment: Experiment, config: RunConfig) -> int:
    """Calls of the budget kept for the scores of the training rows: the manual prompts', and the tuned prompts'."""
    if config.method in SEARCHLESS or not reads(config):
        return 0
    method = experiment.method()
    tuned = 0 if method.predictive == "votes" else len(method.prompts(method.init()))
    prompts = (len(config.templates or (experiment.task.template,)), tuned)
    return sum(price(experiment, count) + bool(config.refit) * dev_price(experiment, count) for count in prompts)


def check_end(experiment: Experiment, config: RunConfig) -> None:
    """Before anything is asked or kept: whether the rows and the budget are enough for one step and for the end.

    Errors: InputError.
    """
    budget, kept_back = experiment.preset.budget, reserved(experiment, config)
    if config.method not in SEARCHLESS:
        method, rows = experiment.method(), len(experiment.train.labels)
        step = step_price(method, experiment.ledger(), rows, experiment.preset.batch_size)
        if budget < kept_back + step:
            readouts = f" and the readouts {kept_back}: raise it, or choose readout none" if kept_back else ": raise it"
            raise InputError(f"budget is {budget} calls; one step costs {step}{readouts}")
    if not reads(config):
        return
    check_scores(config.readout or "none", experiment.model.scores)
    if groups_of(experiment.train).max() == 0:
        raise InputError("all training rows are one text, and a readout learns from differences: give other texts")
    if config.method in SEARCHLESS:
        several = len(config.templates or (experiment.task.template,))
        cost = price(experiment, several) + bool(config.refit) * dev_price(experiment, several)
        if config.method == AUTO:  # it chooses among what can be paid for
            if budget < (cost := experiment.ledger().price(1, 1)):
                raise InputError(f"budget is {budget} calls; one prompt on one mini-batch costs {cost} here: raise it")
        elif budget < cost:
            raise InputError(f"budget is {budget} calls and the template's scores cost {cost}: raise it")


def end(
    experiment: Experiment, config: RunConfig, tuned: Prompt | None, ledger: Ledger, paid: FLOAT64 | None = None
) -> Ending:
    """Ask for what is missing, fit, choose. tuned: what was searched for; None: nothing was.

    paid (M, rows, C): what the search has paid for of the tuned prompts on the training rows, which is not asked again.
    Whether it can be had and paid for, `check_end` has said before. Errors: PromptError, TaskError.
    """
    asked, dev = config.readout or "none", experiment.dev
    if config.method == AUTO:
        return _of_arms(experiment, config, ledger)
    tokens = 0 if asked in ("none", "centred", "labels") else config.readout_tokens or TOKENS
    manual = template_prompt(experiment, config.templates or (experiment.task.template,))
    cost = price(experiment, len(manual.ids)) + bool(config.refit) * dev_price(experiment, len(manual.ids))
    # A search that was begun before the baselines were kept back from its budget may have left too little for them.
    own = (
        ledger if tuned is None or cost <= ledger.left else replace(ledger, budget=cost, calls=0, sequences=0, tokens=0)
    )
    searched_for = ledger.calls
    scored = ask(experiment, manual, own, tokens)
    manual_ones = found = _manual(experiment, scored, experiment.train, config, own)
    best = chosen = found[-1]
    if tuned is not None:
        if (tokens and experiment.model.scores == Scores.ANY) or experiment.reduced is not None:
            paid = None  # other tokens' scores, or those of the model in all its bits, were not paid for
        tuned_ones = _tuned(experiment, tuned, ledger, tokens, config, searched_for, paid)
        searched = min(tuned_ones, key=lambda one: one.losses(dev.labels).mean())
        best = better(min(manual_ones, key=lambda one: one.losses(dev.labels).mean()), searched, dev.labels)
        found = manual_ones + tuned_ones
        chosen = searched if config.deploy == "tuned" else best
    for one in found:
        _LOG.info("%s: %d calls, mean -log p on dev %.4f", one.name, one.calls, one.losses(dev.labels).mean())
        if one.choice is not None:
            _LOG.debug("%s: left-out losses %s, skipped %s", one.name, one.choice.losses, one.choice.skipped)
    told = (manual_ones[-1].again or manual_ones[-1]).choice  # the p-value that is reported
    learned = (told is not None and told.learned) or beats_chance(chosen, dev.labels, len(experiment.task.labels))
    found, chosen, best = [one.again or one for one in found], chosen.again or chosen, best.again or best
    return Ending(found, chosen, best, learned, 0 if tuned is None else cost)


def better(cheap: Reading, dear: Reading, labels: INT64) -> Reading:
    """The dear one where its loss on the dev rows is lower by more than one standard error of the difference."""
    gain = cheap.losses(labels) - dear.losses(labels)
    return dear if gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)) else cheap


def _of_arms(experiment: Experiment, config: RunConfig, ledger: Ledger) -> Ending:
    """Of `auto`: the task's own templates, and what was chosen, which is deployed."""
    asked, found = config.readout or "none", find(experiment, config, ledger)
    scored, train = heard(found.scored, found.train)
    choice, calls = fitted(scored, train, asked), ledger.calls
    tuned = plain_reading("tuned", scored, calls)
    # Where nothing was chosen by the training rows, these tell how wide prediction sets have to be.
    calibrating = None if found.chosen else train
    chosen = reading("tuned + readout", scored, choice.fit, experiment.dev, calls, choice, calibrating)
    beats = beats_chance(chosen, experiment.dev.labels, len(experiment.task.labels))
    if config.refit:
        chosen = refitted(experiment, chosen, scored, train, ledger, asked, searched=found.chosen)
    learned = beats or (chosen.choice is not None and chosen.choice.learned)
    beside = replace(ledger, budget=2**62)  # of the task's own templates, a comparison that is not charged
    own = _manual(experiment, found.own, found.own_train, config, beside)
    report = found.report | {"unspent": ledger.left}
    return Ending([*(one.again or one for one in own), tuned, chosen], chosen, chosen, learned, 0, report)


def _manual(experiment: Experiment, scored: Scored, rows: Rows, config: RunConfig, ledger: Ledger) -> list[Reading]:
    asked = config.readout or "none"
    scored, train = heard(scored, rows)
    dev, choice = experiment.dev, fitted(scored, train, asked)
    alone = {"manual": (0, 0)}  # which of the templates, and what finding that out costs
    if len(scored.prompt.ids) > 1:
        alone[BEST_TEMPLATE] = best_template(scored, train, dev), scored.calls
    found = []
    for name, (m, calls) in alone.items():
        one = scored.one(m)
        words = [ids[: one.n_classes] for ids in one.columns]
        plain = readout.none(one.words(one.train), train.labels, columns=words)
        found.append(reading(name, one, plain, dev, calls, train=train))
    read = reading("manual + readout", scored, choice.fit, dev, scored.calls, choice, train)
    if config.refit:
        read = replace(read, again=refitted(experiment, read, scored, train, ledger, asked, searched=False))
    centred = reading("manual + centred", scored, without_labels(scored, train), dev, scored.calls, train=train)
    return [*found, centred, read]


def _tuned(
    experiment: Experiment, tuned: Prompt, ledger: Ledger, tokens: int, config: RunConfig, searched_for: int,
    paid: FLOAT64 | None,
) -> list[Reading]:  # fmt: skip
    votes = tuned.predict == "votes"
    affordable = paid is not None or ledger.price(len(tuned.ids), len(experiment.train.labels)) <= ledger.left
    # Votes see labels alone: their scores are not part of the game. They are asked for dev and test rows all the same.
    own = ledger if affordable and not votes else replace(ledger, budget=2**62, calls=0, sequences=0, tokens=0)
    scored = ask(experiment, tuned, own, tokens if own is ledger else 0, paid if own is ledger else None)
    found = [plain_reading("tuned", scored, searched_for)]
    if own is ledger:
        asked, total = config.readout or "none", searched_for + scored.calls
        answers, train = heard(scored, experiment.train)
        choice = fitted(answers, train, asked)
        learned = reading("tuned + readout", scored, choice.fit, experiment.dev, total, choice)
        if config.refit:
            learned = replace(
                learned, again=refitted(experiment, learned, answers, train, ledger, asked, searched=True)
            )
        found.append(learned)
    return found
