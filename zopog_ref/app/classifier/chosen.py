"""What a PromptClassifier's parameters say of a run."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from zopog_models.frozen.model import locate_model
from zopog_models.tasks.chat import chat_template, in_conversation
from zopog_models.tasks.template import make_task
from zopog_ref.app.classifier import data
from zopog_ref.app.classifier.served import asked_of
from zopog_ref.app.run.config import WORD_SCORINGS, RunConfig
from zopog_ref.app.run.presets import SEARCHLESS
from zopog_ref.app.tune.options import plain_name
from zopog_ref.app.tune.readings import ASKED

__all__ = ["chosen"]


def chosen(clf: Any, words: Mapping[str, str]) -> tuple[RunConfig, dict[str, Any]]:
    """Of a PromptClassifier: the run asked for, and how a served model is reached. Errors: ValueError; ImportError."""
    remote, wire = asked_of(str(clf.model), clf.served)
    readout = clf.readout
    if remote is not None and remote.answers == "labels":
        if readout not in ("auto", "none"):
            raise ValueError(f"readout {readout!r} reads scores, and served answers 'labels' gives none")
        readout = "none"
    model, method, drawn = str(clf.model), plain_name(str(clf.method)), clf.random_state
    name, preset = data.chosen_preset(method, clf.settings, model, clf.budget, clf.batch_size, clf.method_options)
    if not isinstance(drawn, int | np.integer) or drawn < 0:
        drawn = check_random_state(drawn).randint(2**31 - 1)
    shots = int(clf.shots) if isinstance(clf.shots, np.integer) else clf.shots
    if readout not in ASKED:
        raise ValueError(f"readout is {readout!r}; choose one of {', '.join(ASKED)}")
    if clf.refit and readout == "none":
        raise ValueError("refit fits a readout on the validation rows too, and readout is 'none'")
    plain = readout == "none" and method not in SEARCHLESS
    template = clf.template
    if clf.chat and remote is not None:
        raise ValueError("chat is for a model that is here; a served one has a conversation with chat+http://...")
    if clf.system and not clf.chat:
        raise ValueError("system needs chat=True; of a served model it is served={'system': ...}")
    if clf.chat:
        template = in_conversation(template, chat_template(locate_model(model)[0]), clf.system)
    if clf.label_words not in WORD_SCORINGS:
        raise ValueError(f"label_words is {clf.label_words!r}; choose one of {', '.join(WORD_SCORINGS)}")
    task = make_task(
        template, words, name="fit", first_pieces=clf.label_words == "first-piece",
        summed_pieces=clf.label_words == "sum", position=clf.prompt_position,
    )  # fmt: skip
    return RunConfig(
        task, None, model, preset, name, int(drawn), shots, remote=remote,
        readout=None if plain else readout, refit=bool(clf.refit) or None,
    ), wire  # fmt: skip
