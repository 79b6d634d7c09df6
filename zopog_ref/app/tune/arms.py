"""What `--method auto` can ask: templates, instructions in front of a template, demonstrations in front of a template.

All are text, so that an arm is a template like any other, and is deployed as one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from zopog_models.checkpoints.description import Described
from zopog_models.errors import TaskError
from zopog_models.tasks.encoding import encode, label_targets
from zopog_models.tasks.layout import lay_out
from zopog_models.tasks.task_files import Rows
from zopog_models.tasks.template import Task, replace_template
from zopog_ref.randomness import Purpose, permutation

__all__ = ["DEMONSTRATED", "Arm", "demonstrated", "instructed", "templates"]

SETS = 3  # of demonstrations
DEMONSTRATED = 8  # rows that a set shows at most: one of each class
# What follows the text is for decoders, which answer at the end; none of them names a task. Chosen and ordered with
# rows of train files (docs/auto.md).
_MASKED = (
    "{text} . {mask} .", "{mask} : {text} .", "{text} . this is a {mask} .", "{mask} , {text} .", "{text} . a {mask} .",
    "{mask} . {text} .", "the {mask} : {text} .", "{text} . it was {mask} .", "{text} is {mask} .",
    "this is about {mask} : {text} .", "{text} , that is {mask} .", "category : {mask} . {text} .",
)  # fmt: skip
_CAUSAL = (
    "{text}\nAnswer: {mask}", "{text}\nThis is {mask}", "Text: {text}\nLabel: {mask}", "{text}\nIn one word: {mask}",
    "{text}\nIt is about {mask}", "Question: {text}\nAnswer: {mask}", "{text}\nThe category is {mask}",
    "{text} It was {mask}", "Input: {text}\nOutput: {mask}", "{text}\nAll in all, it is {mask}",
)  # fmt: skip
_POOLED = ("{text}", "{text} .", "this is about {text}", "text: {text}", "topic: {text}", "query: {text}")
_PAIR = {
    "masked": ("{text_a} ? {mask} , {text_b} .", "{text_a} . {mask} , {text_b} ."),
    "causal": ("{text_a}\nQuestion: {text_b}\nAnswer: {mask}", "{text_a}\n{text_b}\nSame or different? {mask}"),
    "pooled": ("{text_a} {text_b}",),
}
_JOINED = {"masked": "{text_a} . {text_b}", "causal": "{text_a}\n{text_b}", "pooled": "{text_a} . {text_b}"}
INSTRUCTIONS = (
    "Which is it: {labels}?", "Classify this as {labels}.", "Choose one of {labels}.",
    "Read the text and say whether it is {labels}.",
)  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """A question. own: training rows whose labels it shows, which it is never asked about."""

    kind: str  # template, instruction or demonstrations
    template: str
    own: tuple[int, ...] = ()


def templates(task: Task, model: Described, given: Sequence[str], train: Rows) -> list[Arm]:
    """The task's own (or the user's) templates, then the generic ones that this model and these label words allow."""
    name = _kind(model)
    generic = {"masked": _MASKED, "causal": _CAUSAL, "pooled": _POOLED}[name]
    if len(task.slots) == 2:
        generic = _PAIR[name] + tuple(one.replace("{text}", _JOINED[name]) for one in generic)
    found = [one for one in generic if one not in given and _fits(task, model, one, train)]
    return [Arm("template", one) for one in (*given, *found)]


def instructed(task: Task, model: Described, template: str, instructions: Iterable[str], train: Rows) -> list[Arm]:
    """Every instruction in front of the template; {labels} in it stands for the label words. Errors: TaskError."""
    if not _plain(task, model, template):
        return []
    *most, last = task.labels.values()
    said = [one.replace("{labels}", f"{', '.join(most)} or {last}") for one in instructions]
    if wrong := [one for one in said if not _literal(one, model)]:
        raise TaskError(f"an instruction is text without braces (but {{labels}}) and special tokens, not {wrong[0]!r}")
    made = (f"{one}{_between(model, template)}{template}" for one in said)
    return [Arm("instruction", one) for one in dict.fromkeys(made) if _fits(task, model, one, train)]


def demonstrated(task: Task, model: Described, template: str, train: Rows, seed: int, sets: int = SETS) -> list[Arm]:
    """Sets of training rows with their label words in front of the template, one row of each of up to 8 classes."""
    if model.pooling or not _plain(task, model, template):
        return []
    words, classes, arms = list(task.labels.values()), len(task.labels), []
    usable = np.array([all(_literal(text, model) for text in row) for row in train.texts])
    taken = np.zeros(len(train.labels), bool)
    for number in range(sets):
        order = permutation(seed, 1 + number, Purpose.DEMONSTRATIONS, len(train.labels))
        shown: list[int] = []
        for c in np.argsort(permutation(seed, 1 + number, Purpose.DEMONSTRATIONS, classes))[:DEMONSTRATED]:
            free = order[(train.labels[order] == c) & usable[order] & ~taken[order]]
            shown += free[:1].tolist()
        shown = [row for row in order.tolist() if row in shown]  # classes in a random order
        taken[shown] = True
        if len(shown) < 2:
            break
        said = [_filled(template, task, train.texts[row], words[train.labels[row]]) for row in shown]
        one = _between(model, template).join([*said, template])
        if _fits(task, model, one, train):
            arms.append(Arm("demonstrations", one, tuple(shown)))
    return arms


def _filled(template: str, task: Task, texts: tuple[str, ...], word: str) -> str:
    for slot, text in zip(task.slots, texts, strict=True):
        template = template.replace(f"{{{slot}}}", text.strip())
    return template.replace("{mask}", word.strip())


def _kind(model: Described) -> str:
    return "pooled" if model.pooling else "causal" if model.mask_id is None else "masked"


def _between(model: Described, template: str) -> str:
    """What stands between two demonstrations, and between an instruction and its template."""
    return " " if _kind(model) != "causal" else "\n\n" if "\n" in template else "\n"


def _plain(task: Task, model: Described, template: str) -> bool:
    """Whether text may be put in front: not of a conversation, whose special tokens come first."""
    specials = lay_out(replace_template(task, template), model).specials
    return all(token == model.mask_id for token in specials)


def _literal(text: str, model: Described) -> bool:
    """Whether a template may hold it: no braces, and nothing that a template would read as a special token."""
    names = [token.name for token, _ in model.tokenizer.template_tokens if token.special]
    return bool(text.strip()) and not any(sign in text for sign in ("{", "}", *names))


def _fits(task: Task, model: Described, template: str, train: Rows) -> bool:
    """Whether the label words can be asked for there, and no more rows are cut than with the task's own template."""
    one = replace_template(task, template)
    try:
        label_targets(one, model)
        cut = encode(train.texts, one, model, 0).truncated
    except TaskError:
        return False
    return cut <= encode(train.texts, task, model, 0).truncated
