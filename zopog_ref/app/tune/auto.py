"""`--method auto`: which questions to ask with a budget of calls. docs/auto.md says why these rounds.

    1   the task's templates, filled up to five with generic ones: all of their rows, read together
    2   demonstrations in front of the best template     3   instructions there     4   other templates, raced
    after each of 2 to 4: is what was found better? If not, it is left out, and asked of nothing else.

Arms of one kind are compared by PRESS on the training rows, kinds by their loss on the dev rows. The test rows are read
once, with what is deployed.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zopog_models.errors import Stopped
from zopog_models.tasks.encoding import encode
from zopog_models.tasks.task_files import Rows
from zopog_models.tasks.template import replace_template
from zopog_ref.app.output import say
from zopog_ref.app.run.config import RunConfig
from zopog_ref.app.run.experiment import Experiment
from zopog_ref.app.tune.answers import keep, kept
from zopog_ref.app.tune.arms import INSTRUCTIONS, Arm, demonstrated, instructed, templates
from zopog_ref.app.tune.readings import (
    TOKENS,
    Scored,
    fitted,
    groups_of,
    heard,
    prompt_of,
    scores_of,
    some_training_scores,
)  # fmt: skip
from zopog_ref.app.tune.refit import dev_price
from zopog_ref.objective import Ledger
from zopog_ref.racing import Race

FLOAT64 = NDArray[np.float64]
INT64 = NDArray[np.int64]
FULL = 4  # of the task's own templates, from which on no generic one joins them
TOGETHER = 5  # templates that are read together
KEPT = {"demonstrations": 3, "instruction": 2}
ENOUGH = {"press": 1.0, "dev nll": 0.5}  # standard errors that a gain has to be above (docs/auto.md: how chosen)


@dataclass(frozen=True)
class Found:
    """What is deployed, what the task's own templates alone are worth, and all that was decided.

    rows: of the training split, those that the deployed readout is fitted on; chosen: whether anything was selected.
    """

    own: Scored
    own_train: Rows
    scored: Scored
    train: Rows
    chosen: bool
    report: dict[str, Any]


class Board:
    """The arms with their scores: training rows as the race asks for them, dev and test rows once an arm may stay."""

    def __init__(self, experiment: Experiment, config: RunConfig, ledger: Ledger) -> None:
        self.experiment, self.config, self.ledger = experiment, config, ledger
        asked = config.readout or "none"
        self.asked, self.tokens = asked, config.readout_tokens or TOKENS
        if asked in ("none", "centred", "labels"):
            self.tokens = 0
        self.arms: list[Arm] = []
        self.columns: dict[int, INT64] = {}
        self.lengths: dict[int, INT64] = {}
        self.dev: dict[int, FLOAT64] = {}
        train = experiment.train
        size = experiment.preset.batch_size
        self.race = Race(train.labels, len(config.task.labels), groups_of(train), size, self._ask, experiment.seed)
        self.said: list[dict[str, Any]] = []
        # Mini-batches of the dev rows that `--refit` will ask an arm, and of how many arms: they are kept back.
        self.dev_blocks = dev_price(experiment, 1) // ledger.price(1, 1) if config.refit else 0
        self.arms_to_refit = 0

    @property
    def left(self) -> int:
        """Mini-batches of one prompt that can still be paid; label words of several tokens make each several calls."""
        return self.ledger.left // self.ledger.price(1, 1) - self.dev_blocks * self.arms_to_refit

    def add(self, arms: Sequence[Arm]) -> list[int]:
        """Their numbers."""
        self.arms += arms
        return list(range(len(self.arms) - len(arms), len(self.arms)))

    def _ask(self, arm: int, rows: INT64) -> FLOAT64:
        """Pay for the scores of training rows. Columns are chosen on an arm's first rows, by probability."""
        train, template, folder = self.experiment.train, self.arms[arm].template, self.experiment.answers
        if self.experiment.should_stop():
            raise Stopped(f"stopped after {self.ledger.calls} calls")
        if arm not in self.lengths:
            task = replace_template(self.config.task, template)
            self.lengths[arm] = encode(train.texts, task, self.experiment.model, 0).lengths
        self.ledger.charge(self.ledger.price(1, len(rows)), len(rows), int(self.lengths[arm][rows].sum()))
        path = None if folder is None else folder / f"{self.ledger.calls:06d}.safetensors"
        if path is not None and (known := kept(path, template, rows)) is not None:
            found, self.columns[arm] = known
            return found
        texts = [train.texts[row] for row in rows]
        prompt = prompt_of(self.experiment, [template])
        found, self.columns[arm] = some_training_scores(
            self.experiment, prompt, texts, self.tokens, self.columns.get(arm)
        )
        if path is not None:
            keep(path, template, rows, found, self.columns[arm])
        return found

    def round(self, arms: Sequence[Arm], keep: int) -> list[int]:
        """A race of these arms, for what is left: those that answered all of their rows, the best first."""
        numbers = self.add(arms)
        own = {number: self.arms[number].own for number in numbers}
        return self.race.run(numbers, own, keep, self.left)

    def scored(self, arms: Sequence[int], *, test: bool = False) -> tuple[Scored, Rows]:
        """These arms read together, on the training rows that all of them answered. test: with the test rows."""
        rows, data = self.race.common(arms), self.experiment
        train = Rows([data.train.texts[row] for row in rows], data.train.labels[rows])
        prompt = prompt_of(data, [self.arms[arm].template for arm in arms])
        columns = tuple(self.columns[arm] for arm in arms)
        for arm in arms:
            if arm not in self.dev:
                one = prompt_of(data, [self.arms[arm].template])
                [self.dev[arm]], _ = scores_of(data, one, data.dev, [self.columns[arm]])
        of_test, cut = (None, 0) if data.test is None or not test else scores_of(data, prompt, data.test, columns)
        calls = sum(self.ledger.price(1, len(self.race.rows[arm])) for arm in arms)
        given = [self.race.scores(arm, rows) for arm in arms]
        return Scored(prompt, columns, given, [self.dev[arm] for arm in arms], of_test, cut, calls), train

    def dev_losses(self, arms: Sequence[int]) -> FLOAT64:
        """-log p_y of the dev rows (rows,), in nats, with the readout that the training rows give."""
        scored, train = self.scored(arms)
        learned = fitted(*heard(scored, train), self.asked).fit.readout
        p = learned.predict(scored.dev if learned.kind == "vocabulary" else scored.words(scored.dev))
        labels = self.experiment.dev.labels
        return np.asarray(-np.log(np.maximum(p[np.arange(len(labels)), labels], np.finfo(np.float64).eps)))

    def better(self, now: Sequence[int], then: Sequence[int]) -> bool:
        """Whether to deploy `then`: by PRESS where the kinds are the same, by the dev rows where they are not.

        By more than ENOUGH standard errors of the paired difference: what was tried first is kept otherwise.
        """
        kinds = [{self.arms[arm].kind for arm in arms} for arms in (now, then)]
        if kinds[0] == kinds[1]:
            rows = self.race.common([*now, *then])
            gain, by = self.race.press(now, rows) - self.race.press(then, rows), "press"
        else:
            gain, by = self.dev_losses(now) - self.dev_losses(then), "dev nll"
        error = float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else np.inf
        accepted = bool(gain.mean() > ENOUGH[by] * error)
        self.said.append({"by": by, "gain": float(gain.mean()), "standard_error": error, "accepted": accepted,
                          "now": list(now), "then": list(then), "calls": self.ledger.calls})  # fmt: skip
        return accepted


def find(experiment: Experiment, config: RunConfig, ledger: Ledger) -> Found:
    """The rounds above. Errors: TaskError for instructions that are none; what the model raises."""
    board, task, model, train = Board(experiment, config, ledger), config.task, experiment.model, experiment.train
    given = config.templates or (task.template,)
    every = templates(task, model, given, train)
    first = every[: len(given) if len(given) >= FULL else max(TOGETHER, len(given))]
    own, kept = _first_round(board, first, len(given))
    base, dropped = kept, 0
    if own == list(range(len(given))) and board.race.blocks() <= board.left:
        best = board.arms[board.race.ranked([arm for arm in kept if arm in own])[0]].template
        more = {
            "demonstrations": demonstrated(task, model, best, train, config.seed),
            "instruction": instructed(task, model, best, config.instructions or INSTRUCTIONS, train),
            "template": every[len(first) :],
        }
        for kind, arms in more.items():
            board.arms_to_refit = max(TOGETHER, len(kept) + KEPT.get(kind, 0))
            found = board.round(arms, KEPT.get(kind, TOGETHER))
            if not found:
                continue
            then = [*kept, *found]
            if kind == "template":  # the best of these and of those of the first round
                then = board.race.ranked([*base, *found])[:TOGETHER] + [arm for arm in kept if arm not in base]
            if sorted(then) != sorted(kept) and board.better(kept, then):
                kept = then
            dropped += 1
    kept = sorted(kept)
    scored, rows = board.scored(kept, test=True)
    of_own, own_rows = board.scored(own, test=True)
    cut = len(board.race.rows) < len(every) or board.left < board.race.blocks()
    report = _report(board, kept) | {"stop_reason": "budget" if cut else "nothing is left to ask"}
    say(f"auto: {len(kept)} of {len(board.race.rows)} prompts are kept; {ledger.calls} calls spent, {ledger.left} left")
    return Found(of_own, own_rows, scored, rows, dropped > 0, report)


def _first_round(board: Board, first: Sequence[Arm], given: int) -> tuple[list[int], list[int]]:
    """The task's own templates and all of the round that answered their rows; of too small a budget, what it pays."""
    numbers, blocks = board.add(first), board.race.blocks()
    whole = numbers[: board.left // (blocks + board.dev_blocks)] or numbers[: board.left // blocks]
    for arm in whole:
        for _ in range(blocks):
            board.race.go_on(arm)
    if not whole:  # less than all rows of one template: as many of them as are paid for
        for _ in range(board.left):
            board.race.go_on(0)
        whole = [0]
    return whole[:given], whole


def _report(board: Board, kept: Sequence[int]) -> dict[str, Any]:
    """Every arm, what it was asked and gave, and every decision: enough to repeat the choice."""
    rows = []
    for number, arm in enumerate(board.arms):
        asked = board.race.rows.get(number)
        own = {"own": list(arm.own)} if arm.own else {}
        rows.append(
            {name: value for name, value in asdict(arm).items() if name != "own"} | own
            | {"rows": 0 if asked is None else len(asked), "kept": number in kept}
            | ({} if asked is None else {"press": float(board.race.press([number]).mean())})
        )  # fmt: skip
    return {"arms": rows, "decisions": board.said}
