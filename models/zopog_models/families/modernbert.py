"""ModernBERT (Warner et al., 2024, arXiv:2412.13663): no position table, rotary positions in the layers.

Normalisation stands before attention and feed-forward (but not in the first layer, whose input is normalised), and at
the end; feed-forward is gated (GeGLU); two of three layers see 64 positions to either side, and turn by a base of their
own. No biases, unless config.json says so. Queries, keys and values lie in one matrix, so do gate and what it gates.
"""

from dataclasses import dataclass
from typing import Any

from zopog_models.families.bert import BERT_TOKENS
from zopog_models.families.encoder import (
    ACTIVATIONS,
    BERT_NUMBERS,
    EmbeddingNames,
    EncoderArchitecture,
    EncoderFamily,
    HeadNames,
    LayerNames,
    common_numbers,
)
from zopog_models.families.family import Config
from zopog_models.families.rotary import Rotary, read_rotary
from zopog_models.families.windows import windows_of


@dataclass(frozen=True, kw_only=True)
class ModernBertArchitecture(EncoderArchitecture):
    """What it has beside BERT's numbers."""

    windows: tuple[int, ...]  # positions that each layer sees to one side, its own included; 0 (or no entry): all
    rotary: Rotary
    local_rotary: Rotary  # of layers with a window
    norm_bias: bool
    attention_bias: bool
    feed_forward_bias: bool
    head_bias: bool  # of the head's linear map
    output_bias: bool  # a bias for every word


class ModernBert(EncoderFamily):
    """answerdotai/ModernBERT-base and its like."""

    name = "modernbert"
    title = "ModernBERT"
    special_tokens = BERT_TOKENS
    prefix = "model"

    def read(self, config: Config) -> ModernBertArchitecture:
        numbers = common_numbers(config, **BERT_NUMBERS)
        width, layers = numbers["hidden_size"] // numbers["heads"], numbers["layers"]
        config.even("hidden_size / num_attention_heads", width)
        every, window = config.size("global_attn_every_n_layers", 3), config.size("local_attention", 128) // 2 + 1
        kinds = ["sliding_attention" if i % every else "full_attention" for i in range(layers)]
        return ModernBertArchitecture(
            family=self.name,
            embedding_size=numbers["hidden_size"],
            tied=config.tied,
            max_position_rows=config.size("max_position_embeddings", 8192),
            first_position=0,
            token_types=0,
            layer_norm_eps=config.fraction("norm_eps", 1e-5),
            activation=config.choice("hidden_activation", ACTIVATIONS, "gelu"),
            head_activation=config.choice("classifier_activation", ACTIVATIONS, "gelu"),
            windows=windows_of(config, layers, window, kinds),
            rotary=read_rotary(config, "global_rope_theta", 160000.0, "full_attention"),
            local_rotary=read_rotary(config, "local_rope_theta", 10000.0, "sliding_attention"),
            norm_bias=config.switch("norm_bias"),
            attention_bias=config.switch("attention_bias"),
            feed_forward_bias=config.switch("mlp_bias"),
            head_bias=config.switch("classifier_bias"),
            output_bias=config.switch("decoder_bias", default=True),
            **numbers,
        )

    def embedding_names(self, a: EncoderArchitecture) -> EmbeddingNames:
        e = f"{self.prefix}.embeddings"
        return EmbeddingNames(f"{e}.tok_embeddings.weight", None, None, f"{e}.norm", None)

    def layer_names(self, a: EncoderArchitecture, i: int) -> LayerNames:
        layer = f"{self.prefix}.layers.{i}"
        together = f"{layer}.attn.Wqkv"  # one third of its rows each
        return LayerNames(
            query=together,
            key=together,
            value=together,
            attended=f"{layer}.attn.Wo",
            attended_norm=f"{layer}.attn_norm",
            wide=f"{layer}.mlp.Wi",  # half of its rows are the gate
            narrow=f"{layer}.mlp.Wo",
            narrow_norm=f"{layer}.mlp_norm",
        )

    def last_norm(self) -> str:
        """The normalisation behind the layers."""
        return f"{self.prefix}.final_norm"

    def head_names(self, a: EncoderArchitecture) -> HeadNames:
        return HeadNames("head.dense", "head.norm", "decoder.weight", "decoder.bias")

    def shapes(self, architecture: Any) -> dict[str, tuple[int, ...]]:
        a: ModernBertArchitecture = architecture
        d, f, head = a.hidden_size, a.intermediate_size, self.head_names(a)
        shapes: dict[str, tuple[int, ...]] = {self.word_embeddings(a): (a.vocab_size, d)}

        def put(name: str, shape: tuple[int, ...], bias: bool) -> None:
            shapes[f"{name}.weight"] = shape
            if bias:
                shapes[f"{name}.bias"] = shape[:1]

        put(self.embedding_names(a).norm, (d,), a.norm_bias)
        for i in range(a.layers):
            names = self.layer_names(a, i)
            if i:
                put(names.attended_norm, (d,), a.norm_bias)
            put(names.query, (3 * d, d), a.attention_bias)
            put(names.attended, (d, d), a.attention_bias)
            put(names.narrow_norm, (d,), a.norm_bias)
            put(names.wide, (2 * f, d), a.feed_forward_bias)
            put(names.narrow, (d, f), a.feed_forward_bias)
        put(self.last_norm(), (d,), a.norm_bias)
        if a.pooling:
            return shapes
        put(head.dense, (d, d), a.head_bias)
        put(head.norm, (d,), a.norm_bias)
        if not a.tied:
            shapes[head.output] = (a.vocab_size, d)
        if a.output_bias:
            shapes[head.bias] = (a.vocab_size,)
        return shapes


MODERNBERT = ModernBert()
