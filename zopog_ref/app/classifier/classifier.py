"""PromptClassifier: a tuned prompt with scikit-learn's conventions.

    from zopog_ref import PromptClassifier
    clf = PromptClassifier(template="{text} . it is a kind of {mask} .", budget=4000, random_state=42)
    clf.fit(texts, y).predict_proba(more_texts)

docs/scikit-learn.md has the parameters and examples.
"""

import json
import warnings
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state, column_or_1d
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_consistent_length, check_is_fitted
except ImportError as error:
    raise ImportError(
        f"PromptClassifier needs scikit-learn ({error}): pip install scikit-learn; without it, `zopog tune` "
        "does the same from the command line"
    ) from error

from zopog_models.prompts.bundle import Prompt, load_prompt, save_prompt
from zopog_models.prompts.predicting import Prediction, predict
from zopog_models.tasks.template import make_task
from zopog_ref import search
from zopog_ref.app.classifier import data
from zopog_ref.app.errors import InputError
from zopog_ref.app.report.progress import Progress
from zopog_ref.app.run.config import Machine, RunConfig
from zopog_ref.app.run.experiment import Experiment
from zopog_ref.app.run.folder import RunFolder
from zopog_ref.app.run.presets import TEMPLATE_ALONE
from zopog_ref.app.scores.uncertainty import entropy, expected_entropy, mutual_information, predictive
from zopog_ref.app.tune.ending import end, reads, reserved
from zopog_ref.app.tune.readings import ASKED
from zopog_ref.objective import Ledger

ROWS_AT_ONCE = 1024
FLOAT64 = NDArray[np.float64]


class TextsCut(UserWarning):
    """Texts that did not fit the model's positions lost their ends."""


class NothingLearned(UserWarning):
    """The scores do not tell the classes better than chance does."""


class PromptClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Learns a prompt for a frozen masked language model from a few labelled texts, by any method of `zopog methods`.

    Parameters:

    - model: "embedded" or a Hugging Face folder. Default: "embedded".
    - method: a name of `zopog methods`; "none" searches nothing, the template is the prompt. Default: "zo-pog".
    - template: a text with {text}, or {text_a} and {text_b}, and {mask}. Default: "{text} . {mask} .".
    - labels: class -> label word. Default: None, each class's own name.
    - budget: API calls, each one prompt on one mini-batch. Default: 4000.
    - random_state: decides the split and every draw. Default: 42.
    - settings: "embedded" or "paper". Default: None, the model's own.
    - shots: rows of each class to learn from, and to select on, at most; None is all. Default: 16.
    - validation_fraction: share of each class's rows that the prompt is selected on. Default: 0.5.
    - batch_size: rows of a mini-batch. Default: None, that of the settings.
    - device: "cpu" or "cuda". Default: "cpu".
    - threads: processor threads of the model; 1 beside n_jobs. Default: None, all cores.
    - method_options: any other setting of the method, as {"eta_z": 0.1}. Default: None.
    - run_folder: keeps every fit in a folder of its own, so that an interrupted fit goes on when it is repeated.
      Default: None.
    - readout: how the scores are read (docs/readout.md): "none", "centred", "labels", "vocabulary" or "auto". With one,
      the template with a readout is fitted too, and what is better on the validation rows is kept. Default: "none".
    - verbose: shows progress on stderr. Default: False.

    Attributes after fit:

    - classes_, n_features_in_: the classes, and the texts of a row.
    - prompt_, prompt_tokens_: the zopog_models.Prompt, and its tokens as text.
    - validation_score_: metric and loss on the rows that the prompt was selected on.
    - deployed_: of which the prompt is, such as "tuned" or "manual + readout"; None: loaded from what did not say.
    - calls_, stop_reason_, curve_: calls spent, why the search ended, a record of every step.
    - seed_, run_folder_: the seed, and the folder of this fit or None.

    Errors: ValueError for what cannot be used, before the model is asked anything.
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
        readout: str = "none",
        verbose: bool = False,
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
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = True  # pairs of texts, and a column of texts
        return tags

    # -- learning ------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any) -> Self:
        """Learn a prompt from texts X (list, array or Series; two columns for pairs) and their classes y."""
        if y is None:
            raise ValueError("PromptClassifier requires y to be passed, but the target y is None")
        slots = len(make_task(self.template, {"a": "a", "b": "b"}).slots)
        texts = data.texts_of(X, slots)
        y = column_or_1d(y, warn=True)
        check_consistent_length(texts, y)
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y has one class only, {classes[0]!r}; at least two classes are needed")
        words = data.label_words(classes, self.labels)
        config = self._config(words)
        machine, fraction = Machine(self.device, self.threads), self.validation_fraction
        experiment, saved = data.experiment_of(texts, labels.astype(np.int64), config, fraction, machine)
        _warn_of_cuts(sum(experiment.truncated.values()), experiment.model.max_positions)
        ledger = experiment.ledger()
        result = self._run(experiment, saved, ledger, config)
        self.classes_, self.n_features_in_, self.seed_ = classes, slots, experiment.seed
        self.prompt_: Prompt = self._deployed(experiment, config, result, ledger)
        to_token = experiment.model.tokenizer.id_to_token
        self.prompt_tokens_: list[list[str | None]] = [[to_token(int(i)) for i in ids] for ids in self.prompt_.ids]
        self.validation_score_, self.curve_ = result.dev, result.curve
        self.calls_: int | None = ledger.calls  # None, as the next one: loaded from what did not say
        self.stop_reason_: str | None = result.stop_reason
        if self.run_folder_ is not None:
            save_prompt(self.run_folder_ / "prompt", self._described())
        return self

    def _deployed(
        self, experiment: Experiment, config: RunConfig, result: search.SearchResult, ledger: Ledger
    ) -> Prompt:
        """The tuned prompt, or what is better on the validation rows where a readout was asked for."""
        searched = config.method != TEMPLATE_ALONE
        tuned = experiment.deployable(result.prompts) if searched else None
        self.deployed_: str | None = "tuned"
        if tuned is not None and not reads(config):
            return tuned
        try:
            ending = end(experiment, config, tuned, ledger)
        except InputError as error:
            raise ValueError(str(error)) from error
        self.deployed_ = ending.deployed.name
        if not ending.learned:
            warnings.warn("nothing was learned: the scores do not tell the classes", NothingLearned, stacklevel=3)
        return ending.deployed.prompt

    def _config(self, words: Mapping[str, str]) -> RunConfig:
        """What the parameters say of a run. Errors: ValueError; ImportError for a missing package."""
        model, drawn = str(self.model), self.random_state
        name, preset = data.chosen_preset(
            self.method, self.settings, model, self.budget, self.batch_size, self.method_options
        )
        if not isinstance(drawn, int | np.integer) or drawn < 0:
            drawn = check_random_state(drawn).randint(2**31 - 1)
        shots = int(self.shots) if isinstance(self.shots, np.integer) else self.shots
        if self.readout not in ASKED:
            raise ValueError(f"readout is {self.readout!r}; choose one of {', '.join(ASKED)}")
        plain = self.readout == "none" and self.method != TEMPLATE_ALONE
        return RunConfig(
            make_task(self.template, words, name="fit"), None, model, preset, name, int(drawn), shots,
            readout=None if plain else self.readout,
        )  # fmt: skip

    def _run(
        self, experiment: Experiment, saved: dict[str, Any], ledger: Ledger, config: RunConfig
    ) -> search.SearchResult:
        """The search, kept in a folder when there is one: repeated calls go on where the last one stopped."""
        folder: RunFolder | None = None
        self.run_folder_: Path | None = None
        try:
            if self.run_folder is not None:
                self.run_folder_ = Path(self.run_folder) / data.fingerprint(saved)
                known = (self.run_folder_ / "config.json").exists()
                folder = RunFolder.open(self.run_folder_)[0] if known else RunFolder.create(self.run_folder_, saved)
            if config.method == TEMPLATE_ALONE:
                return search.SearchResult([], None, 0, None, [], "nothing to search")
            method, preset, rows = experiment.method(), experiment.preset, len(experiment.train.labels)
            kept_back = reserved(experiment, config)
            ledger.budget -= kept_back
            price = search.step_price(method, ledger, rows, preset.batch_size)
            if ledger.budget < price:
                raise InputError(f"budget is {preset.budget} calls; one step costs {price}, the readout {kept_back}")
            with closing(Progress(preset.budget, price, quiet=not self.verbose)) as progress:
                found = search.run(
                    method,
                    experiment.objective(ledger, folder),
                    rows=rows,
                    batch_size=preset.batch_size,
                    dev=experiment.dev_score,
                    store=folder,
                    on_step=progress,
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

    # -- predicting ----------------------------------------------------------------------------------------------

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class of each text. (rows,)"""
        p = self.predict_proba(X)
        return self.classes_[p.argmax(axis=1)]

    def predict_proba(self, X: Any) -> FLOAT64:
        """Probabilities (rows, C) in the order of classes_: the weighted mean over the prompts."""
        return self._answer(X).probabilities

    def predict_set(self, X: Any) -> NDArray[np.bool_]:
        """Which classes cannot be left out, (rows, C): each text's own is among them for about 90% of texts.

        Errors: ValueError for a prompt without a readout.
        """
        p = self._answer(X).probabilities
        sets = None if self.prompt_.readout is None else self.prompt_.readout.sets(p)
        if sets is None:
            raise ValueError('prediction sets come with a readout: fit with readout="auto"')
        return sets

    def predict_uncertainty(self, X: Any) -> dict[str, FLOAT64]:
        """Of each text, in nats: entropy of the mean prediction, expected_entropy of a single prompt's, and their gap,
        the mutual_information; agreement, the weighted share of the prompts that vote for the predicted class. (rows,)
        """
        p, each, _ = self._answer(X)
        weights, rows = self.prompt_.answer_weights, np.arange(len(p))
        return {
            "entropy": entropy(p),
            "expected_entropy": expected_entropy(each, weights),
            "mutual_information": mutual_information(each, weights),
            "agreement": predictive(each, weights, "votes")[rows, p.argmax(axis=1)],
        }

    def _answer(self, X: Any) -> Prediction:
        check_is_fitted(self)
        texts = data.texts_of(X, self.n_features_in_)
        model = data.opened(str(self.model), Machine(self.device, self.threads))
        starts = range(0, len(texts), ROWS_AT_ONCE)
        parts = [predict(model, self.prompt_, texts[start : start + ROWS_AT_ONCE]) for start in starts]
        cut = sum(part.truncated for part in parts)
        _warn_of_cuts(cut, model.max_positions)
        p, each = (np.concatenate([part[i] for part in parts], axis=i) for i in (0, 1))
        return Prediction(p, each, cut)

    # -- keeping -------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the fitted classifier as a prompt folder, which `zopog predict` reads too. No pickle.

        Errors: ValueError for classes that are not strings, numbers or truth values.
        """
        check_is_fitted(self)
        save_prompt(path, self._described())

    def _described(self) -> Prompt:
        """The prompt with what else load() needs in its `about`, as JSON."""
        classes = self.classes_
        if classes.dtype.kind not in "Uiufb" and not all(isinstance(value, str) for value in classes):
            raise ValueError(f"classes of dtype {classes.dtype} cannot be saved; use strings or numbers")
        params = self.get_params(deep=False)
        del params["labels"]  # the prompt has them
        params["random_state"] = self.seed_
        for name in ("model", "run_folder"):
            params[name] = None if params[name] is None else str(params[name])
        about = {
            "estimator": "PromptClassifier",
            "params": params,
            "classes": classes.tolist(),
            "classes_dtype": "object" if classes.dtype.kind == "O" else classes.dtype.str,
            "calls": self.calls_,
            "stop_reason": self.stop_reason_,
            "deployed": self.deployed_,
            "validation_score": self.validation_score_,
            "prompt_tokens": self.prompt_tokens_,
        }
        plain = json.loads(json.dumps(about, default=lambda value: value.item()))  # NumPy's numbers as Python's
        return replace(self.prompt_, about=plain)

    @classmethod
    def load(
        cls, path: str | Path, *, model: str | Path | None = None, device: str = "cpu", threads: int | None = None
    ) -> Self:
        """The fitted classifier that save() wrote, or one from the prompt (or run) folder of `zopog tune`.

        model: where the model lies here, when it is not where it was. Errors: PromptError for a damaged folder;
        PromptMismatch, when predicting, for another model than the prompt was tuned for.
        """
        folder = Path(path)
        if not (folder / "prompt.safetensors").exists() and (folder / "prompt").is_dir():
            folder = folder / "prompt"
        prompt = load_prompt(folder)
        saved: Mapping[str, Any] = prompt.about if prompt.about.get("estimator") == "PromptClassifier" else {}
        classes = np.array(saved.get("classes", list(prompt.labels)), saved.get("classes_dtype"))
        params = {"model": prompt.model, **saved.get("params", {})}
        params |= {"template": prompt.template, "labels": dict(zip(classes.tolist(), prompt.labels.values()))}
        params |= {"device": device, "threads": threads} | ({} if model is None else {"model": model})
        self = cls(**params)
        self.classes_, self.prompt_ = classes, prompt
        self.n_features_in_ = len(make_task(prompt.template, prompt.labels).slots)
        self.seed_, self.run_folder_ = saved.get("params", {}).get("random_state"), None
        self.calls_, self.stop_reason_ = saved.get("calls"), saved.get("stop_reason")
        self.deployed_ = saved.get("deployed")
        score = saved.get("validation_score")
        self.validation_score_ = None if score is None else search.DevScore(*score)
        self.prompt_tokens_, self.curve_ = saved.get("prompt_tokens", []), []
        return self


def _warn_of_cuts(cut: int, positions: int) -> None:
    if cut:
        warnings.warn(f"{cut} texts did not fit the model's {positions} positions and were cut", TextsCut, stacklevel=4)
