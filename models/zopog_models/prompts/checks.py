"""What a prompt must be to be written or read: whatever contradicts itself is named."""

from collections.abc import Mapping

import numpy as np

from zopog_models.errors import PromptError, TaskError
from zopog_models.families.sentence import POOLINGS
from zopog_models.files.quoting import quoted
from zopog_models.graph import INJECTIONS
from zopog_models.prompts.prompt import Prompt
from zopog_models.tasks.label_words import NOTHING
from zopog_models.tasks.template import POSITIONS, make_task, require_mask

__all__ = ["check_prompt"]

PREDICTIVES = ("mean", "votes")
_STRINGS = ("template", "injection", "model", "model_sha256", "tokenizer_sha256", "predict", "pooling", "source")


def check_prompt(prompt: Prompt, where: str) -> None:
    """Raises PromptError, which names where, for a prompt that contradicts itself."""
    for name in _STRINGS:
        if not isinstance(getattr(prompt, name), str):
            raise PromptError(f"{where}: {name} must be a string, got {getattr(prompt, name)!r:.100}")
    if not isinstance(prompt.about, Mapping):
        raise PromptError(f"{where}: about must be an object, got {prompt.about!r:.100}")
    try:
        make_task(prompt.template, prompt.labels)
        if np.asarray(prompt.label_ids).dtype.kind != "f":
            require_mask(prompt.template)
    except (TaskError, TypeError, AttributeError) as error:
        raise PromptError(f"{where}: {error}") from None
    if prompt.injection not in INJECTIONS:
        raise PromptError(f"{where}: unknown injection {quoted(prompt.injection)}; known: {', '.join(INJECTIONS)}")
    if prompt.predict not in PREDICTIVES:
        raise PromptError(f"{where}: unknown predict {quoted(prompt.predict)}; known: {', '.join(PREDICTIVES)}")
    ids, offsets, weights = (np.asarray(array) for array in (prompt.ids, prompt.offsets, prompt.weights))
    label_ids = np.asarray(prompt.label_ids)
    if ids.ndim != 2 or len(ids) < 1 or offsets.ndim != 3 or offsets.shape[:2] != ids.shape:
        raise PromptError(f"{where}: ids must be (M, n) and offsets (M, n, D), got {ids.shape} and {offsets.shape}")
    if weights.shape != (len(ids),) or not np.isfinite(weights).all() or (weights < 0).any() or not weights.sum() > 0:
        raise PromptError(f"{where}: weights must be {len(ids)} numbers ≥ 0 with a positive sum, got {weights}")
    embedded = label_ids.dtype.kind == "f" and label_ids.ndim == 2
    if prompt.pooling not in ("", *POOLINGS) or (prompt.pooling and not embedded):
        raise PromptError(f"{where}: pooling {prompt.pooling!r:.50} with labels of shape {label_ids.shape}; known, of "
                          f"labels that are embeddings: {', '.join(POOLINGS)}")  # fmt: skip
    if prompt.position not in POSITIONS or (prompt.position == "after" and embedded):
        known = ", ".join(POSITIONS)
        raise PromptError(
            f"{where}: position {quoted(prompt.position)} with labels of shape {label_ids.shape}; known: {known}, and "
            "after is for a decoder"
        )
    if prompt.summed and not _are_words(label_ids):
        raise PromptError(
            f"{where}: label_ids {label_ids.shape} must be words of some tokens, filled up with {NOTHING}"
        )
    if label_ids.shape[:1] != (len(prompt.labels),) or not (embedded or prompt.summed or label_ids.ndim == 1):
        raise PromptError(f"{where}: {len(prompt.labels)} labels need as many label_ids, got shape {label_ids.shape}")
    if embedded and not np.isfinite(label_ids).all():
        raise PromptError(f"{where}: label embeddings hold values that are not finite")
    if ids.dtype.kind not in "iu" or not (embedded or label_ids.dtype.kind in "iu"):
        raise PromptError(f"{where}: ids and label_ids must be whole numbers, got {ids.dtype} and {label_ids.dtype}")
    if not np.isfinite(offsets).all():
        raise PromptError(f"{where}: offsets hold values that are not finite")
    _check_readout(prompt, where)


def _are_words(label_ids: np.ndarray) -> bool:
    """Whether each row has tokens, at least one, and then nothing."""
    tokens = label_ids != NOTHING
    in_front = bool(label_ids.shape[1]) and tokens[:, 0].all() and (np.diff(tokens.astype(int), axis=1) <= 0).all()
    return bool(in_front and label_ids.min(initial=0) >= NOTHING)


def _check_readout(prompt: Prompt, where: str) -> None:
    readout, count = prompt.readout, len(np.asarray(prompt.ids))
    if prompt.templates and (readout is None or len(prompt.templates) != count or not _alike(prompt)):
        raise PromptError(
            f"{where}: templates are for a prompt with a readout, one for each of {count} prompts, the first of them "
            f"its template, all with the same texts; got {quoted(list(prompt.templates))}"
        )
    if readout is not None and (len(readout.matrices) != count or readout.n_classes != len(prompt.labels)):
        raise PromptError(
            f"{where}: {count} prompts with {len(prompt.labels)} labels, and a readout of {len(readout.matrices)} "
            f"prompts to {readout.n_classes} classes"
        )


def _alike(prompt: Prompt) -> bool:
    """Whether the templates are templates with the same texts, of which the first is the prompt's own."""
    try:
        for template in prompt.templates:
            if np.asarray(prompt.label_ids).dtype.kind != "f":
                require_mask(template)
        slots = {make_task(template, prompt.labels).slots for template in prompt.templates}
    except (TaskError, TypeError, AttributeError):
        return False
    return len(slots) == 1 and prompt.templates[0] == prompt.template
