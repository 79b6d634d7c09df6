"""`--refit`: once everything is chosen, the readout learns from the dev rows too.

Until then the dev rows choose: which prompt, which kind. After that they are labelled rows like the training rows, and
a readout of twice the rows is a better one. Their scores are charged like those of the training rows, ceil(rows / batch
size) calls a prompt. What such a readout is worth on rows that it has seen says nothing. So the probabilities of the
dev rows, and all that the threshold of the prediction sets is of, are those of fits that leave each row out [R4].
"""

from dataclasses import replace

import numpy as np

from zopog_models.prompts.predicting import Prediction
from zopog_models.tasks.encoding import encode
from zopog_models.tasks.task_files import Rows
from zopog_models.tasks.template import replace_template
from zopog_ref.app.output import say
from zopog_ref.app.run.experiment import Experiment
from zopog_ref.app.tune.readings import ALPHA, Reading, Scored, fitted, groups_of, heard_rows, only, reading
from zopog_ref.conformal import conformal_threshold
from zopog_ref.objective import Ledger

__all__ = ["dev_price", "refitted"]


def dev_price(experiment: Experiment, prompts: int) -> int:
    """Calls of the dev rows' scores with so many prompts."""
    return experiment.ledger().price(prompts, len(experiment.dev.labels))


def refitted(
    experiment: Experiment, one: Reading, scored: Scored, train: Rows, ledger: Ledger, asked: str, searched: bool
) -> Reading:
    """The reading with a readout of the training and dev rows; as it is, with a word, where no calls are left for it.

    scored: the scores that it reads, with those of `train` as training rows. searched: whether these have chosen the
    prompt, for then they look easier than other rows, and the threshold is of the dev rows alone, as in `reading`.
    """
    dev, prompts = experiment.dev, len(one.prompt.ids)
    cost = dev_price(experiment, prompts)
    if cost > ledger.left:
        say(f"{one.name} is not fitted on the dev rows too: that costs {cost} calls, and {ledger.left} are left")
        return one
    read = prompts * len(dev.texts) * one.prompt.n_positions
    for template in one.prompt.every_template:
        task = replace_template(experiment.task, template)
        read += int(encode(dev.texts, task, experiment.model, one.prompt.n_positions).lengths.sum())
    ledger.charge(cost, prompts * len(dev.labels), read)
    rows = Rows([*train.texts, *dev.texts], np.concatenate([train.labels, dev.labels]))
    whole = replace(scored, train=[np.concatenate(pair) for pair in zip(scored.train, scored.dev, strict=True)])
    kept = heard_rows(whole, rows)
    answered, of_them = only(whole, rows, kept)
    choice = fitted(answered, of_them, asked)
    again = reading(one.name, scored, choice.fit, dev, one.calls + cost, choice)
    own = kept >= len(train.labels)  # of the rows fitted to, the dev rows; one without an answer has told no fit
    p = again.dev.probabilities.copy()
    p[kept[own] - len(train.labels)] = choice.fit.left_out[own]
    told, seen = p, dev
    if not searched:
        told = np.concatenate([p, choice.fit.left_out[~own]])
        seen = Rows(
            [*dev.texts, *(rows.texts[row] for row in kept[~own])], np.concatenate([dev.labels, of_them.labels[~own]])
        )
    threshold = conformal_threshold(told, seen.labels, ALPHA, groups_of(seen))
    assert again.prompt.readout is not None
    prompt = replace(again.prompt, readout=replace(again.prompt.readout, threshold=threshold))
    return replace(again, prompt=prompt, dev=Prediction(p, p[None], 0))
