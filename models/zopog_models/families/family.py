"""What every family has: an architecture read from config.json, tensors with names and shapes, special tokens."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zopog_models.errors import CheckpointError
from zopog_models.files.quoting import quoted


@dataclass(frozen=True)
class Config:
    """config.json, read with errors that name the file and the entry."""

    path: Path
    values: Mapping[str, Any]

    def size(self, name: str, default: int | None = None) -> int:
        """A positive whole number."""
        value = self.values.get(name, default)
        if type(value) is not int or value < 1:
            raise CheckpointError(f"{self.path}: {name} must be a positive whole number, got {quoted(value)}")
        return value

    def token(self, name: str, default: int) -> int:
        """A token id."""
        value = self.values.get(name, default)
        if type(value) is not int or value < 0:
            raise CheckpointError(f"{self.path}: {name} must be a token id, got {quoted(value)}")
        return value

    def fraction(self, name: str, default: float) -> float:
        """A number between 0 and 1, such as the ε of a normalisation."""
        value = self.values.get(name, default)
        if not isinstance(value, (int, float)) or not 0 < value < 1:
            raise CheckpointError(f"{self.path}: {name} must lie between 0 and 1, got {quoted(value)}")
        return float(value)

    def choice(self, name: str, allowed: tuple[Any, ...], default: Any) -> Any:
        """One of the values this package can compute with."""
        value = self.values.get(name, default)
        if value not in allowed:
            raise CheckpointError(f"{self.path}: {name} {quoted(value)} is not supported; supported: {allowed}")
        return value

    def switch(self, name: str, *, default: bool = False) -> bool:
        """Whether an entry is true; null means that it is not."""
        return bool(self.choice(name, (True, False, None), default))

    def even(self, name: str, width: int) -> None:
        """Raises CheckpointError for a head width that rotary positions cannot turn."""
        if width % 2:
            raise CheckpointError(f"{self.path}: rotary positions need an even head width, got {width} ({name})")

    @property
    def tied(self) -> bool:
        """Whether the output matrix is the word embedding."""
        return bool(self.values.get("tie_word_embeddings", True))


@dataclass(frozen=True, kw_only=True)
class Architecture(ABC):
    """The numbers of config.json that decide what the network computes (the graph depends on these alone)."""

    family: str
    vocab_size: int  # V
    hidden_size: int  # D
    embedding_size: int  # E, width of the word embeddings and of the soft prompt; D in most families
    layers: int
    heads: int
    intermediate_size: int  # F
    tied: bool  # the output matrix is the word embedding

    @property
    @abstractmethod
    def max_positions(self) -> int:
        """The longest sequence, prompt included."""


class Family(ABC):
    """One architecture as it is published: how to read its config.json, and which tensors its file holds.

    name: model_type in config.json; title: for people; special_tokens: role -> the token's text in tokenizer.json;
    injections: where a soft prompt can be added, the default first.
    """

    name: str
    title: str
    special_tokens: Mapping[str, str]
    injections: tuple[str, ...]

    @abstractmethod
    def read(self, config: Config) -> Architecture:
        """The architecture that a config.json describes. Raises CheckpointError."""

    @abstractmethod
    def shapes(self, architecture: Any) -> dict[str, tuple[int, ...]]:
        """Canonical name -> shape of every tensor the model needs. Linear weights are (out, in), as published."""

    @abstractmethod
    def canonical(self, stored: str, architecture: Any) -> str | None:
        """A stored tensor's name in `shapes`; None for one that is published but never read.

        A name that the family does not know is returned as it is, and refused by the caller.
        """

    @abstractmethod
    def word_embeddings(self, architecture: Any) -> str:
        """The name of the word embedding table (V, E)."""

    def output_matrix(self, architecture: Any) -> str | None:
        """The stored name of the matrix that scores words, where the model has one beside the word embedding."""
        return "lm_head.weight"

    def read_of_two(self, one: str, other: str, architecture: Any) -> str | None:
        """Which of two stored spellings of a tensor is read where they differ; None: neither can be trusted."""
        return None

    def note(self, stored: Iterable[str], architecture: Any) -> str:
        """What others make otherwise of a file with these tensors; "" where they do not."""
        return ""

    def missing_hint(self, missing: list[str]) -> str:
        """What missing tensors mean, where that is known: appended to the error."""
        return ""


def without_tensorflow_spelling(name: str) -> str:
    """LayerNorm.gamma and LayerNorm.beta, as files converted from TensorFlow have them, are weight and bias."""
    name = re.sub(r"((?:LayerNorm|layer_norm)\.)gamma$", r"\1weight", name)
    return re.sub(r"((?:LayerNorm|layer_norm)\.)beta$", r"\1bias", name)
