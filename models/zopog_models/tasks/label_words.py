"""Label words as tokens: with or without a space before them, in one token, by the first of several, or by all.

A word of several tokens w_1 ... w_k has the score log p(w_1 | row) + ... + log p(w_k | row, w_1 ... w_{k-1}), where the
task says so (`Task.summed_pieces`). The model reads the row once for all first tokens, and once more for every other
beginning of a word: `forwards` of them in all.
"""

from collections.abc import Iterator

import numpy as np

from zopog_models.checkpoints.description import Described
from zopog_models.errors import TaskError
from zopog_models.tasks.layout import lay_out
from zopog_models.tasks.template import Task

__all__ = ["NOTHING", "beginnings", "forwards", "padded", "word_pieces", "words_said"]

NOTHING = -1  # fills the rows of label_ids (C, T) behind the tokens of a word


def word_pieces(word: str, task: Task, model: Described) -> tuple[list[int], list[str]]:
    """Ids and texts of the word's tokens. Raises TaskError where it runs into what stands before it."""
    before = task.template.split("{mask}")[0]
    if has_space(task, model):
        encoding = model.tokenizer.encode(model.space + word, add_special_tokens=False)
        return encoding.ids, encoding.tokens
    # As it goes on from what stands before it, "a" standing for the text: back to the last special token.
    last = lay_out(task, model).parts[-1]
    start = "a".join(last.literals)
    context, encoding = (
        model.tokenizer.encode(text, add_special_tokens=False, continuing=last.continuing)
        for text in (start, start + word)
    )
    context = context.ids
    if encoding.ids[: len(context)] != context:
        if before.endswith("\n"):  # the answer begins a line: the model writes the word by itself
            encoding = model.tokenizer.encode(word, add_special_tokens=False, continuing=True)
            return encoding.ids, encoding.tokens
        raise TaskError(
            f"label word {word!r} runs into what stands before {{mask}} in the template {task.template!r}: "
            "put a space before {mask}"
        )
    return encoding.ids[len(context) :], encoding.tokens[len(context) :]


def has_space(task: Task, model: Described) -> bool:
    """Whether a space stands before the label words: always for a masked model, else where the template has it."""
    return model.mask_id is not None or task.template.split("{mask}")[0].endswith(" ")


def words_said(task: Task, model: Described) -> str:
    """A line: which tokens are scored for the label words, and whether with the space before them.

    "" where it would say nothing: labels that are embeddings, or a masked model's words that are one token each.
    """
    if model.pooling:
        return ""
    shown, plain = [], model.mask_id is not None
    for word in task.labels.values():
        _, pieces = word_pieces(word.strip(), task, model)
        scored = pieces if task.summed_pieces else pieces[:1]
        rest = f" (of {len(pieces)})" if len(scored) < len(pieces) else ""
        plain = plain and pieces == [word.strip()]
        shown.append(f"{word.strip()} = {' + '.join(map(repr, scored))}{rest}")
    if plain:
        return ""
    form = "with the space before them" if has_space(task, model) else "as they go on without a space"
    return f"label words {form}: {', '.join(shown)}"


def padded(words: list[list[int]]) -> np.ndarray:
    """Token ids (C, T) of label words of several tokens, filled up with NOTHING; (C,) where each is one token."""
    longest = max(map(len, words))
    if longest == 1:
        return np.array([word[0] for word in words], np.int64)
    return np.array([word + [NOTHING] * (longest - len(word)) for word in words], np.int64)


def beginnings(words: np.ndarray) -> Iterator[tuple[int, ...]]:
    """What stands before a further token of words (C, T), each once, in the order of the words."""
    found: dict[tuple[int, ...], None] = {}
    for word in words[(words[:, 1:] != NOTHING).any(axis=1)].tolist() if words.shape[1] > 1 else []:
        own = [token for token in word if token != NOTHING]
        found.update(dict.fromkeys(tuple(own[:t]) for t in range(1, len(own))))
    yield from found


def forwards(label_ids: np.ndarray) -> int:
    """How often the model reads a row for its scores of these label words: `FrozenModel.logits`'s label_ids."""
    if label_ids.ndim == 1 or label_ids.dtype.kind == "f":
        return 1
    return 1 + sum(1 for _ in beginnings(label_ids))
