"""A template as its model reads it: pieces of text with slots for the user's, and special tokens between them.

Who writes a template knows the model, so "<|im_end|>" or "[SEP]" in it is the special token, as it is to the tokenizer.
The pieces are tokenised as the whole string would be: a special token cuts a string, and takes the white space beside
it where tokenizer.json says so (`lstrip`, `rstrip`). {mask} and {sep} stand for a token and not for a string: the white
space before either is not read, and neither are the spaces before a decoder's {mask}, where the answer's own space is.
"""

import re
from typing import NamedTuple

from zopog_models.checkpoints.description import Described
from zopog_models.errors import TaskError
from zopog_models.tasks.template import Task, require_mask

__all__ = ["Layout", "Part", "lay_out"]

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class Part(NamedTuple):
    """A stretch of the template between special tokens: literal strings, with texts standing between them."""

    literals: list[str]  # one more than slots
    slots: list[int]  # indices into a row's texts
    continuing: bool  # it stands after a special token of the template


class Layout(NamedTuple):
    """parts, and the special tokens between them (one fewer); answer: which of these is {mask}, of a masked model.

    begun: the template begins with the first token of every row, which then is not put in front of it a second time.
    """

    parts: list[Part]
    specials: list[int]
    answer: int | None
    begun: bool = False


class _Mark(NamedTuple):
    """A special token where it stands in a template."""

    id: int
    lstrip: bool
    rstrip: bool
    answer: bool = False


def lay_out(task: Task, model: Described) -> Layout:
    """The template's parts and special tokens. Raises TaskError for a template that is not one for this model."""
    if model.pooling and "{mask}" in task.template:
        raise TaskError(
            f"the template {task.template!r} has {{mask}}, but {model.name!r} is a sentence-embedding model, which "
            'compares whole texts with the labels\' phrases: leave {mask} out, as in "{text}"'
        )
    if not model.pooling:
        require_mask(task.template)
    if model.sep_id is None:
        layout = _joined(_items(_before_the_answer(task, model), task, model))
        return layout._replace(begun=layout.parts[0] == Part([""], [], False) and layout.specials[:1] == [model.cls_id])
    return _joined(_items(task.template, task, model))


def _before_the_answer(task: Task, model: Described) -> str:
    """What a decoder reads of its template: all before {mask}, but the spaces there, which belong to the answer."""
    before, after = task.template.split("{mask}")
    if after.strip():
        example = f", as in {(before + '{mask}')!r}" if all(f"{{{slot}}}" in before for slot in task.slots) else ""
        raise TaskError(
            f"the template {task.template!r} goes on after {{mask}}, but {model.name!r} is a decoder ({model.family}), "
            f"which answers at the end: let the template end with {{mask}}{example}"
        )
    if "{sep}" in before:
        raise TaskError(f"the template {task.template!r} has {{sep}}, but a decoder ({model.family}) has no separator")
    return before.rstrip(" ")


def _items(template: str, task: Task, model: Described) -> list[str | int | _Mark]:
    """The template in pieces: literal strings, indices of texts, special tokens."""
    placed = {"sep": model.sep_id, "mask": model.mask_id}
    items: list[str | int | _Mark] = []
    for i, piece in enumerate(_PLACEHOLDER.split(template)):  # the names stand at the odd places
        if i % 2 == 0:
            items += _literal(piece, model)
        elif (token := placed.get(piece)) is not None:
            items.append(_Mark(token, lstrip=True, rstrip=_takes_what_follows(token, model), answer=piece == "mask"))
        else:
            items.append(task.slots.index(piece))
    return items


def _literal(text: str, model: Described) -> list[str | int | _Mark]:
    """A literal string with its special tokens: of those that begin at a place the longest, as the tokenizer has it."""
    known = {token.name: (token, i) for token, i in model.tokenizer.template_tokens}
    if not known or not text:
        return [text]
    items: list[str | int | _Mark] = []
    begin = place = 0
    pattern = re.compile("|".join(map(re.escape, known)))
    while found := pattern.search(text, place):
        token, i = known[found[0]]
        beside = text[max(0, found.start() - 1) : found.start()], text[found.end() : found.end() + 1]
        place = found.end()
        if token.special and not (token.single_word and any(re.match(r"\w", letter) for letter in beside)):
            items += [text[begin : found.start()], _Mark(i, token.lstrip, token.rstrip)]
            begin = place
    return [*items, text[begin:]]


def _takes_what_follows(token: int, model: Described) -> bool:
    return any(i == token and about.rstrip for about, i in model.tokenizer.template_tokens)


def _joined(items: list[str | int | _Mark]) -> Layout:
    """Items as parts: white space beside a special token goes where the token takes it."""
    parts = [Part([""], [], False)]
    marks: list[_Mark] = []
    for item in items:
        literals, slots, _ = parts[-1]
        if isinstance(item, str):
            literals[-1] += item
        elif isinstance(item, int):
            slots.append(item)
            literals.append("")
        else:
            marks.append(item)
            parts.append(Part([""], [], True))
    for left, right, mark in zip(parts, parts[1:], marks):
        if mark.lstrip:
            left.literals[-1] = left.literals[-1].rstrip()
        if mark.rstrip:
            right.literals[0] = right.literals[0].lstrip()
    answer = next((i for i, mark in enumerate(marks) if mark.answer), None)
    return Layout(parts, [mark.id for mark in marks], answer)
