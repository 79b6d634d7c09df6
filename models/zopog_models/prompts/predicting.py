"""Predicting with a tuned prompt: the scores of its label words, and what becomes of them.

With a prompt that was tuned before:

    from zopog_models import load_model, load_prompt, predict
    model, prompt = load_model("embedded"), load_prompt("runs/mine/prompt")
    p = predict(model, prompt, [("a thick soup of beans",)]).probabilities  # (1, C)
"""

from __future__ import annotations  # signatures show names, not what these stand for

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zopog_models.errors import PromptError, PromptMismatch
from zopog_models.files.quoting import quoted
from zopog_models.frozen.model import FrozenModel
from zopog_models.prompts.bundle import Prompt
from zopog_models.prompts.readout import WORDS, targets, unanswered
from zopog_models.tasks.encoding import encode
from zopog_models.tasks.template import make_task


class Prediction(NamedTuple):
    """probabilities (R, C): the weighted mean over the prompts; per_prompt (M, R, C): each prompt's own (of votes: 1 at
    its label; with a readout, which reads all prompts at once, M = 1); truncated: rows cut to fit the model."""

    probabilities: np.ndarray
    per_prompt: np.ndarray
    truncated: int


def predict(model: FrozenModel, prompt: Prompt, texts: Sequence[tuple[str, ...]]) -> Prediction:
    """Label probabilities: p(c | row) = Σ_m w_m p_m(c | row) / Σ_m w_m, p_m = softmax(logits_m(row)).

    A prompt with predict="votes" has p_m(c | row) = 1 where logits_m(row)_c is largest (of equals the first), else 0.
    With a readout p(· | row) is what it makes of all prompts' scores. A row whose scores are all the same, as where a
    service refuses a text, has equal probabilities and no class (`chosen`).

    Raises PromptMismatch (another model, tokenizer or injection point), TaskError (rows that do not fit the template),
    PromptError (scores that are not finite: offsets that are too large).

    Parameters
        model, prompt: the prompt, or several with weights, and the model that they were tuned for
        texts: R tuples of one string, or two for a template with two texts
    """
    check_match(model, prompt)
    label_ids = np.asarray(prompt.label_ids)
    if prompt.readout is not None:
        wanted = targets(prompt.readout.asked()[0], label_ids)
        scores, truncated = prompt_scores(model, prompt, texts, wanted)
        probabilities = prompt.readout.probabilities(scores)
        return Prediction(probabilities, probabilities[None], truncated)
    logits, truncated = prompt_scores(model, prompt, texts, label_ids)
    return answered(prompt, logits, truncated)


def answered(prompt: Prompt, logits: np.ndarray, truncated: int) -> Prediction:
    """What a prompt without a readout makes of its label words' scores (M, R, C)."""
    if prompt.predict == "votes":
        per_prompt = votes(logits)
    else:
        exponentials = np.exp(logits - logits.max(-1, keepdims=True))
        per_prompt = exponentials / exponentials.sum(-1, keepdims=True)
    weights = np.asarray(prompt.weights, np.float64)
    probabilities = np.einsum("m,mrc->rc", weights / weights.sum(), per_prompt)
    return Prediction(probabilities, per_prompt, truncated)


def votes(scores: np.ndarray) -> np.ndarray:
    """(..., C): 1 at the largest of the scores, of equals the first; 1/C each where all are the same."""
    classes = scores.shape[-1]
    return np.where(unanswered(scores)[..., None], 1 / classes, np.eye(classes)[scores.argmax(-1)])


def chosen(probabilities: np.ndarray, per_prompt: np.ndarray) -> np.ndarray:
    """The most probable class of each row (R,); -1 where no prompt was answered: its probabilities are all the same."""
    return np.where(unanswered(per_prompt).all(axis=0), -1, probabilities.argmax(axis=-1))


def prompt_scores(
    model: FrozenModel, prompt: Prompt, texts: Sequence[tuple[str, ...]], wanted: np.ndarray
) -> tuple[np.ndarray, int]:
    """Scores (M, R, U), float64, of `wanted` (as `FrozenModel.logits` takes label_ids), and how many rows were cut.

    Each row is read with each prompt in its own template. Raises as `predict`.
    """
    count, rows, templates = len(prompt.ids), len(texts), prompt.every_template
    encoded = {
        template: encode(texts, make_task(template, prompt.labels), model, prompt.n_positions)
        for template in dict.fromkeys(templates)
    }
    logits = model.logits(
        [ids for template in templates for ids in encoded[template].ids],
        np.concatenate([encoded[template].answer_position for template in templates]),
        prompt.ids,
        prompt.offsets,
        np.repeat(np.arange(count), rows),
        wanted,
        np.concatenate([encoded[template].text_end for template in templates]) if prompt.position == "after" else None,
    ).astype(np.float64)
    if not np.isfinite(logits).all():
        raise PromptError(
            f"the scores of {model.name!r} with this prompt are not finite: its offsets, up to "
            f"{np.abs(prompt.offsets).max(initial=0):.1e}, are too large, or the model is damaged"
        )
    return logits.reshape(count, rows, len(wanted)), max(one.truncated for one in encoded.values())


def check_match(model: FrozenModel, prompt: Prompt) -> None:
    """Raises PromptMismatch unless the prompt was tuned for this model, tokenizer and injection point."""
    for what, wanted, found in (
        ("model", prompt.model_sha256, model.sha256),
        ("tokenizer", prompt.tokenizer_sha256, model.tokenizer_sha256),
    ):
        if wanted != found:
            raise PromptMismatch(
                f"the prompt was tuned for {what} {quoted(prompt.model)} with sha256 {wanted:.80}, but "
                f"{model.name!r} has sha256 {found}; load the {what} it was tuned for"
            )
    if (np.asarray(prompt.label_ids).dtype.kind == "f") != bool(model.pooling):
        kind, other = ("a sentence-embedding model", "a model with a head")[:: -1 if model.pooling else 1]
        raise PromptMismatch(f"the prompt was tuned for {kind}, {model.name!r} was loaded as {other}: see pooling")
    if prompt.pooling not in ("", model.pooling):
        raise PromptMismatch(
            f"the prompt was tuned with pooling {prompt.pooling!r}, {model.name!r} was loaded with {model.pooling!r}; "
            f"load it with pooling={prompt.pooling!r}"
        )
    if prompt.injection != model.injection:
        raise PromptMismatch(
            f"the prompt was tuned with injection {prompt.injection!r}, the model was loaded with "
            f"{model.injection!r}; load it with injection={prompt.injection!r}"
        )
    if prompt.position == "after" and model.why_not_after:
        raise PromptMismatch(
            "the prompt was tuned to stand after the text, and "
            f"{model.name!r} cannot read it there: {model.why_not_after}"
        )
    if prompt.summed and model.why_not_summed:
        raise PromptMismatch(
            "the prompt's label words are scored by all their tokens, and "
            f"{model.name!r} cannot: {model.why_not_summed}"
        )
    # A file can carry the right hashes and still not fit.
    width, target = prompt.offsets.shape[2], model.hidden_size
    if width != model.embedding_size or (prompt.label_ids.dtype.kind == "f" and prompt.label_ids.shape[1] != target):
        raise PromptMismatch(
            f"the prompt's offsets are {width} wide and its labels {prompt.label_ids.shape}; {model.name!r} has "
            f"embeddings of {model.embedding_size} and hidden states of {target}"
        )
    for name, ids in (("ids", prompt.ids), ("label_ids", prompt.label_ids)):
        if ids.dtype.kind != "f" and ids.size and (ids.min() < -prompt.summed or ids.max() >= model.vocab_size):
            raise PromptMismatch(
                f"the prompt's {name} go from {ids.min()} to {ids.max()}, but {model.name!r} knows "
                f"{model.vocab_size} tokens"
            )
    if prompt.readout is not None:
        read = np.concatenate(prompt.readout.columns)
        words = np.unique(read[read >= WORDS])
        if len(words) and (not prompt.summed or words[-1] >= WORDS + len(prompt.labels)):
            raise PromptMismatch("the prompt's readout reads label words of several tokens, which it does not have")
        largest = int(read[read < WORDS].max(initial=0))
        known = len(prompt.labels) + target if model.pooling else model.vocab_size
        if largest >= known:
            raise PromptMismatch(
                f"the prompt's readout reads column {largest}, but {model.name!r} has {known} scores to give"
            )
