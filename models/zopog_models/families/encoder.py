"""A masked language model's parts by name: what an encoder family fills in, and the shapes that follow.

e = LayerNorm(word + position + type)                 embeddings, width E
x = W e + b                                           only where E ≠ D (or the family always has it)
x = LayerNorm(x + W_o attention(x))                   `layers` times
x = LayerNorm(x + W_narrow act(W_wide x))
scores = LayerNorm(act(W x + b)) Eᵀ + bias            the head, at the answer position
"""

import re
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from zopog_models.errors import CheckpointError
from zopog_models.families.family import Architecture, Config, Family, without_tensorflow_spelling

MAX_LAYERS = 4096  # a limit, so that a wrong number is an error and not an endless list of missing tensors
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")


@dataclass(frozen=True, kw_only=True)
class EncoderArchitecture(Architecture):
    """What BERT and its relatives differ in."""

    max_position_rows: int  # rows of the position table
    first_position: int  # the position id of the first token: 0, or padding_idx + 1 for RoBERTa
    token_types: int  # 0: the family has none
    layer_norm_eps: float
    activation: str  # of the feed-forward layers
    head_activation: str  # of the masked-token head
    groups: int = 0  # of layers that share their weights (ALBERT); 0: every layer has its own
    group_layers: int = 1  # layers of a group
    pooling: str = ""  # of a sentence-embedding model, which has no head: "mean" or "cls"
    max_length: int | None = None  # where a sentence-embedding model is said to cut its texts

    @property
    def max_positions(self) -> int:
        """The longest sequence, prompt included."""
        positions = self.max_position_rows - self.first_position
        return positions if self.max_length is None else min(positions, self.max_length)


class LayerNames(NamedTuple):
    """One layer's linear maps and normalisations."""

    query: str
    key: str
    value: str
    attended: str  # W_o
    attended_norm: str
    wide: str  # D -> F
    narrow: str  # F -> D
    narrow_norm: str


class EmbeddingNames(NamedTuple):
    """Tables (with their `.weight`), the normalisation, and the linear map E -> D where there is one."""

    words: str
    positions: str | None
    types: str | None
    norm: str
    projection: str | None


class HeadNames(NamedTuple):
    """The masked-token head's linear map D -> E, normalisation, output matrix (V, E) when untied, and bias (V,)."""

    dense: str
    norm: str
    output: str
    bias: str


class EncoderFamily(Family):
    """A family of masked language models: the names of its tensors; shapes and spellings follow from them."""

    injections = ("post_layernorm", "word_embedding")
    prefix: str  # of the encoder's tensors, head excluded
    unused: str = ""  # a pattern: other tensors that are published and never read

    @abstractmethod
    def embedding_names(self, a: EncoderArchitecture) -> EmbeddingNames:
        """Where the embeddings are."""

    @abstractmethod
    def layer_names(self, a: EncoderArchitecture, i: int) -> LayerNames:
        """Where the i-th layer's weights are; equal names are shared weights."""

    @abstractmethod
    def head_names(self, a: EncoderArchitecture) -> HeadNames:
        """Where the masked-token head is."""

    def word_embeddings(self, architecture: EncoderArchitecture) -> str:
        return self.embedding_names(architecture).words

    def shapes(self, architecture: EncoderArchitecture) -> dict[str, tuple[int, ...]]:
        a = architecture
        d, e, f, v = a.hidden_size, a.embedding_size, a.intermediate_size, a.vocab_size
        embeddings, head = self.embedding_names(a), self.head_names(a)
        shapes: dict[str, tuple[int, ...]] = {}

        def linear(name: str, out: int, inside: int) -> None:
            shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, inside), (out,)

        def layer_norm(name: str, width: int) -> None:
            shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (width,), (width,)

        shapes[embeddings.words] = (v, e)
        if embeddings.positions is not None:
            shapes[embeddings.positions] = (a.max_position_rows, e)
        if embeddings.types is not None:
            shapes[embeddings.types] = (a.token_types, e)
        layer_norm(embeddings.norm, e)
        if embeddings.projection is not None:
            linear(embeddings.projection, d, e)
        for i in range(a.layers):
            names = self.layer_names(a, i)
            for name in (names.query, names.key, names.value, names.attended):
                linear(name, d, d)
            layer_norm(names.attended_norm, d)
            linear(names.wide, f, d)
            linear(names.narrow, d, f)
            layer_norm(names.narrow_norm, d)
        if a.pooling:
            return shapes
        linear(head.dense, e, d)
        layer_norm(head.norm, e)
        shapes[head.bias] = (v,)
        if not a.tied:
            shapes[head.output] = (v, e)
        return shapes

    def canonical(self, stored: str, architecture: EncoderArchitecture) -> str | None:
        head, name = self.head_names(architecture), without_tensorflow_spelling(stored)
        if name == head.output.replace(".weight", ".bias"):  # one bias, stored under one of two names or both
            name = head.bias
        prefix = re.escape(self.prefix)
        # Parts that masked-token prediction never reads, and buffers that hold no parameters.
        unused = rf"({prefix}\.)?(pooler\..*|embeddings\.(position_ids|token_type_ids))|{self.unused or 'none'}"
        if re.fullmatch(unused, name) or (name == head.output and (architecture.tied or architecture.pooling)):
            return None  # a tied output matrix is the embedding
        if not architecture.pooling:
            return name
        if name == head.bias or name.startswith((f"{head.dense}.", f"{head.norm}.")):
            return None
        # A model saved without a head is saved without the prefix that tells the two apart.
        return name if name.startswith(f"{self.prefix}.") else f"{self.prefix}.{name}"

    def output_matrix(self, architecture: EncoderArchitecture) -> str | None:
        return None if architecture.pooling else self.head_names(architecture).output

    def read_of_two(self, one: str, other: str, architecture: EncoderArchitecture) -> str | None:
        """The bias has two names, of the head and of its output layer: the layer adds its own."""
        own = self.head_names(architecture).output.replace(".weight", ".bias")
        return next((name for name in (one, other) if name == own), None)

    def note(self, stored: Iterable[str], architecture: EncoderArchitecture) -> str:
        if architecture.tied or architecture.pooling:
            return ""
        head, names = self.head_names(architecture), set(stored)
        own = head.output.replace(".weight", ".bias")
        if not {head.output, head.bias} <= names or own in names:
            return ""
        return f"{own} is not stored; {head.bias} is read, as transformers 4 does (5 begins with zeros there)"

    def missing_hint(self, missing: list[str]) -> str:
        if all(name.startswith(f"{self.prefix}.") for name in missing):
            return ""
        return " (a model without its masked-token head cannot be prompted, unless a pooling makes it embed sentences)"


def common_numbers(config: Config, **names: str) -> dict[str, Any]:
    """vocab_size, hidden_size, layers, heads and intermediate_size under the names a family's config.json has."""
    sizes = {field: config.size(name) for field, name in ({"vocab_size": "vocab_size"} | names).items()}
    if sizes["hidden_size"] % sizes["heads"]:
        raise CheckpointError(
            f"{config.path}: {names['hidden_size']} {sizes['hidden_size']} is not a multiple of {names['heads']} "
            f"{sizes['heads']}"
        )
    check_layers(config, names["layers"], sizes["layers"])
    return sizes


def check_layers(config: Config, name: str, layers: int) -> None:
    """Raises CheckpointError for more layers than any model has."""
    if layers > MAX_LAYERS:
        raise CheckpointError(f"{config.path}: {name} makes {layers} layers; more than {MAX_LAYERS} are not supported")


BERT_NUMBERS = {
    "hidden_size": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
}


def refuse_other_attention(config: Config) -> None:
    """Variants of BERT's attention that transformers can configure and this package does not compute."""
    config.choice("position_embedding_type", ("absolute", None), "absolute")
    config.choice("is_decoder", (False,), False)
    config.choice("add_cross_attention", (False,), False)
