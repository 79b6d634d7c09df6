"""A tokenizer.json from a stranger: what it may do to a text is bounded before it is built, and its failures are named.

The library runs whatever the file describes. Ten rules that each double a text turn a word into a thousand words, forty
fill the memory, and a rule that contradicts the vocabulary is met only on the text that needs it, as a panic.
"""

import base64
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zopog_models.checkpoints.special_tokens import AddedToken, Special, added_tokens, without_special
from zopog_models.errors import CheckpointError
from zopog_models.files.quoting import quoted

__all__ = ["MAX_BYTES", "CheckedTokenizer", "TokenizedText", "check_description"]

MAX_BYTES = 100_000_000  # the largest that is published has 35 million
MAX_GROWTH = 1000.0  # characters or tokens out, for each one in; published files stay below 20
MAX_STEPS = 64  # of one sequence
MAX_PIECE = 2_000  # characters of a token of Unigram: its tree is as deep, and freeing it takes as much of the stack
MAX_WORD = 10_000  # characters of a word that WordPiece takes apart, in quadratic time; BERT has 100


class TokenizedText(NamedTuple):
    """What is left of the library's `Encoding` where a text had led to a special id."""

    ids: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]]
    special_tokens_mask: list[int]


class CheckedTokenizer:
    """A tokenizer to which a text is a text: no text yields a special id, and every failure is a CheckpointError.

    It holds the library's tokenizer of a description `without_special`, and gives the special tokens back their names.
    An id that a text may not have is left out even so: the model may write it for what it does not know.
    can_leave_out: where the middle of a long text may be left out, and has_unknown_words: whether a word of more than
    MAX_WORD letters is one unknown token; see `tasks.long_texts`.
    template_tokens: what is looked for in a template, with the ids of the special ones, longest first.
    """

    def __init__(self, description: dict[str, Any], path: Path, special: Special) -> None:
        from tokenizers import Tokenizer

        self._path = path
        plain, renamed = without_special(description, special.names)
        self._described = json.dumps(plain)
        self._open = Tokenizer.from_str
        self._tokenizer = self._opened(self._described)
        self._first_only = _with_prefix_only_at_the_start(plain.get("pre_tokenizer"))
        self._renamed = renamed
        self._continuing: Any = None
        found = {name: self._tokenizer.token_to_id(other) for name, other in renamed.items()}
        self._special_ids = {name: i for name, i in found.items() if i is not None}
        self._names = {i: name for name, i in self._special_ids.items()}
        self._forbidden = frozenset(i for name, i in self._special_ids.items() if name != special.unknown)
        listed = {token.name: token for token in added_tokens(description)}
        every = {name: listed.get(name, AddedToken(name, True)) for name in {*listed, *self._special_ids}}
        self.template_tokens = [
            (token._replace(special=name in self._special_ids), self._special_ids.get(name, -1))
            for name, token in sorted(every.items(), key=lambda item: (-len(item[0]), item[0]))
        ]
        self.can_leave_out = _can_leave_out(plain)
        self.has_unknown_words = _has_unknown_words(plain)
        if self._first_only is None:
            self._described = ""  # read again only for those that tell the start of a text from what follows

    def _opened(self, described: str) -> Any:
        tokenizer = self._open(described)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # a special token's new name, if somebody writes it, is text
        return tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    @property
    def special_ids(self) -> dict[str, int]:
        """Name -> id of every special token."""
        return dict(self._special_ids)

    @property
    def prefixes_the_start_only(self) -> bool:
        """Whether a piece after a special token is read otherwise than at the start of a text."""
        return self._first_only is not None

    def encode(self, text: str, *, add_special_tokens: bool = True, continuing: bool = False) -> Any:
        """The library's `Encoding` of a text, or a `TokenizedText`. continuing: it stands after a special token."""
        try:
            found = self._at(continuing).encode(text, add_special_tokens=add_special_tokens)
            return self._without_forbidden(found, add_special_tokens)
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # the library raises bare Exception, and panics that are no Exception
            raise CheckpointError(f"{self._path} cannot read the text {quoted(text)}: {str(error)[:300]}") from None

    def encode_batch(
        self, texts: Sequence[str], *, add_special_tokens: bool = True, continuing: bool = False
    ) -> list[Any]:
        """`encode` of each."""
        try:
            found = self._at(continuing).encode_batch(texts, add_special_tokens=add_special_tokens)
            return [self._without_forbidden(encoding, add_special_tokens) for encoding in found]
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:
            raise CheckpointError(f"{self._path} cannot read one of {len(texts)} texts: {str(error)[:300]}") from None

    def _at(self, continuing: bool) -> Any:
        if not continuing or self._first_only is None:
            return self._tokenizer
        if self._continuing is None:
            described = json.dumps(json.loads(self._described) | {"pre_tokenizer": self._first_only})
            self._continuing = self._opened(described)
        return self._continuing

    def _without_forbidden(self, encoding: Any, add_special_tokens: bool) -> Any:
        ids = encoding.ids
        if self._forbidden.isdisjoint(ids):
            return encoding
        # What the post-processor added belongs to no text.
        added = [text is None for text in encoding.sequence_ids] if add_special_tokens else [False] * len(ids)
        kept = [place for place, i in enumerate(ids) if added[place] or i not in self._forbidden]
        if len(kept) == len(ids):
            return encoding
        parts = ids, encoding.tokens, encoding.offsets, encoding.special_tokens_mask
        return TokenizedText(*([part[place] for place in kept] for part in parts))

    def token_to_id(self, token: str) -> int | None:
        """As the library's; None for a string that is no text."""
        if token in self._renamed:
            return self._special_ids.get(token)
        try:
            found: int | None = self._tokenizer.token_to_id(token)
        except UnicodeEncodeError:
            return None
        return found

    def id_to_token(self, token: int) -> str | None:
        """As the library's."""
        name = self._names.get(token)
        return self._tokenizer.id_to_token(token) if name is None else name

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """As the library's."""
        return self._named(self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens))

    def plain(self, ids: Sequence[int]) -> str:
        """`decode` for somebody who reads special tokens by their spelling.

        Special ids are written; where other ids spell a special token, a space breaks it: "< |im_end|>".
        """
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False)  # special ids have their other names here
        written = "|".join(map(re.escape, self._renamed.values()))
        parts = re.split(f"({written})", text) if written else [text]
        for name in self._renamed:
            end = len(name) - len(name.lstrip()) + 1
            for place in range(0, len(parts), 2):  # between special ids
                while end < len(name) and name in parts[place]:
                    parts[place] = parts[place].replace(name, f"{name[:end]} {name[end:]}")
        return self._named("".join(parts))

    def _named(self, text: str) -> str:
        for name, other in self._renamed.items():
            text = text.replace(other, name)
        return text


def check_description(description: dict[str, Any], path: Path) -> None:
    """Raises CheckpointError for a tokenizer.json that multiplies what it reads. path: for messages."""
    for part in ("normalizer", "pre_tokenizer", "post_processor"):
        try:
            growth = _growth(description.get(part))
        except RecursionError:
            growth = math.inf
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from None
        if not growth <= MAX_GROWTH:
            raise CheckpointError(f"{path}: its {part} makes up to {growth:.0f} times as much of what it reads")
    model = description.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    for entry in vocabulary if isinstance(vocabulary, list) else ():
        if isinstance(entry, list) and entry and isinstance(entry[0], str) and len(entry[0]) > MAX_PIECE:
            raise CheckpointError(f"{path}: a token of {len(entry[0])} characters, at most {MAX_PIECE} are supported")
    word = model.get("max_input_chars_per_word") if isinstance(model, dict) else None
    if isinstance(word, (int, float)) and word > MAX_WORD:
        raise CheckpointError(f"{path}: max_input_chars_per_word is {quoted(word)}, at most {MAX_WORD} are supported")


def _can_leave_out(description: dict[str, Any]) -> str:
    """ "anywhere", "at spaces", or "" (nowhere), for the tokens far from that place to stay as they are.

    Unigram's best path through a word depends on all of it; words of a fixed length depend on all that stands before.
    """
    if "FixedLength" in json.dumps(description.get("pre_tokenizer")):
        return ""
    model = description.get("model")
    return "at spaces" if isinstance(model, dict) and model.get("type", "Unigram") == "Unigram" else "anywhere"


def _has_unknown_words(description: dict[str, Any]) -> bool:
    """WordPiece of words that only white space and punctuation part."""
    kinds = []
    for name in ("model", "pre_tokenizer", "normalizer"):
        part = description.get(name)
        kinds.append(part.get("type") if isinstance(part, dict) else None)
    words = kinds[1] in ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")
    return kinds[0] == "WordPiece" and words and kinds[2] in (None, "BertNormalizer", "Lowercase")


def _with_prefix_only_at_the_start(part: Any) -> Any:
    """A pre-tokenizer that marks the first word of a text alone, as it reads what follows; None for all others."""
    if not isinstance(part, dict):
        return None
    if part.get("type") == "Metaspace" and part.get("prepend_scheme") == "first":
        return {**part, "prepend_scheme": "never"}
    steps = part.get("pretokenizers")
    if part.get("type") != "Sequence" or not isinstance(steps, list):
        return None
    changed = [_with_prefix_only_at_the_start(step) for step in steps]
    if all(step is None for step in changed):
        return None
    return {**part, "pretokenizers": [new or old for new, old in zip(changed, steps, strict=True)]}


def _growth(part: Any) -> float:
    """How many times longer a text may become: the product over a sequence of steps. Errors: ValueError."""
    if not isinstance(part, dict):
        return 1.0
    kind = part.get("type")
    if kind == "Sequence":
        steps = [part.get(name) for name in ("normalizers", "pretokenizers", "processors")]
        chain = [step for found in steps if isinstance(found, list) for step in found]
        return math.prod(map(_growth, chain)) if len(chain) <= MAX_STEPS else math.inf
    if kind == "ByteLevel":  # every byte beyond ASCII becomes a character of two bytes
        return 4.0
    if kind == "Replace":
        pattern, content = part.get("pattern"), part.get("content")
        length = len(content) if isinstance(content, str) else 0
        literal = pattern.get("String") if isinstance(pattern, dict) else None
        if isinstance(literal, str) and literal:
            return max(1.0, length / len(literal))
        return 1.0 + length  # a regular expression may match between any two characters
    if kind == "Precompiled":
        return _longest_replacement(part.get("precompiled_charsmap"))
    if kind == "Prepend":
        return 1.0 + len(str(part.get("prepend")))
    if kind == "TemplateProcessing":
        return float(max(_pieces(part, part.get(name)) for name in ("single", "pair")))
    return 1.0


def _longest_replacement(charsmap: Any) -> float:
    """Bytes that a character may become by a SentencePiece map: the size of a trie, the trie, strings that end in NUL.

    The library takes memory for the trie on the word of that size. Errors: ValueError when there is not as much.
    """
    try:
        content = base64.b64decode(f"{charsmap}===")  # as lenient as can be: what is no base64 the library refuses
    except ValueError:
        return 1.0
    size = int.from_bytes(content[:4], "little")
    if size > max(0, len(content) - 4):
        raise ValueError(f"its precompiled_charsmap speaks of a trie of {size} bytes and has {len(content)} in all")
    return float(max(1, *map(len, content[4 + size :].split(b"\0"))))


def _pieces(processor: dict[str, Any], template: Any) -> int:
    """Tokens that a template adds, and how often it repeats the text."""
    special, count = processor.get("special_tokens"), 1
    for piece in template if isinstance(template, list) else ():
        token = piece.get("SpecialToken") if isinstance(piece, dict) else None
        name = token.get("id") if isinstance(token, dict) else None
        about = special.get(name) if isinstance(special, dict) and isinstance(name, str) else None
        ids = about.get("ids") if isinstance(about, dict) else None
        count += len(ids) if isinstance(ids, list) else 1
    return count
