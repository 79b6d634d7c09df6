"""What a fitted PromptClassifier does: answers, and goes to disk and back. Its prompt is all that it needs."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted, validate_data

from zopog_models.errors import ServiceError
from zopog_models.prompts.bundle import Prompt, load_prompt, save_prompt
from zopog_models.prompts.predicting import Prediction, chosen, predict
from zopog_models.served.addresses import is_served
from zopog_models.tasks.template import make_task
from zopog_ref import search
from zopog_ref.app.classifier import data
from zopog_ref.app.classifier.served import asked_of, kept, said_again
from zopog_ref.app.run.config import Machine
from zopog_ref.app.scores.uncertainty import entropy, expected_entropy, mutual_information, predictive

__all__ = ["AnswersMissing", "Fitted", "TextsCut", "warn_of_cuts"]

ROWS_AT_ONCE = 1024
FLOAT64 = NDArray[np.float64]


class TextsCut(UserWarning):
    """Texts that did not fit the model's positions lost their ends."""


class AnswersMissing(UserWarning):
    """A served model gave some texts no answer, or left label words out of many of its answers."""


class Fitted:
    """The half of PromptClassifier that comes after fit."""

    model: str | Path
    device: str
    threads: int | None
    served: Mapping[str, Any] | None
    unanswered: Any
    classes_: NDArray[Any]
    n_features_in_: int
    feature_names_in_: NDArray[Any]
    prompt_: Prompt
    prompt_tokens_: list[list[str | None]]
    validation_score_: search.DevScore | None
    curve_: list[search.Record]
    calls_: int | None
    stop_reason_: str | None
    deployed_: str | None
    seed_: int | None
    run_folder_: Path | None

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "prompt_")

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class of each text. (rows,)

        Errors: ServiceError where a served model gave a text no answer, as a filter does, unless `unanswered` says the
        class of such texts.
        """
        p, each, _ = self._answer(X)
        picked, silent = p.argmax(axis=1), self._silent(p, each)
        if silent.size:
            known = self.classes_.tolist()
            if self.unanswered is None or self.unanswered not in known:
                rows = ", ".join(map(str, silent[:5])) + ", ..." * (len(silent) > 5)
                raise ServiceError(
                    f"{len(silent)} of {len(p)} texts got no answer from the served model, or one that is the same for "
                    f"all classes (rows {rows}), so they have no class: predict_proba gives them equal probabilities; "
                    "unanswered=CLASS, one of classes_, gives them that class"
                )
            picked[silent] = known.index(self.unanswered)
        return self.classes_[picked]

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
        slots = make_task(self.prompt_.template, self.prompt_.labels).slots
        X = data.by_slot_name(X, slots)
        if not (data.named_as(X, slots) and not hasattr(self, "feature_names_in_")):
            validate_data(self, X, reset=False, skip_check_array=True, ensure_2d=False)  # the names of X's columns
        texts = data.texts_of(X, self.n_features_in_)
        remote, wire = asked_of(str(self.model), self.served)
        model = data.opened(str(self.model), Machine(self.device, self.threads, wire=wire), remote)
        starts = range(0, len(texts), ROWS_AT_ONCE)
        parts = [predict(model, self.prompt_, texts[start : start + ROWS_AT_ONCE]) for start in starts]
        cut = sum(part.truncated for part in parts)
        warn_of_cuts(cut, model.max_positions)
        p, each = (np.concatenate([part[i] for part in parts], axis=i) for i in (0, 1))
        if silent := len(self._silent(p, each)):
            what = f"{silent} of {len(p)} texts got no answer from the served model: all classes are equally probable"
            warnings.warn(what, AnswersMissing, stacklevel=3)
        return Prediction(p, each, cut)

    def _silent(self, p: FLOAT64, each: FLOAT64) -> NDArray[np.int64]:
        """Rows that a served model gave no answer."""
        return np.flatnonzero(chosen(p, each) < 0) if is_served(str(self.model)) else np.zeros(0, np.int64)

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
        params = self.get_params(deep=False)  # type: ignore[attr-defined]  # scikit-learn's
        del params["labels"], params["on_step"]  # the prompt has the labels; functions do not go to disk
        params["random_state"], params["served"] = self.seed_, kept(self.served)
        for name in ("model", "run_folder"):
            params[name] = None if params[name] is None else str(params[name])
        about = {
            "estimator": "PromptClassifier",
            "params": params,
            "classes": classes.tolist(),
            "feature_names": list(map(str, getattr(self, "feature_names_in_", []))),
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
        cls, path: str | Path, *, model: str | Path | None = None, device: str = "cpu", threads: int | None = None,
        served: Mapping[str, Any] | None = None,
    ) -> Self:  # fmt: skip
        """The fitted classifier that save() wrote, or one from the prompt (or run) folder of `zopog tune`.

        model: where the model lies here, when it is not where it was; a served one's address always, since a folder
        alone sends texts nowhere. served: its options, in place of those that were saved; the key's variable always.
        Errors: PromptError for a damaged folder; ValueError for an address or a variable that nobody named;
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
        params["prompt_position"] = prompt.position if prompt.n_positions else params.get("prompt_position", "before")
        params |= {"device": device, "threads": threads} | ({} if model is None else {"model": model})
        params["served"] = said_again(params.get("served"), served, str(params["model"]), model is not None)
        self = cls(**params)
        self.classes_, self.prompt_ = classes, prompt
        self.n_features_in_ = len(make_task(prompt.template, prompt.labels).slots)
        if names := saved.get("feature_names"):
            self.feature_names_in_ = np.array(names, object)
        self.seed_, self.run_folder_ = saved.get("params", {}).get("random_state"), None
        self.calls_, self.stop_reason_ = saved.get("calls"), saved.get("stop_reason")
        self.deployed_ = saved.get("deployed")
        score = saved.get("validation_score")
        self.validation_score_ = None if score is None else search.DevScore(*score)
        self.prompt_tokens_, self.curve_ = saved.get("prompt_tokens", []), []
        return self


def warn_of_cuts(cut: int, positions: int) -> None:
    """TextsCut, where texts were cut."""
    if cut:
        warnings.warn(f"{cut} texts did not fit the model's {positions} positions and were cut", TextsCut, stacklevel=4)
