"""Texts and label words as token ids, through a task's template."""

from __future__ import annotations  # signatures show names, not what these stand for

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zopog_models.checkpoints.description import Described
from zopog_models.errors import TaskError
from zopog_models.tasks.label_words import padded, word_pieces
from zopog_models.tasks.layout import Layout, Part, lay_out
from zopog_models.tasks.long_texts import MARGIN, PER_POSITION, shortened, without_endless_words
from zopog_models.tasks.template import Task, make_task

if TYPE_CHECKING:
    from zopog_models.checkpoints.checked_tokenizer import CheckedTokenizer

__all__ = ["Encoded", "encode", "label_ids", "label_targets", "row_recipe"]


@dataclass(frozen=True)
class Encoded:
    """Rows ready for the model, without the prompt: ids (R arrays), answer_position (R,), lengths (R,) in tokens.

    truncated counts the rows whose texts had to be cut. text_end (R,): how many of a row's tokens there are up to the
    end of its last text, where a prompt after the text stands. A token of both text and template stands after that.
    """

    ids: list[np.ndarray]
    answer_position: np.ndarray
    truncated: int
    lengths: np.ndarray
    text_end: np.ndarray

    def places(self, position: str) -> np.ndarray | None:
        """`prompt_place` of `FrozenModel.logits`, for a prompt "before" or "after" the text."""
        return self.text_end if position == "after" else None


def encode(texts: Sequence[tuple[str, ...]], task: Task, model: Described, n_positions: int) -> Encoded:
    """[first token] template with the texts filled in [separator], at most max_positions − n_positions tokens a row.

    Of a decoder, a row ends where its answer comes: nothing may stand after {mask}, and answer_position is the last
    token's place. Of a sentence-embedding model the whole row answers: the template has no {mask}, and answer_position
    means nothing.

    A row that is too long loses tokens from the end of its texts, the longest text first; template and mask are never
    cut. Special tokens written out in the template are special tokens; in a text they are text, see `CheckedTokenizer`.
    The answer's place is the template's.
    Raises TaskError when the template alone does not fit the model's positions, when it is not one for this kind of
    model, or a row has the wrong number of texts.
    """
    room = model.max_positions - n_positions
    layout = lay_out(task, model)
    slots = len(task.slots)
    for r, filling in enumerate(texts):
        if len(filling) != slots:
            raise TaskError(f"row {r} has {len(filling)} texts, the template {task.template!r} needs {slots}")
    # Of each: every row's ids, owners, and how many tokens there are behind its last text.
    parts = [_encode_part(part, texts, model, room) for part in layout.parts]
    head, tail = (np.array([] if i is None else [i], np.int64) for i in (_first(layout, model), model.sep_id))
    rows, positions, ends = [], [], []
    truncated = 0
    last = max(i for i, part in enumerate(layout.parts) if part.slots)  # the part that the last text is in
    for r in range(len(texts)):
        pieces = [head, *_alternate([ids[r] for ids, *_ in parts], layout.specials), tail]
        owners = _alternate([owner[r] for _, owner, _ in parts], [-1] * len(layout.specials))
        row = np.concatenate(pieces).astype(np.int64)
        owner = np.concatenate([np.full(len(head), -1), *owners, np.full(len(tail), -1)])
        # The template says where the answer is: behind the first token stand the parts in turn with special tokens.
        answer = None if layout.answer is None else sum(map(len, pieces[: 2 * layout.answer + 2]))
        # Only texts are cut, so what stands behind them stays as it is.
        behind = sum(map(len, pieces[2 * last + 2 :])) + parts[last][2][r]
        if len(row) > room:
            keep = _kept(owner, len(row) - room, slots, room, task, n_positions)
            answer = None if answer is None else int(keep[:answer].sum())
            row = row[keep]
            truncated += 1
        if not len(row):
            raise TaskError(f"row {r} is empty and so is the template: there is nothing after which to answer")
        rows.append(row)
        ends.append(len(row) - behind)
        # A decoder answers at the end; of a sentence-embedding model the place means nothing.
        positions.append(len(row) - 1 if answer is None else answer)
    lengths = np.array([len(row) for row in rows], np.int64)
    return Encoded(rows, np.array(positions, np.int64), truncated, lengths, np.array(ends, np.int64))


def row_recipe(task: Task, model: Described) -> list[int | str]:
    """How `encode` makes a row, for whoever has the tokenizer and not this package: token ids, and pieces of text.

    A piece has its texts in place of {text}, {text_a} and {text_b}, each without white space at its ends, and is then
    tokenised as one string, without special tokens; the ids of all follow one another. Rows that are too long are not
    provided for. Raises TaskError as `encode`.
    """
    layout = lay_out(task, model)
    names = [f"{{{slot}}}" for slot in task.slots]
    first = _first(layout, model)
    recipe: list[int | str] = [] if first is None else [first]
    for i, part in enumerate(layout.parts):
        recipe += [layout.specials[i - 1]] if i else []
        if part.continuing and model.tokenizer.prefixes_the_start_only:
            recipe += _continuing_recipe(part, task, model)
            continue
        slots = [names[slot] for slot in part.slots]
        recipe.append("".join(a + b for a, b in zip(part.literals, [*slots, ""], strict=True)))
    recipe += [] if model.sep_id is None else [model.sep_id]
    return [piece for piece in recipe if piece != ""]


def _first(layout: Layout, model: Described) -> int | None:
    """The token in front of the template."""
    return None if layout.begun else model.cls_id


def _continuing_recipe(part: Part, task: Task, model: Described) -> list[int | str]:
    """A part after a special token, for a tokenizer that may read it otherwise than a string of its own."""
    if not part.slots:
        return list(model.tokenizer.encode(part.literals[0], add_special_tokens=False, continuing=True).ids)
    # A space in front hides the difference, but not from every chain of steps: "a" stands for the texts.
    sample = "a".join(part.literals)
    alone, behind = (
        model.tokenizer.encode(sample, add_special_tokens=False, continuing=place).ids for place in (False, True)
    )
    if part.literals[0].startswith(" ") and alone == behind:
        names = [f"{{{task.slots[slot]}}}" for slot in part.slots]
        return ["".join(a + b for a, b in zip(part.literals, [*names, ""], strict=True))]
    raise TaskError(
        f"the template {task.template!r} goes on after a special token with what the tokenizer of {model.name!r} reads "
        "otherwise as a string of its own, so it cannot be baked: put a space after the special token, or the text "
        "before it"
    )


def label_targets(task: Task, model: Described) -> np.ndarray:
    """What `FrozenModel.logits` scores as labels: `label_ids`, or a sentence-embedding model's (C, D), float32.

    The latter is temperature · ê of each label's phrase, ê the unit embedding, the phrase read without a prompt. Raises
    TaskError as `label_ids` does, and for two labels with the same phrase.
    """
    if not model.pooling:
        return label_ids(task, model)
    if task.summed_pieces:
        raise TaskError(f"{model.name!r} is a sentence-embedding model, which reads a label's phrase as a whole")
    phrases = [word.strip() for word in task.labels.values()]
    if len(set(phrases)) < len(phrases):
        raise TaskError(f"two labels have the same phrase: {', '.join(map(repr, phrases))}")
    encoded = encode([(phrase,) for phrase in phrases], make_task("{text}", task.labels), model, 0)
    return model.temperature * model.embeddings(encoded.ids)


def label_ids(task: Task, model: Described, *, first_piece: bool = False) -> np.ndarray:
    """Token ids (C,) of the label words, as they stand after a space.

    For a decoder, as they stand where the template has {mask}: without a space, where there is none before it.

    A word of several tokens is an error that names its pieces, unless first_piece or the task asks for the first of
    them, or the task for all: then (C, T), filled up with -1. Raises TaskError: several pieces, a word unknown to the
    tokenizer, two labels with the same token or tokens.
    """
    if task.summed_pieces and model.mask_id is not None:
        raise TaskError(
            f"{model.name!r} is a masked language model ({model.family}), which fills in one token at a time: label "
            "words of several tokens cannot be summed there; choose words of one token, or --label-words first-piece"
        )
    chosen: dict[tuple[int, ...], str] = {}
    for value, word in task.labels.items():
        ids, pieces = word_pieces(word.strip(), task, model)
        if not ids or any(i in model.special_ids for i in ids):
            raise TaskError(
                f"label word {word!r} (label {value!r}) is not in the vocabulary of model {model.name!r}; "
                "choose another word"
            )
        if len(ids) > 1 and not (first_piece or task.first_pieces or task.summed_pieces):
            other = "" if model.mask_id is not None else "; or all of them, in more forward passes: --label-words sum"
            raise TaskError(
                f"label word {word!r} (label {value!r}) is {len(ids)} tokens for model "
                f"{model.name!r}: {' '.join(pieces)}; choose a word of one token, or score "
                f"the first where that tells the classes apart: --label-words first-piece{other}"
            )
        tokens = tuple(ids) if task.summed_pieces else (ids[0],)
        if tokens in chosen:
            same = f"tokens {' '.join(pieces)!r}" if task.summed_pieces else f"first token {pieces[0]!r}"
            raise TaskError(f"labels {chosen[tokens]!r} and {value!r} have the same {same}")
        chosen[tokens] = value
    return padded(list(map(list, chosen)))


def _encode_part(
    part: Part, texts: Sequence[tuple[str, ...]], model: Described, room: int
) -> tuple[list[np.ndarray], list[np.ndarray], list[int]]:
    """Each row's tokens of this part, tokenised as one string, which text each belongs to (or -1), and how many are
    behind the last text.

    Of a text of which a row of `room` positions cannot hold all, tokens that no row keeps may be missing.
    """
    if not part.slots:
        literal = model.tokenizer.encode(part.literals[0], add_special_tokens=False, continuing=part.continuing)
        ids = np.array(literal.ids, np.int64)
        return [ids] * len(texts), [np.full(len(ids), -1)] * len(texts), [len(ids)] * len(texts)
    all_ids: list[np.ndarray] = [np.zeros(0, np.int64)] * len(texts)
    all_owners, behind = list(all_ids), [0] * len(texts)
    pending, characters = list(range(len(texts))), PER_POSITION * max(room, 1)
    while pending:
        filled = [_filled(part, texts[r], characters, model.tokenizer) for r in pending]
        strings = [string for string, _ in filled]
        encodings = model.tokenizer.encode_batch(strings, add_special_tokens=False, continuing=part.continuing)
        short = []
        for r, encoding, (_, spans) in zip(pending, encodings, filled, strict=True):
            # A token belongs to what its last character is: a byte-level token may begin with the space before a word.
            last = np.array([max(start, end - 1) for start, end in encoding.offsets], np.int64)
            owner = np.full(len(last), -1)
            for span in spans:
                owner[(span.begin <= last) & (last < span.end)] = span.slot
            all_ids[r], all_owners[r] = np.array(encoding.ids, np.int64), owner
            behind[r] = int((last >= spans[-1].end).sum())
            if any(((owner == span.slot) & (last < span.sure)).sum() < room for span in spans if span.sure is not None):
                short.append(r)
        pending, characters = short, 4 * characters
    return all_ids, all_owners, behind


class _Span(NamedTuple):
    """Where a text stands in its string; of a shortened one, up to where its tokens are surely those of the whole."""

    begin: int
    end: int
    slot: int
    sure: int | None


def _filled(part: Part, row: tuple[str, ...], characters: int, tokenizer: CheckedTokenizer) -> tuple[str, list[_Span]]:
    """The part's string with a row's texts, the long ones shortened, and their places."""
    string, spans = part.literals[0], []
    for slot, literal in zip(part.slots, part.literals[1:], strict=True):
        text = row[slot].strip()
        text = without_endless_words(text) if tokenizer.has_unknown_words else text
        text, head = shortened(text, characters, tokenizer.can_leave_out)
        sure = None if head is None else len(string) + head - MARGIN
        # The space before a text belongs to it: a byte-level tokenizer gives a rare word's space its own token.
        spans.append(_Span(len(string.rstrip()), len(string) + len(text), slot, sure))
        string += text + literal
    return string, spans


def _alternate(parts: Sequence[np.ndarray], between: Sequence[int]) -> list[np.ndarray]:
    """The parts, and between each and the next one id."""
    result = [parts[0]]
    for value, part in zip(between, parts[1:], strict=True):
        result += [np.array([value]), part]
    return result


def _kept(owner: np.ndarray, excess: int, slots: int, room: int, task: Task, n_positions: int) -> np.ndarray:
    """Which tokens stay when `excess` must go: always the last token of whichever text is longest."""
    sizes = [int((owner == slot).sum()) for slot in range(slots)]
    if sum(sizes) < excess:
        raise TaskError(
            f"the template {task.template!r} alone does not fit: {n_positions} prompt positions leave "
            f"{room} of the model's; use fewer prompt positions or a shorter template"
        )
    limits = list(sizes)
    for _ in range(excess):
        longest = max(range(slots), key=lambda slot: limits[slot])
        limits[longest] -= 1
    keep = np.ones(len(owner), bool)
    for slot in range(slots):
        keep[np.flatnonzero(owner == slot)[limits[slot] :]] = False
    return keep
