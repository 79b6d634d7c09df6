"""PromptClassifier: a tuned prompt with scikit-learn's conventions.

    >>> from zopog_ref import PromptClassifier
    >>> animals = ["a small striped feline", "a large sea mammal", "a bird of prey", "a young horse"]
    >>> foods = ["a sweet baked dessert", "a thick soup of beans", "bread made of rye", "a cheese from goats"]
    >>> clf = PromptClassifier(method="none", template="{text} . it is a kind of {mask} .")
    >>> clf.fit(animals + foods, ["animal"] * 4 + ["food"] * 4).calls_
    1
    >>> clf.predict(["a wild dog", "a pie of fruit"]).tolist()
    ['animal', 'food']

docs/scikit-learn.md has the parameters and examples.
"""

from __future__ import annotations  # signatures show names, not what these stand for

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, Self

import numpy as np

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import column_or_1d
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_consistent_length, validate_data
except ImportError as error:
    raise ImportError(
        f"PromptClassifier needs scikit-learn ({error}): pip install scikit-learn; without it, `zopog tune` "
        "does the same from the command line"
    ) from error

from zopog_models.prompts.bundle import Prompt, save_prompt
from zopog_models.tasks.template import make_task
from zopog_ref import search
from zopog_ref.app.classifier import data
from zopog_ref.app.classifier.chosen import chosen
from zopog_ref.app.classifier.fitted import AnswersMissing, Fitted, TextsCut, warn_of_cuts
from zopog_ref.app.errors import InputError
from zopog_ref.app.output import say
from zopog_ref.app.report.progress import Progress
from zopog_ref.app.run.config import Machine, RunConfig
from zopog_ref.app.run.experiment import Experiment
from zopog_ref.app.run.folder import RunFolder
from zopog_ref.app.run.presets import SEARCHLESS
from zopog_ref.app.track.watchers import Watchers
from zopog_ref.app.tune.ending import check_end, end, reads, reserved
from zopog_ref.app.tune.models import keep_requests, probe
from zopog_ref.app.tune.outlay import missing_words
from zopog_ref.objective import Ledger

__all__ = ["AnswersMissing", "NothingLearned", "PromptClassifier", "TextsCut"]


class NothingLearned(UserWarning):
    """The scores do not tell the classes better than chance does."""


class PromptClassifier(Fitted, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Learns a prompt for a frozen masked language model from a few labelled texts, by any method of `zopog methods`.

    Parameters:

    - model: "embedded", a Hugging Face folder, or the address of a served model. Default: "embedded".
    - method: a name of `zopog methods`; "none" searches nothing, the template is the prompt. Default: "zo-pog".
    - template: a text with {text}, or {text_a} and {text_b}, and {mask}. Default: "{text} . {mask} .".
    - labels: class -> label word. Default: None, each class's own name.
    - budget: API calls, each one prompt on one mini-batch. Default: 4000.
    - random_state: decides the split and every draw. Default: 42.
    - settings: "embedded", "paper" or "auto". Default: None, "embedded" of that model; of any other "auto", or "paper"
      where the method has no rule for it.
    - shots: rows of each class to learn from, and to select on, at most; None is all. Default: 16.
    - validation_fraction: share of each class's rows that the prompt is selected on. Default: 0.5.
    - batch_size: rows of a mini-batch. Default: None, that of the settings.
    - device: "cpu" or "cuda". Default: "cpu".
    - threads: processor threads of the model; 1 beside n_jobs. Default: None, all cores.
    - method_options: any other setting of the method, as {"eta_z": 0.1}. Default: None.
    - run_folder: keeps every fit in a folder of its own, so that an interrupted fit goes on when it is repeated.
      Default: None.
    - readout: how the scores are read (docs/readout.md): "none", "centred", "labels", "vocabulary" or "auto". With one,
      the template with a readout is fitted too, and what is better on the validation rows is kept. Default: "auto".
    - refit: once all is chosen, the readout is fitted on the validation rows too; their scores are charged.
      Default: False.
    - chat: what the template says is said by the user of a conversation, in the model's own chat template
      (docs/chat.md). Default: False.
    - system: what the system says first in such a conversation. Default: "", what the chat template has.
    - prompt_position: "before", or of a decoder "after" the text (docs/decoders.md). Default: "before".
    - label_words: how words of several tokens are scored: "whole" (not), "first-piece", "sum". Default: "whole".
    - verbose: shows progress on stderr. Default: False.
    - served: how a served model is asked: the command line's options by name, as {"tokenizer": FOLDER, "key_env":
      "OPENAI_API_KEY", "cache": DIR} (docs/remote.md). Default: None.
    - unanswered: the class that predict gives a text which a served model does not answer. Default: None, an error.
    - on_step: a function, or several, called with the zopog_ref.Record of every step. One that raises is dropped with a
      warning, and the fit goes on. Default: None.

    Attributes after fit:

    - classes_, n_features_in_: the classes, and the texts of a row.
    - feature_names_in_: the columns of a DataFrame that was fitted on. Columns that are named as the template's slots
      are taken by name, in any order; others must stand in the same order when predicting.
    - prompt_, prompt_tokens_: the zopog_models.Prompt, and its tokens as text.
    - validation_score_: metric and loss on the rows that the prompt was selected on.
    - deployed_: of which the prompt is, such as "tuned" or "manual + readout"; None: loaded from what did not say.
    - calls_, stop_reason_, curve_: calls spent, why the search ended, a record of every step.
    - seed_, run_folder_: the seed, and the folder of this fit or None.
    - requests_: of a served model, its requests, tokens and missing label words, those of earlier fits in this process
      included unless run_folder keeps them apart; {} of others.

    Errors: ValueError for what cannot be used, before the model is asked anything; ServiceError where a served model
    gives no usable answer.
    """

    def __init__(
        self,
        model: str | Path = "embedded",
        method: str = "zo-pog",
        template: str = "{text} . {mask} .",
        labels: Mapping[Any, str] | None = None,
        budget: int = 4000,
        random_state: Any = 42,
        *,
        settings: str | None = None,
        shots: int | None = 16,
        validation_fraction: float = 0.5,
        batch_size: int | None = None,
        device: str = "cpu",
        threads: int | None = None,
        method_options: Mapping[str, Any] | None = None,
        run_folder: str | Path | None = None,
        readout: str = "auto",
        refit: bool = False,
        chat: bool = False,
        system: str = "",
        prompt_position: str = "before",
        label_words: str = "whole",
        verbose: bool = False,
        served: Mapping[str, Any] | None = None,
        unanswered: Any = None,
        on_step: Callable[[search.Record], object] | Sequence[Callable[[search.Record], object]] | None = None,
    ) -> None:
        self.model = model
        self.method = method
        self.template = template
        self.labels = labels
        self.budget = budget
        self.random_state = random_state
        self.settings = settings
        self.shots = shots
        self.validation_fraction = validation_fraction
        self.batch_size = batch_size
        self.device = device
        self.threads = threads
        self.method_options = method_options
        self.run_folder = run_folder
        self.readout = readout
        self.refit = refit
        self.chat = chat
        self.system = system
        self.prompt_position = prompt_position
        self.label_words = label_words
        self.verbose = verbose
        self.served = served
        self.unanswered = unanswered
        self.on_step = on_step

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = True  # pairs of texts, and a column of texts
        return tags

    # -- learning ------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any) -> Self:
        """Learn a prompt from texts X (list, array or Series; two columns for pairs) and their classes y.

        Where this fails, nothing is fitted: an earlier prompt would answer for the new columns and classes.
        """
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)
        if y is None:
            raise ValueError("PromptClassifier requires y to be passed, but the target y is None")
        slots = make_task(self.template, {"a": "a", "b": "b"}).slots
        X = data.by_slot_name(X, slots)
        validate_data(self, X, reset=True, skip_check_array=True, ensure_2d=False)  # the names of X's columns
        texts = data.texts_of(X, len(slots))
        y = column_or_1d(y, warn=True)
        check_consistent_length(texts, y)
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y has one class only, {classes[0]!r}; at least two classes are needed")
        words = data.label_words(classes, self.labels)
        if self.unanswered is not None and self.unanswered not in classes.tolist():
            raise ValueError(f"unanswered is {self.unanswered!r}, which is no class of y: {classes.tolist()!r:.200}")
        config, wire = chosen(self, words)
        machine, fraction = Machine(self.device, self.threads, wire=wire), self.validation_fraction
        alone = config.remote is not None and self.run_folder is not None  # its requests are written down in the folder
        given = () if self.on_step is None else (self.on_step,) if callable(self.on_step) else tuple(self.on_step)
        dropped: list[str] = []
        experiment, saved = data.experiment_of(texts, labels.astype(np.int64), config, fraction, machine, alone)
        with closing(experiment.model) if alone else nullcontext():
            warn_of_cuts(sum(experiment.truncated.values()), experiment.model.max_positions)
            ledger = experiment.ledger()
            result = self._run(experiment, saved, ledger, config, Watchers(given, dropped.append))
            self.classes_, self.n_features_in_, self.seed_ = classes, len(slots), experiment.seed
            self.prompt_: Prompt = self._deployed(experiment, config, result, ledger)
            self.requests_: dict[str, Any] = experiment.model.runner.report()
        for line in missing_words(experiment):
            warnings.warn(line, AnswersMissing, stacklevel=2)
        to_token = experiment.model.tokenizer.id_to_token
        self.prompt_tokens_: list[list[str | None]] = [[to_token(int(i)) for i in ids] for ids in self.prompt_.ids]
        self.validation_score_, self.curve_ = result.dev, result.curve
        self.calls_: int | None = ledger.calls  # None, as the next one: loaded from what did not say
        self.stop_reason_: str | None = result.stop_reason
        if self.run_folder_ is not None:
            save_prompt(self.run_folder_ / "prompt", self._described())
        for line in dropped:  # last, since a warning may be made an error
            warnings.warn(line, stacklevel=2)
        return self

    def _deployed(
        self, experiment: Experiment, config: RunConfig, result: search.SearchResult, ledger: Ledger
    ) -> Prompt:
        """The tuned prompt, or what is better on the validation rows where a readout was asked for."""
        searched = config.method not in SEARCHLESS
        tuned = experiment.deployable(result.prompts) if searched else None
        self.deployed_: str | None = "tuned"
        if tuned is not None and not reads(config):
            return tuned
        try:
            ending = end(experiment, config, tuned, ledger, result.scores)
        except InputError as error:
            raise ValueError(str(error)) from error
        self.deployed_ = ending.deployed.name
        if not ending.learned:
            warnings.warn("nothing was learned: the scores do not tell the classes", NothingLearned, stacklevel=3)
        return ending.deployed.prompt

    def _run(
        self, experiment: Experiment, saved: dict[str, Any], ledger: Ledger, config: RunConfig, watchers: Watchers
    ) -> search.SearchResult:
        """The search, kept in a folder when there is one: repeated calls go on where the last one stopped."""
        folder: RunFolder | None = None
        self.run_folder_: Path | None = None
        try:
            check_end(experiment, config)
            if self.run_folder is not None:
                self.run_folder_ = Path(self.run_folder) / data.fingerprint(saved)
                known = (self.run_folder_ / "config.json").exists()
                folder = RunFolder.open(self.run_folder_)[0] if known else RunFolder.create(self.run_folder_, saved)
                keep_requests(experiment.model, self.run_folder_)
            for line in probe(experiment.model, experiment):
                if self.verbose:
                    say(line)
            if config.method in SEARCHLESS:
                return search.SearchResult([], None, 0, None, [], "nothing to search")
            method, preset, rows = experiment.method(), experiment.preset, len(experiment.train.labels)
            kept_back = reserved(experiment, config)
            ledger.budget -= kept_back
            price = search.step_price(method, ledger, rows, preset.batch_size)
            with closing(Progress(preset.budget, price, not self.verbose, kept_back)) as progress:

                def on_step(record: search.Record) -> None:
                    progress(record)
                    watchers(record)

                found = search.run(
                    method,
                    experiment.objective(ledger, folder),
                    rows=rows,
                    batch_size=preset.batch_size,
                    dev=experiment.dev_score,
                    store=folder,
                    on_step=on_step,
                )
            ledger.budget += kept_back
            return found
        except InputError as error:
            raise ValueError(str(error)) from error
        finally:
            if folder is not None:
                for warning in folder.warnings:
                    warnings.warn(warning, stacklevel=3)
                folder.close()
