"""A causal language model's numbers and parts by name: what a decoder family fills in, and the shapes that follow."""

from dataclasses import dataclass
from types import MappingProxyType

from zopog_models.errors import CheckpointError
from zopog_models.families.family import Architecture, Config, Family
from zopog_models.families.rotary import Rotary

GELUS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")


@dataclass(frozen=True, kw_only=True)
class DecoderArchitecture(Architecture):
    """What decoders differ in. What has a default here is what only some of Llama's relatives have."""

    position_rows: int  # the most positions a row may have, prompt included
    key_heads: int  # heads of keys and values; each serves heads / key_heads heads of queries
    head_width: int  # w
    norm_eps: float
    activation: str  # of the feed-forward layers
    query_bias: bool  # biases on queries, keys and values
    output_bias: bool  # on the attention's output
    feed_forward_bias: bool
    rotary: Rotary | None  # None: learned positions
    windows: tuple[int, ...] = ()  # positions that each layer sees, its own and those before it; 0 (or no entry): all
    local_rotary: Rotary | None = None  # of layers with a window, where they have another one
    unturned: tuple[int, ...] = ()  # layers without positions
    query_norm: bool = False  # every head's queries and keys are normalised before they are turned
    norm_offset: float = 0.0  # RMSNorm's weights are stored less this
    branch_norms: bool = False  # what attention and feed-forward give is normalised before it is added
    embedding_factor: float = 1.0  # of what enters the first layer
    attention_scale: float | None = None  # of queries with keys; None: 1/√w
    parallel: bool = False  # feed-forward reads what attention reads, not what it gives

    @property
    def max_positions(self) -> int:
        """The longest sequence, prompt included."""
        return self.position_rows

    def window(self, i: int) -> int:
        """Positions that layer i sees, 0 for all: also where no row can be longer than its window."""
        size = self.windows[i] if self.windows else 0
        return size if size < self.max_positions else 0

    def rotary_of(self, i: int) -> Rotary | None:
        """The rotary positions of layer i."""
        if i in self.unturned:
            return None
        return self.local_rotary if self.local_rotary and self.windows and self.windows[i] else self.rotary


class DecoderFamily(Family):
    """A family of causal language models. Its special tokens are read from the tokenizer, not fixed by the family."""

    special_tokens = MappingProxyType({})
    injections = ("word_embedding",)

    def missing_hint(self, missing: list[str]) -> str:
        if missing == ["lm_head.weight"]:
            return " (config.json says that the output matrix is not the word embedding: tie_word_embeddings)"
        return ""


def layers_of(config: Config, name: str) -> int:
    """The number of layers. A limit, so that a wrong number is an error and not an endless list of missing tensors."""
    layers = config.size(name)
    if layers > 4096:
        raise CheckpointError(f"{config.path}: {name} is {layers}; more than 4096 layers are not supported")
    return layers
