"""A tokenizer.json from a stranger: what it may do to a text is bounded before it is built, and its failures are named.

The library runs whatever the file describes. Ten rules that each double a text turn a word into a thousand words, forty
fill the memory, and a rule that contradicts the vocabulary is met only on the text that needs it, as a panic.
"""

import base64
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zopog_models.errors import CheckpointError
from zopog_models.files.json_file import read_object
from zopog_models.files.quoting import quoted

__all__ = ["CheckedTokenizer", "check_description"]

MAX_BYTES = 100_000_000  # the largest that is published has 35 million
MAX_GROWTH = 1000.0  # characters or tokens out, for each one in; published files stay below 20
MAX_STEPS = 64  # of one sequence
MAX_PIECE = 2_000  # characters of a token of Unigram: its tree is as deep, and freeing it takes as much of the stack
MAX_WORD = 10_000  # characters of a word that WordPiece takes apart, in quadratic time; BERT has 100


class CheckedTokenizer:
    """A `tokenizers.Tokenizer` whose encode and encode_batch raise CheckpointError, whatever goes wrong inside."""

    def __init__(self, tokenizer: Any, path: Path) -> None:
        self._tokenizer, self._path = tokenizer, path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode(self, text: str, *rest: Any, **options: Any) -> Any:
        """As the library's."""
        try:
            return self._tokenizer.encode(text, *rest, **options)
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # the library raises bare Exception, and panics that are no Exception
            raise CheckpointError(f"{self._path} cannot read the text {quoted(text)}: {str(error)[:300]}") from None

    def encode_batch(self, texts: Sequence[str], *rest: Any, **options: Any) -> Any:
        """As the library's."""
        try:
            return self._tokenizer.encode_batch(texts, *rest, **options)
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:
            raise CheckpointError(f"{self._path} cannot read one of {len(texts)} texts: {str(error)[:300]}") from None

    def token_to_id(self, token: str) -> int | None:
        """As the library's; None for a string that is no text."""
        try:
            found: int | None = self._tokenizer.token_to_id(token)
        except UnicodeEncodeError:
            return None
        return found


def check_description(path: Path) -> None:
    """Raises CheckpointError for a tokenizer.json that is too large, no JSON, or that multiplies what it reads."""
    description = read_object(path, MAX_BYTES)
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
