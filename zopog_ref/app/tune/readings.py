"""How a run's prompts are read: their scores on its rows, a readout of each, and what all of them give.

The training rows' scores are paid for, ceil(rows / batch size) calls a prompt; dev and test rows are not, as always.
Tokens are chosen on the training rows by probability, never by label. Leave-one-out chooses the readout of a prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zopog_models.prompts.bundle import Prompt
from zopog_models.prompts.predicting import Prediction, answered, check_match, prompt_scores
from zopog_models.prompts.readout import WORDS, PromptReadout, targets, word_columns
from zopog_models.runners.runner import Scores
from zopog_models.tasks.encoding import encode, label_targets
from zopog_models.tasks.task_files import Rows
from zopog_models.tasks.template import replace_template
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.experiment import Experiment
from zopog_ref.conformal import conformal_threshold
from zopog_ref.objective import Ledger, unanswered
from zopog_ref.readout import KINDS, Choice, Fit, centred, choose, likely_tokens

FLOAT64 = NDArray[np.float64]
INT64 = NDArray[np.int64]
ASKED = ("none", "centred", "labels", "vocabulary", "auto")
TOKENS = 200  # besides the label words
BEST_TEMPLATE = "manual, best template"
ALPHA = 0.1  # share of rows whose class a prediction set may miss
_AT_ONCE = 64  # rows whose whole vocabulary is in memory at once in float64


@dataclass(frozen=True)
class Scored:
    """A prompt with its scores on a run's rows: of each of M prompts (rows, T_m), the C label words first."""

    prompt: Prompt
    columns: tuple[INT64, ...]
    train: list[FLOAT64]
    dev: list[FLOAT64]
    test: list[FLOAT64] | None
    truncated: int
    calls: int  # of the training rows

    @property
    def n_classes(self) -> int:
        """C."""
        return len(self.prompt.labels)

    def words(self, scores: Sequence[FLOAT64]) -> list[FLOAT64]:
        """The label words' scores alone."""
        return [s[:, : self.n_classes] for s in scores]

    def one(self, m: int) -> "Scored":
        """The prompt m alone."""
        prompt, only = self.prompt, slice(m, m + 1)
        alone = replace(
            prompt, ids=prompt.ids[only], offsets=prompt.offsets[only], weights=np.ones(1), templates=(),
            template=prompt.every_template[m],
        )  # fmt: skip
        test = None if self.test is None else self.test[only]
        return Scored(alone, self.columns[only], self.train[only], self.dev[only], test, self.truncated, 0)


@dataclass(frozen=True)
class Reading:
    """A prompt as it could be deployed, and what it answers. calls: what it cost, the search included."""

    name: str
    prompt: Prompt
    calls: int
    dev: Prediction
    test: Prediction | None
    choice: Choice | None = None
    again: "Reading | None" = None  # with a readout of the dev rows too

    def losses(self, labels: INT64) -> FLOAT64:
        """-log p_y of the dev rows, in nats."""
        p = self.dev.probabilities[np.arange(len(labels)), labels]
        return np.asarray(-np.log(np.maximum(p, np.finfo(np.float64).eps)))


def groups_of(rows: Rows) -> INT64:
    """Equal texts, equal numbers: a copy is no row of its own."""
    return np.unique([" ".join(row).strip().lower() for row in rows.texts], return_inverse=True)[1]


def template_prompt(experiment: Experiment, templates: Sequence[str]) -> Prompt:
    """The manual prompt in each of the templates, no prompt tokens. Errors: TaskError."""
    plain, count = experiment.manual(), len(templates)
    return replace(
        plain, ids=np.repeat(plain.ids, count, 0), offsets=np.repeat(plain.offsets, count, 0),
        weights=np.full(count, 1 / count), templates=tuple(templates) if count > 1 else (),
    )  # fmt: skip


def prompt_of(experiment: Experiment, templates: Sequence[str]) -> Prompt:
    """`template_prompt`, whichever the templates are. Errors: TaskError."""
    return replace(template_prompt(experiment, templates), template=templates[0])


def price(experiment: Experiment, prompts: int) -> int:
    """Calls of the training rows' scores with so many prompts."""
    return experiment.ledger().price(prompts, len(experiment.train.labels))


def ask(experiment: Experiment, prompt: Prompt, ledger: Ledger, tokens: int, paid: FLOAT64 | None = None) -> Scored:
    """The prompt's scores on all rows; the training rows' are charged. tokens: how many besides the label words.

    paid (M, rows, C): the label words' scores on the training rows, which were paid for and are not asked again.
    Errors: BudgetExhausted, TaskError, PromptError.
    """
    model, task, count = experiment.model, experiment.task, len(prompt.ids)
    check_match(model, prompt)
    train, rows = experiment.train.texts, len(experiment.train.texts)
    lengths = {
        t: int(encode(train, replace_template(task, t), model, prompt.n_positions).lengths.sum())
        for t in dict.fromkeys(prompt.every_template)
    }
    read = sum(lengths[t] + rows * prompt.n_positions for t in prompt.every_template)
    calls = ledger.price(count, rows) if paid is None else 0
    if paid is None:
        ledger.charge(calls, count * rows, read)
    columns, scores = [], []
    for m, template in enumerate(prompt.every_template):
        one = replace(
            prompt, ids=prompt.ids[m : m + 1], offsets=prompt.offsets[m : m + 1], weights=np.ones(1), templates=(),
            template=template,
        )  # fmt: skip
        if paid is None:
            found, picked = some_training_scores(experiment, one, train, tokens)
        else:
            found, picked = paid[m], columns_of(experiment, one)
        columns.append(picked)
        scores.append(found)
    dev, _ = scores_of(experiment, prompt, experiment.dev, columns)
    test, truncated = (None, 0)
    if experiment.test is not None:
        test, truncated = scores_of(experiment, prompt, experiment.test, columns)
    return Scored(prompt, tuple(columns), scores, dev, test, truncated, calls)


def some_training_scores(
    experiment: Experiment, prompt: Prompt, texts: Sequence[tuple[str, ...]], tokens: int, picked: INT64 | None = None
) -> tuple[FLOAT64, INT64]:
    """(n, T) of one prompt, and its columns (T,): the label words, then the likely tokens or the embedding.

    picked: the columns, where they were chosen already.
    """
    model, labels, words = experiment.model, np.asarray(prompt.label_ids), columns_of(experiment, prompt)
    every = words
    if picked is not None:
        every = picked
    elif tokens and model.pooling:
        every = np.arange(len(labels) + model.hidden_size)
    elif tokens and model.scores == Scores.ANY:
        every = np.concatenate([np.arange(model.vocab_size), words[words >= WORDS]])
    wanted, parts = targets(every, labels), []
    for start in range(0, len(texts), _AT_ONCE):
        part, _ = prompt_scores(model, prompt, texts[start : start + _AT_ONCE], wanted)
        parts.append(part[0].astype(np.float32))  # as the model gave them
    scores = np.concatenate(parts)
    if model.pooling or picked is not None or len(every) == len(words):
        return scores.astype(np.float64), every
    picked = likely_tokens(scores, tokens, np.searchsorted(every, words))
    return scores[:, picked].astype(np.float64), every[picked]


def columns_of(experiment: Experiment, prompt: Prompt) -> INT64:
    """What the label words' columns are called (C,): their token ids; of phrases 0 .. C-1."""
    if experiment.model.pooling:
        return word_columns(np.asarray(prompt.label_ids))
    words = label_targets(replace_template(experiment.task, prompt.template), experiment.model)
    if (words.ndim == 2 or prompt.summed) and not np.array_equal(words, prompt.label_ids):
        raise InputError(
            f"--label-words sum: the template {prompt.template!r} has other tokens for the label words than "
            f"{experiment.task.template!r}: let all templates end with a space before {{mask}}, or none"
        )
    return word_columns(words)


def scores_of(
    experiment: Experiment, prompt: Prompt, rows: Rows, columns: Sequence[INT64]
) -> tuple[list[FLOAT64], int]:
    """Each prompt's scores on its columns, and how many of the rows were cut."""
    union = np.unique(np.concatenate(columns))
    wanted = targets(union, np.asarray(prompt.label_ids))
    scores, truncated = prompt_scores(experiment.model, prompt, rows.texts, wanted)
    return [s[:, np.searchsorted(union, ids)] for s, ids in zip(scores, columns)], truncated


def heard(scored: Scored, train: Rows) -> tuple[Scored, Rows]:
    """With those training rows alone that every prompt was answered on: what is fitted to."""
    return only(scored, train, heard_rows(scored, train))


def heard_rows(scored: Scored, train: Rows) -> INT64:
    """Which training rows every prompt was answered on.

    Where there are fewer than two texts, all of them: their scores tell nothing, and that is what will be found.
    """
    kept = np.flatnonzero(~np.any([unanswered(s) for s in scored.train], axis=0))
    if len(kept) < 2 or groups_of(Rows([train.texts[row] for row in kept], train.labels[kept])).max() == 0:
        return np.arange(len(train.labels))
    return kept


def only(scored: Scored, train: Rows, kept: INT64) -> tuple[Scored, Rows]:
    """With these training rows alone."""
    rows = Rows([train.texts[row] for row in kept], train.labels[kept])
    return replace(scored, train=[s[kept] for s in scored.train]), rows


def fitted(scored: Scored, rows: Rows, asked: str) -> Choice:
    """The readout asked for, or the one that leave-one-out chooses. Errors: InputError."""
    kinds = KINDS if asked == "auto" else tuple(kind for kind in KINDS if kind == asked)
    try:
        return choose(
            scored.train, rows.labels, scored.n_classes, groups=groups_of(rows), kinds=kinds, columns=scored.columns
        )
    except ValueError as error:
        raise InputError(f"--readout {asked}: {error}") from error


def best_template(scored: Scored, train: Rows, dev: Rows) -> int:
    """Which of the manual prompts somebody would take who tries them all: the one that answers most of the labelled
    rows right, as it is; of equals the one that gives the labels more probability."""
    tried = []
    for m in range(len(scored.prompt.ids)):
        one, right, loss = scored.one(m), 0, 0.0
        for scores, rows in ((one.train, train), (one.dev, dev)):
            p = _own_answer(one, scores, 0).probabilities
            right += int((p.argmax(axis=1) == rows.labels).sum())
            loss -= float(np.log(np.maximum(p[np.arange(len(p)), rows.labels], np.finfo(np.float64).tiny)).sum())
        tried.append((-right, loss, m))
    return min(tried)[2]


def without_labels(scored: Scored, rows: Rows) -> Fit:
    """The label words' scores less their mean over the training rows: no label is looked at."""
    words = [ids[: scored.n_classes] for ids in scored.columns]
    return centred(scored.words(scored.train), groups=groups_of(rows), columns=words)


def reading(
    name: str, scored: Scored, fit: Fit, dev: Rows, calls: int, choice: Choice | None = None, train: Rows | None = None
) -> Reading:
    """The prompt with this readout, and the threshold of its prediction sets.

    That is of the dev rows, which no fit has seen. train: given where no search has seen the training rows either:
    each as the fit without it answers it counts, too.
    """
    learned = fit.readout
    about = {
        name: getattr(learned, name)
        for name in ("temperature", "penalty", "rows", "left_out_accuracy", "left_out_loss")
    }
    kept = PromptReadout(learned.kind, learned.matrices, learned.bias, learned.columns, about=about, alpha=ALPHA)
    given = [scored.dev, scored.test] if learned.kind == "vocabulary" else [scored.words(scored.dev), None]
    if scored.test is not None and given[1] is None:
        given[1] = scored.words(scored.test)
    on_dev, on_test = (None if s is None else learned.predict(s) for s in given)
    assert on_dev is not None
    calibration, seen = on_dev, dev
    if train is not None:
        calibration = np.concatenate([on_dev, fit.left_out])
        seen = Rows([*dev.texts, *train.texts], np.concatenate([dev.labels, train.labels]))
    threshold = conformal_threshold(calibration, seen.labels, ALPHA, groups_of(seen))
    prompt = replace(scored.prompt, readout=replace(kept, threshold=threshold), predict="mean")
    test = None if on_test is None else Prediction(on_test, on_test[None], scored.truncated)
    return Reading(name, prompt, calls, Prediction(on_dev, on_dev[None], 0), test, choice)


def plain_reading(name: str, scored: Scored, calls: int) -> Reading:
    """The prompt with its own answer: the label words' scores, by softmax, votes or the readout of its objective."""
    dev = _own_answer(scored, scored.dev, 0)
    test = None if scored.test is None else _own_answer(scored, scored.test, scored.truncated)
    return Reading(name, scored.prompt, calls, dev, test)


def _own_answer(scored: Scored, scores: Sequence[FLOAT64], truncated: int) -> Prediction:
    words = np.stack(scored.words(scores))  # (M, rows, C)
    if scored.prompt.readout is None:
        return answered(scored.prompt, words, truncated)
    p = scored.prompt.readout.probabilities(words[..., np.argsort(scored.prompt.readout.columns[0])])
    return Prediction(p, p[None], truncated)


def check_scores(readout: str, scores: Scores) -> None:
    """Errors: InputError for a readout of scores that this service does not give."""
    if readout == "vocabulary" and scores != Scores.ANY:
        raise InputError(
            "--readout vocabulary needs the scores of any tokens, and this service gives those of its most probable "
            "ones alone: use --readout labels or auto"
        )
