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

from zopog_models.prompts.bundle import Prompt, load_prompt, save_prompt
from zopog_models.prompts.predicting import Prediction, predict
from zopog_models.tasks.template import make_task
from zopog_ref import search
from zopog_ref.app.classifier import data
from zopog_ref.app.scores.uncertainty import entropy, expected_entropy, mutual_information, predictive

__all__ = ["Fitted", "TextsCut", "warn_of_cuts"]

ROWS_AT_ONCE = 1024
FLOAT64 = NDArray[np.float64]


class TextsCut(UserWarning):
    """Texts that did not fit the model's positions lost their ends."""


class Fitted:
    """The half of PromptClassifier that comes after fit."""

    model: str | Path
    device: str
    threads: int | None
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
        slots = make_task(self.prompt_.template, self.prompt_.labels).slots
        X = data.by_slot_name(X, slots)
        if not (data.named_as(X, slots) and not hasattr(self, "feature_names_in_")):
            validate_data(self, X, reset=False, skip_check_array=True, ensure_2d=False)  # the names of X's columns
        texts = data.texts_of(X, self.n_features_in_)
        model = data.opened(str(self.model), self.device, self.threads)
        starts = range(0, len(texts), ROWS_AT_ONCE)
        parts = [predict(model, self.prompt_, texts[start : start + ROWS_AT_ONCE]) for start in starts]
        cut = sum(part.truncated for part in parts)
        warn_of_cuts(cut, model.max_positions)
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
        params = self.get_params(deep=False)  # type: ignore[attr-defined]  # scikit-learn's
        del params["labels"], params["on_step"]  # the prompt has the labels; functions do not go to disk
        params["random_state"] = self.seed_
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
