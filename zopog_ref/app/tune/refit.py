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
from zopog_ref.app.tune.readings import ALPHA, Reading, Scored, fitted, groups_of, heard, reading
from zopog_ref.conformal import conformal_threshold
from zopog_ref.objective import Ledger

__all__ = ["dev_price", "refitted"]


def dev_price(experiment: Experiment, prompts: int) -> int:
    """Calls of the dev rows' scores with so many prompts."""
    return experiment.ledger().price(prompts, len(experiment.dev.labels))


def refitted(experiment: Experiment, one: Reading, scored: Scored, train: Rows, ledger: Ledger, asked: str) -> Reading:
    """The reading with a readout of the training and dev rows; as it is, with a word, where no calls are left for it.

    scored: the scores that it reads, with those of `train` as training rows.
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
    answered, of_them = heard(whole, rows)
    choice = fitted(answered, of_them, asked)
    again = reading(one.name, scored, choice.fit, dev, one.calls + cost, choice)
    left_out = dict(zip(of_them.texts, choice.fit.left_out, strict=True))  # equal texts are left out together
    on_dev = zip(dev.texts, again.dev.probabilities, strict=True)
    p = np.array([left_out.get(text, answer) for text, answer in on_dev])  # one without an answer has told no fit
    threshold = conformal_threshold(choice.fit.left_out, of_them.labels, ALPHA, groups_of(of_them))
    assert again.prompt.readout is not None
    prompt = replace(again.prompt, readout=replace(again.prompt.readout, threshold=threshold))
    return replace(again, prompt=prompt, dev=Prediction(p, p[None], 0))
