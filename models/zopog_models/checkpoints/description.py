"""What a frozen model is: the sizes of its graph, the ids of its tokenizer, the hashes of its files.

Nothing here computes. Whoever computes is a runner (`runners.runner`), and the two together are a `FrozenModel`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from zopog_models.checkpoints.checked_tokenizer import CheckedTokenizer
from zopog_models.checkpoints.checkpoint import Checkpoint
from zopog_models.checkpoints.tokenizer import open_tokenizer, special_ids, word_space
from zopog_models.families.decoder import DecoderArchitecture

__all__ = ["TEMPERATURE", "Described", "Description", "Facts", "StatedFacts", "describe"]

# The training of sentence-embedding models multiplies cosines by this before a softmax.
TEMPERATURE = 20.0


class Facts(Protocol):
    """Facts that take a look at whole files, so they are found when they are first asked for. A Checkpoint has them."""

    @property
    def model_sha256(self) -> str: ...

    @property
    def tokenizer_sha256(self) -> str: ...

    @property
    def embedding_std(self) -> float: ...


@dataclass(frozen=True)
class StatedFacts:
    """Facts of a model whose weights nobody sees.

    Parameters
        model_sha256: what tells this model from another; any text
        tokenizer_sha256: the hash of tokenizer.json
        embedding_std: it sets the scale of A; default 1
    """

    model_sha256: str
    tokenizer_sha256: str
    embedding_std: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Description:
    """A frozen model without the one who computes it."""

    name: str  # for people
    source: str  # what finds the same model again: "embedded", a folder, org/name@commit, an address
    family: str  # model_type of config.json
    decoder: bool
    vocab_size: int  # V
    hidden_size: int  # D
    embedding_size: int  # E, the soft prompt's width: D in most families
    max_positions: int  # the longest row, prompt included
    hidden_units: tuple[int, int]  # (layers, F)
    injection: str  # where the soft prompt is added
    pooling: str  # "mean" or "cls" of a sentence-embedding model, "" of a model with a head
    temperature: float  # by which a sentence-embedding model's cosines are multiplied
    tokenizer: CheckedTokenizer = field(repr=False)
    mask_id: int | None  # None: the model answers after the last token, or it has no head
    pad_id: int
    cls_id: int | None  # the first token of every row; None: a decoder without a BOS token
    sep_id: int | None
    special_ids: frozenset[int]  # of all special tokens
    space: str  # what stands before a word in a text
    facts: Facts = field(repr=False)

    @property
    def first(self) -> int:
        """How many tokens of a row stand before the prompt: 1 or 0."""
        return 0 if self.cls_id is None else 1


def describe(
    checkpoint: Checkpoint,
    *,
    name: str,
    source: str = "",
    injection: str | None = None,
    temperature: float = TEMPERATURE,
    facts: Facts | None = None,
) -> Description:
    """The description of a model folder. Raises ProviderError, CheckpointError, ValueError (temperature).

    Parameters
        source: default: the name
        injection: default: the family's
        temperature: the factor of a sentence-embedding model's cosines; default 20
        facts: default: those of the folder's own files
    """
    if not 0 < temperature < np.inf:
        raise ValueError(f"temperature must be a positive number, got {temperature}")
    architecture = checkpoint.architecture
    tokenizer = open_tokenizer(checkpoint)
    ids = special_ids(checkpoint, tokenizer)
    return Description(
        name=name,
        source=source or name,
        family=checkpoint.family.name,
        decoder=isinstance(architecture, DecoderArchitecture),
        vocab_size=architecture.vocab_size,
        hidden_size=architecture.hidden_size,
        embedding_size=architecture.embedding_size,
        max_positions=architecture.max_positions,
        hidden_units=(architecture.layers, architecture.intermediate_size),
        injection=checkpoint.family.injections[0] if injection is None else injection,
        pooling=checkpoint.pooling,
        temperature=temperature,
        tokenizer=tokenizer,
        mask_id=ids.mask,
        pad_id=ids.pad,
        cls_id=ids.cls,
        sep_id=ids.sep,
        special_ids=ids.every,
        space=word_space(tokenizer),
        facts=checkpoint if facts is None else facts,
    )


class Described(ABC):
    """A model that answers for its description, entry by entry. What turns texts into rows asks for no more."""

    description: Description

    @abstractmethod
    def embeddings(self, text_ids: Sequence[np.ndarray]) -> np.ndarray:
        """Unit vectors (R, D) of rows of token ids, by a sentence-embedding model."""

    @property
    def name(self) -> str:
        """The model's name, for people."""
        return self.description.name

    @property
    def source(self) -> str:
        """What finds the same model again."""
        return self.description.source

    @property
    def family(self) -> str:
        """model_type of config.json."""
        return self.description.family

    @property
    def vocab_size(self) -> int:
        """V, the number of tokens."""
        return self.description.vocab_size

    @property
    def hidden_size(self) -> int:
        """D, the width of the hidden states."""
        return self.description.hidden_size

    @property
    def embedding_size(self) -> int:
        """E, the width of the soft prompt."""
        return self.description.embedding_size

    @property
    def max_positions(self) -> int:
        """The longest row in tokens, prompt included."""
        return self.description.max_positions

    @property
    def hidden_units(self) -> tuple[int, int]:
        """(layers, F): the hidden units of the feed-forward blocks."""
        return self.description.hidden_units

    @property
    def injection(self) -> str:
        """Where the soft prompt is added."""
        return self.description.injection

    @property
    def pooling(self) -> str:
        """ "mean" or "cls" of a sentence-embedding model, "" of a model with a head."""
        return self.description.pooling

    @property
    def temperature(self) -> float:
        """The factor of a sentence-embedding model's cosines."""
        return self.description.temperature

    @property
    def tokenizer(self) -> CheckedTokenizer:
        """The tokenizer, which reads special tokens in a text as plain text."""
        return self.description.tokenizer

    @property
    def mask_id(self) -> int | None:
        """The mask token, or None."""
        return self.description.mask_id

    @property
    def pad_id(self) -> int:
        """The token that rows are padded with."""
        return self.description.pad_id

    @property
    def cls_id(self) -> int | None:
        """The first token of every row, or None."""
        return self.description.cls_id

    @property
    def sep_id(self) -> int | None:
        """The last token of every row, or None."""
        return self.description.sep_id

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids of all special tokens."""
        return self.description.special_ids

    @property
    def space(self) -> str:
        """What stands before a word in a text."""
        return self.description.space

    @property
    def embedding_std(self) -> float:
        """The standard deviation of all entries of the word embedding matrix. The scale of A is set by it."""
        return self.description.facts.embedding_std

    @property
    def sha256(self) -> str:
        """The hash of model.safetensors."""
        return self.description.facts.model_sha256

    @property
    def tokenizer_sha256(self) -> str:
        """The hash of tokenizer.json."""
        return self.description.facts.tokenizer_sha256
