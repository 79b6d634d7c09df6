"""Which tokens of a tokenizer.json are special, and the same description without a way to write one.

A special token has a role: mask, separator, beginning, end, padding, unknown, or a mark of a chat. A user's text must
never become one, whatever it says. Three ways lead from a text to a special id:

1. an added token is looked for in the text before anything else (a flag keeps only those marked `special` out);
2. the token is a piece of the model's vocabulary, and the text spells it ("[MASK]" where nothing splits brackets off);
3. the model writes it for what it does not know.

`without_special` closes the first two: every special token gets a name that no one writes, in the vocabulary and in
the list of added tokens, and merges that lead to it go. Ids, scores and all other pieces stay, so all other texts keep
their ids. What is left is watched: see `CheckedTokenizer`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["AddedToken", "Special", "added_tokens", "find_special", "without_special"]

UNKNOWN = ("[UNK]", "<unk>")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


class AddedToken(NamedTuple):
    """A string that the tokenizer looks for in a text, and whether it takes the white space beside it."""

    name: str
    special: bool
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False


@dataclass(frozen=True)
class Special:
    """Names of special tokens: all; the one that stands for what is unknown, where it has no other role."""

    names: frozenset[str]
    unknown: str | None


def added_tokens(description: Mapping[str, Any]) -> list[AddedToken]:
    """The list `added_tokens` of a description; entries that are none are left out: the library refuses them."""
    found = []
    listed = description.get("added_tokens")
    for entry in listed if isinstance(listed, list) else ():
        name = entry.get("content") if isinstance(entry, dict) else None
        if isinstance(name, str) and name:
            flags = (entry.get(flag) is True for flag in ("special", "single_word", "lstrip", "rstrip"))
            found.append(AddedToken(name, *flags))
    return found


def find_special(
    description: Mapping[str, Any], settings: Mapping[str, Any], roles: Iterable[str], ids: Iterable[Any]
) -> Special:
    """The special tokens of a description.

    settings: tokenizer_config.json. roles: names that the model's family gives a role. ids: those that config.json
    gives one.
    """
    listed = added_tokens(description)
    names = {token.name for token in listed if token.special}
    # tokenizer_config.json names special tokens too; a file made by hand may lack the flag in tokenizer.json.
    names |= _declared(settings) & {token.name for token in listed}
    model = description.get("model")
    model = model if isinstance(model, dict) else {}
    wanted = [i for i in ids if type(i) is int]
    with_role = {*roles, *_written_by(description.get("post_processor")), *_names(description, wanted)}
    beginning = _content(settings.get("bos_token"))
    if settings.get("add_bos_token") is True and beginning:
        with_role.add(beginning)
    unknown = _unknown(model)
    names |= with_role | set(UNKNOWN) | ({unknown} if unknown else set())
    if model.get("byte_fallback") is True:  # "<0x0A>" is how a character is written that has no piece
        names = {name for name in names if not _BYTE.fullmatch(name)}
    return Special(frozenset(names), unknown if unknown not in with_role else None)


def without_special(description: dict[str, Any], names: Iterable[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """A description in which no text spells the tokens of these names, and the names they have there instead."""
    model = description.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    listed = description.get("added_tokens")
    taken = {token.name for token in added_tokens(description)} | set(_pieces(vocabulary))
    renamed = {}
    for name in sorted(set(names) & taken):
        other = f"\0{name}\0"
        while other in taken:
            other += "\0"
        renamed[name] = other
    result = dict(description)
    if isinstance(listed, list):
        result["added_tokens"] = [_renamed_entry(entry, renamed) for entry in listed]
    if isinstance(model, dict):
        result["model"] = _renamed_model(model, renamed)
    return result, renamed


def _renamed_entry(entry: Any, renamed: Mapping[str, str]) -> Any:
    name = entry.get("content") if isinstance(entry, dict) else None
    if not isinstance(name, str) or name not in renamed:
        return entry
    return {**entry, "content": renamed[name], "special": True}


def _renamed_model(model: dict[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    result = dict(model)
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        result["vocab"] = {renamed.get(piece, piece): i for piece, i in vocabulary.items()}
    elif isinstance(vocabulary, list):
        result["vocab"] = [
            [renamed[entry[0]], *entry[1:]] if _is_piece(entry) and entry[0] in renamed else entry
            for entry in vocabulary
        ]
    if isinstance(model.get("unk_token"), str):
        result["unk_token"] = renamed.get(model["unk_token"], model["unk_token"])
    merges, prefix = model.get("merges"), model.get("continuing_subword_prefix")
    if isinstance(merges, list):
        skipped = len(prefix) if isinstance(prefix, str) else 0
        result["merges"] = [merge for merge in merges if not _leads_to(merge, skipped, renamed)]
    return result


def _leads_to(merge: Any, skipped: int, names: Mapping[str, str]) -> bool:
    """Whether a merge of BPE makes or needs one of these pieces. skipped: characters of the prefix within a word."""
    pair = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(piece, str) for piece in pair):
        return False
    left, right = pair
    return left in names or right in names or left + right[skipped:] in names


def _is_piece(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) > 0 and isinstance(entry[0], str)


def _pieces(vocabulary: Any) -> Iterable[str]:
    if isinstance(vocabulary, dict):
        return vocabulary.keys()
    return (entry[0] for entry in vocabulary if _is_piece(entry)) if isinstance(vocabulary, list) else ()


def _unknown(model: Mapping[str, Any]) -> str | None:
    """What the model writes for what it does not know, or None."""
    name, place, vocabulary = model.get("unk_token"), model.get("unk_id"), model.get("vocab")
    if isinstance(name, str) and name:
        return name
    if isinstance(vocabulary, list) and type(place) is int and 0 <= place < len(vocabulary):
        return vocabulary[place][0] if _is_piece(vocabulary[place]) else None
    return None


def _names(description: Mapping[str, Any], ids: list[int]) -> set[str]:
    """The tokens that have these ids."""
    model = description.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    wanted, found = set(ids), set()
    if isinstance(vocabulary, dict) and wanted:
        found = {piece for piece, i in vocabulary.items() if type(i) is int and i in wanted}
    elif isinstance(vocabulary, list):
        found = {vocabulary[i][0] for i in wanted if 0 <= i < len(vocabulary) and _is_piece(vocabulary[i])}
    listed = description.get("added_tokens")
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("content"), str) and type(entry.get("id")) is int:
            found |= {entry["content"]} if entry["id"] in wanted else set()
    return found


def _declared(settings: Mapping[str, Any]) -> set[str]:
    """The special tokens that tokenizer_config.json names."""
    entries = [value for name, value in settings.items() if name.endswith("_token")]
    for name in ("additional_special_tokens", "extra_special_tokens"):
        several = settings.get(name)
        entries += several if isinstance(several, list) else []
        entries += list(several.values()) if isinstance(several, dict) else []
    decoder = settings.get("added_tokens_decoder")
    for entry in decoder.values() if isinstance(decoder, dict) else ():
        if isinstance(entry, dict) and entry.get("special") is True:
            entries.append(entry)
    return {name for name in map(_content, entries) if name}


def _content(token: Any) -> str | None:
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def _written_by(processor: Any) -> set[str]:
    """The tokens that a post-processor puts around a text."""
    if not isinstance(processor, dict):
        return set()
    found: set[str] = set()
    steps = processor.get("processors")
    for step in steps if isinstance(steps, list) else ():
        if isinstance(step, dict) and step.get("type") != "Sequence":
            found |= _written_by(step)
    for name in ("sep", "cls"):
        pair = processor.get(name)
        found |= {pair[0]} if isinstance(pair, list) and pair and isinstance(pair[0], str) else set()
    tokens = processor.get("special_tokens")
    for about in tokens.values() if isinstance(tokens, dict) else ():
        written = about.get("tokens") if isinstance(about, dict) else None
        found |= {name for name in written if isinstance(name, str)} if isinstance(written, list) else set()
    return found
