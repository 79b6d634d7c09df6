"""A tuned prompt: all that deployment needs besides the model folder. `bundle` has it on disk."""

from __future__ import annotations  # signatures show names, not what these stand for

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zopog_models.files.shown import Shown
from zopog_models.prompts.readout import PromptReadout

__all__ = ["SCHEMA", "SCHEMA_WITH_POSITION", "SCHEMA_WITH_READOUT", "Prompt"]

SCHEMA = 1
SCHEMA_WITH_READOUT = 2
SCHEMA_WITH_POSITION = 3


@dataclass(frozen=True, repr=False)
class Prompt(Shown):
    """M prompts of n positions with their weights; M = 1 unless the method learns a distribution over prompts.

    Parameters
        ids: (M, n) token ids
        offsets: (M, n, E), float32, A z, added to the prompt's embeddings
        weights: (M,), ≥ 0, with a positive sum
        label_ids: (C,) token ids of the label words; (C, T) where words of several are scored by all of them, filled
            up with -1; of a sentence-embedding model, (C, D), float32, the temperature times the unit embeddings of the
            label phrases
        template, labels: as in `Task`; labels: label value -> label word
        injection: where the offsets are added
        model, model_sha256, tokenizer_sha256: the model's name, and the hashes of its and the tokenizer's files
        about: anything else worth keeping (method, seed, scores), as JSON; default: nothing
        predict: how several prompts answer together, by the "mean" of their probabilities, or by the "votes" of their
            labels where a method saw nothing else; default "mean", in files without an entry too
        pooling: of a sentence-embedding model; default "": the model has a head, or the file is older than the entry
        source: "embedded" or org/name@commit, by which `load_model` finds the model on any machine; default "": none
        readout: how the scores are read; default None: the label words' own, by softmax, each prompt for itself
        templates: of each prompt, where they differ (`template` is the first); only with a readout; default: all one
        position: where the prompts stand, "before" or "after" the text; default "before"
    """

    ids: np.ndarray
    offsets: np.ndarray
    weights: np.ndarray
    label_ids: np.ndarray
    template: str
    labels: Mapping[str, str]
    injection: str
    model: str
    model_sha256: str
    tokenizer_sha256: str
    about: Mapping[str, Any] = field(default_factory=dict)
    predict: str = "mean"
    pooling: str = ""
    source: str = ""
    readout: PromptReadout | None = None
    templates: tuple[str, ...] = ()
    position: str = "before"

    @property
    def summed(self) -> bool:
        """Whether there are label words of several tokens, scored by all of them."""
        label_ids = np.asarray(self.label_ids)
        return label_ids.ndim == 2 and label_ids.dtype.kind in "iu"

    @property
    def schema(self) -> int:
        """The version of the format that says all of it."""
        if self.position != "before" or self.summed:
            return SCHEMA_WITH_POSITION
        return SCHEMA if self.readout is None else SCHEMA_WITH_READOUT

    def facts(self) -> dict[str, Any]:
        """What it asks, of which model, and how the scores are read."""
        tokens, offsets = np.asarray(self.ids), np.asarray(self.offsets)
        return {
            "template": self.template, "labels": dict(self.labels), "model": self.model, "prompts": len(tokens),
            "tokens": tokens.shape[-1], "offset": "yes" if offsets.any() else "none",
            "readout": "none" if self.readout is None else self.readout.kind, "model_sha256": self.model_sha256[:12],
        }  # fmt: skip

    @property
    def n_positions(self) -> int:
        return int(self.ids.shape[1])

    @property
    def every_template(self) -> tuple[str, ...]:
        """The template of each prompt, (M,)."""
        return self.templates or (self.template,) * len(self.ids)

    @property
    def answer_weights(self) -> np.ndarray:
        """Weights of the answers in `Prediction.per_prompt`: a readout reads all prompts and is one answer."""
        return np.ones(1) if self.readout is not None else np.asarray(self.weights, np.float64)
