"""A model folder's tokenizer, and the ids that have a role."""

from typing import TYPE_CHECKING, NamedTuple

from .checkpoint import Checkpoint, CheckpointError
from .session import ProviderError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["SpecialIds", "open_tokenizer", "special_ids"]


def open_tokenizer(checkpoint: Checkpoint) -> "Tokenizer":
    """tokenizer.json without truncation and padding, special tokens in a text read as plain text.

    Raises ProviderError (the package is missing) and CheckpointError (a file that is no tokenizer, or whose ids the
    model does not know).
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ProviderError(
            f"the package tokenizers is missing ({error}); install it with: pip install 'zopog-ref[cpu]' "
            "(or 'zopog-ref[gpu]')"
        ) from error
    try:
        tokenizer = Tokenizer.from_file(str(checkpoint.tokenizer_path))
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"{checkpoint.tokenizer_path} is not a tokenizer: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # "[MASK]" inside a user's text is text
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if largest >= checkpoint.architecture.vocab_size:
        raise CheckpointError(
            f"{checkpoint.tokenizer_path} has token ids up to {largest}, config.json says "
            f"vocab_size {checkpoint.architecture.vocab_size}"
        )
    return tokenizer


class SpecialIds(NamedTuple):
    """Token ids by role, and all of them together with any other special token's."""

    mask: int
    pad: int
    cls: int
    sep: int
    every: frozenset[int]


def special_ids(checkpoint: Checkpoint, tokenizer: "Tokenizer") -> SpecialIds:
    """The ids of the family's special tokens. Raises CheckpointError when the tokenizer lacks one."""
    tokens = checkpoint.family.special_tokens
    ids: list[int] = []
    for role, token in tokens.items():
        token_id = tokenizer.token_to_id(token)
        if token_id is None:
            raise CheckpointError(
                f"{checkpoint.tokenizer_path} has no {role} token {token!r}, which a {checkpoint.family.name} needs"
            )
        ids.append(token_id)
    # Special by the file's own list, or by name: some tokenizer files list only part of them.
    listed = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    unknown = {i for i in map(tokenizer.token_to_id, ("[UNK]", "<unk>")) if i is not None}
    mask, pad, cls, sep = ids
    return SpecialIds(mask, pad, cls, sep, frozenset(listed | unknown | set(ids)))
