"""A causal language model's numbers and parts by name: what a decoder family fills in, and the shapes that follow."""

from dataclasses import dataclass
from types import MappingProxyType

from zopog_models.errors import CheckpointError
from zopog_models.families.family import Architecture, Config, Family


@dataclass(frozen=True, kw_only=True)
class Rotary:
    """Rotary positions: frequencies θ^(−2i/w), and how they are rescaled for long contexts."""

    theta: float
    kind: str = "default"  # "default", "linear" (all divided by factor), "llama3" (the slow ones), "longrope" (each)
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192
    divisors: tuple[float, ...] = ()  # longrope: each frequency's own


@dataclass(frozen=True, kw_only=True)
class DecoderArchitecture(Architecture):
    """What GPT-2 and the Llama family differ in."""

    position_rows: int  # the most positions a row may have, prompt included
    key_heads: int  # heads of keys and values; each serves heads / key_heads heads of queries
    head_width: int  # w
    norm_eps: float
    activation: str  # of the feed-forward layers
    query_bias: bool  # biases on queries, keys and values
    output_bias: bool  # on the attention's output
    feed_forward_bias: bool
    rotary: Rotary | None  # None: learned positions

    @property
    def max_positions(self) -> int:
        """The longest sequence, prompt included."""
        return self.position_rows


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
