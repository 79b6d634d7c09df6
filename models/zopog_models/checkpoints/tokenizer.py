"""A model folder's tokenizer, and the ids that have a role."""

from pathlib import Path
from typing import Any, NamedTuple

from zopog_models.checkpoints.checked_tokenizer import MAX_BYTES, CheckedTokenizer, check_description
from zopog_models.checkpoints.checkpoint import Checkpoint, GgufCheckpoint
from zopog_models.checkpoints.special_tokens import find_special
from zopog_models.errors import CheckpointError, ProviderError
from zopog_models.families.decoder import DecoderArchitecture
from zopog_models.files.json_file import read_object
from zopog_models.files.quoting import quoted

__all__ = ["SpecialIds", "beginning_id", "open_tokenizer", "special_ids", "word_space"]

# Of tokenizer_config.json -> of a BertNormalizer.
_NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
_BY_TOKENIZER_JSON = ("PreTrainedTokenizerFast", "TokenizersBackend")  # their classes read nothing else


def open_tokenizer(checkpoint: Checkpoint) -> CheckedTokenizer:
    """tokenizer.json without truncation and padding, and without a way from a text to a special token.

    Raises ProviderError (the package is missing) and CheckpointError (a file that is no tokenizer, or whose ids the
    model does not know).
    """
    try:
        import tokenizers  # noqa: F401  is it there?
    except ImportError as error:
        raise ProviderError(
            f'the package tokenizers is missing ({error}); install it with: pip install "tokenizers>=0.20"'
        ) from error
    if isinstance(checkpoint, GgufCheckpoint):
        description = checkpoint.tokenizer
    else:
        description = read_object(checkpoint.tokenizer_path, MAX_BYTES)
    check_description(description, checkpoint.tokenizer_path)
    settings = _settings(checkpoint)
    _refuse_other_normalizer(description, settings, checkpoint.tokenizer_path)
    special = find_special(
        description,
        settings,
        checkpoint.family.special_tokens.values(),
        _configured_ids(checkpoint),
    )
    try:
        tokenizer = CheckedTokenizer(description, checkpoint.tokenizer_path, special)
        for text in ("", "a text"):  # some contradictions are only met on the first text
            tokenizer.encode(text, add_special_tokens=True)
    except (KeyboardInterrupt, SystemExit, MemoryError, CheckpointError):
        raise
    except BaseException as error:  # the library raises bare Exception, and panics that are no Exception
        raise CheckpointError(f"{checkpoint.tokenizer_path} is not a tokenizer: {str(error)[:300]}") from None
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if largest >= checkpoint.architecture.vocab_size:
        raise CheckpointError(
            f"{checkpoint.tokenizer_path} has token ids up to {largest}, config.json says "
            f"vocab_size {checkpoint.architecture.vocab_size}"
        )
    return tokenizer


def _settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """What tokenizer_config.json says; nothing where there is none."""
    if isinstance(checkpoint, GgufCheckpoint):
        return checkpoint.settings
    path = checkpoint.folder / "tokenizer_config.json"
    return read_object(path) if path.is_file() else {}


def _refuse_other_normalizer(description: dict[str, Any], settings: dict[str, Any], path: Path) -> None:
    """transformers' BERT tokenizers go by tokenizer_config.json, whatever tokenizer.json's normalizer says.

    Raises CheckpointError where the two differ.
    """
    normalizer = description.get("normalizer")
    if not isinstance(normalizer, dict) or normalizer.get("type") != "BertNormalizer":
        return
    if settings.get("tokenizer_class") in _BY_TOKENIZER_JSON:
        return
    for stated, name in _NORMALIZER.items():
        said, done = settings.get(stated), normalizer.get(name)
        if isinstance(said, bool) and isinstance(done, bool) and said != done:
            raise CheckpointError(
                f"{path}: {name} is {str(done).lower()}, but {stated} is {str(said).lower()} in tokenizer_config.json, "
                "by which transformers goes: save the tokenizer again with its save_pretrained, or correct one of them"
            )


def _configured_ids(checkpoint: Checkpoint) -> list[Any]:
    """The beginning and the ends that a decoder's config.json names: of some models there are several ends."""
    if not isinstance(checkpoint.architecture, DecoderArchitecture):
        return []
    ids: list[Any] = []
    for name in ("bos_token_id", "eos_token_id"):
        value = checkpoint.config.get(name)
        ids += value if isinstance(value, list) else [value]
    return ids


class SpecialIds(NamedTuple):
    """Token ids by role, and all of them together with any other special token's.

    A decoder has no mask and no separator, and as cls what stands before a text: a BOS token, or nothing (None). A
    sentence-embedding model has no mask.
    """

    mask: int | None
    pad: int
    cls: int | None
    sep: int | None
    every: frozenset[int]


def special_ids(checkpoint: Checkpoint, tokenizer: CheckedTokenizer) -> SpecialIds:
    """The ids of the family's special tokens. Raises CheckpointError when the tokenizer lacks one."""
    # Special by the file's own list, or by name: some tokenizer files list only part of them.
    listed = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    listed |= set(tokenizer.special_ids.values())
    if isinstance(checkpoint.architecture, DecoderArchitecture):
        beginning = beginning_id(checkpoint, tokenizer)
        named = {i for i in (beginning, *_configured_ids(checkpoint)) if type(i) is int}
        # Any id does for padding: nobody looks at it.
        return SpecialIds(None, beginning or 0, beginning, None, frozenset(listed | named))
    tokens = checkpoint.family.special_tokens
    ids: dict[str, int] = {}
    for role, token in tokens.items():
        if role == "mask" and checkpoint.pooling:
            continue
        token_id = tokenizer.token_to_id(token)
        if token_id is None:
            raise CheckpointError(
                f"{checkpoint.tokenizer_path} has no {role} token {token!r}, which a {checkpoint.family.name} needs"
            )
        ids[role] = token_id
    every = frozenset(listed | set(ids.values()))
    return SpecialIds(ids.get("mask"), ids["pad"], ids["cls"], ids["sep"], every)


def beginning_id(checkpoint: Checkpoint, tokenizer: CheckedTokenizer) -> int | None:
    """The BOS token that a decoder's texts begin with, or None where they begin at once (GPT-2, Qwen2).

    As transformers has it: `add_bos_token` in tokenizer_config.json decides; where it is silent, tokenizer.json, by
    what it puts before an empty text. Raises CheckpointError (a damaged tokenizer_config.json, a BOS token that is
    asked for and not there).
    """
    settings = _settings(checkpoint)
    asked = settings.get("add_bos_token")
    if asked is None:
        encoding = tokenizer.encode("", add_special_tokens=True)
        return encoding.ids[0] if encoding.ids and encoding.special_tokens_mask[0] else None
    if asked is False:
        return None
    token = settings.get("bos_token")
    token = token.get("content") if isinstance(token, dict) else token
    found = tokenizer.token_to_id(token) if isinstance(token, str) else checkpoint.config.get("bos_token_id")
    if type(found) is not int or not 0 <= found < checkpoint.architecture.vocab_size:
        shown = quoted(token)
        raise CheckpointError(
            f"{checkpoint.folder} asks for a BOS token before every text, but there is none: bos_token {shown}"
        )
    return found


def word_space(tokenizer: CheckedTokenizer) -> str:
    """What to write before a word so that it is read as after a space: a space, or nothing where the tokenizer adds it.

    A byte-level tokenizer reads "a" and " a" as two tokens; WordPiece knows no spaces; SentencePiece's put one before
    every text by themselves.
    """
    alone, twice = (tokenizer.encode(text, add_special_tokens=False).ids for text in ("a", "a a"))
    return "" if twice == alone + alone else " "
