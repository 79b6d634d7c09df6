"""OPT (Zhang et al., 2022, arXiv:2205.01068): GPT-2's plan with relu, and a `</s>` before each text.

The position table has two rows that stand for no position; the first token has row 2.
"""

from typing import Any

from zopog_models.errors import CheckpointError
from zopog_models.families.decoder import GELUS, DecoderArchitecture, DecoderFamily, layers_of
from zopog_models.families.family import Config

FIRST_POSITION = 2  # row of the position table


class OPTFamily(DecoderFamily):
    """facebook/opt-125m and its like; not opt-350m, which normalises after the residual sums."""

    name = "opt"
    title = "OPT"

    def read(self, config: Config) -> DecoderArchitecture:
        hidden_size, heads = config.size("hidden_size"), config.size("num_attention_heads")
        if hidden_size % heads:
            raise CheckpointError(
                f"{config.path}: hidden_size {hidden_size} is not a multiple of num_attention_heads {heads}"
            )
        config.choice("do_layer_norm_before", (True,), True)
        config.choice("_remove_final_layer_norm", (False,), False)
        config.choice("layer_norm_elementwise_affine", (True,), True)
        config.choice("word_embed_proj_dim", (hidden_size,), hidden_size)
        bias = config.switch("enable_bias", default=True)
        return DecoderArchitecture(
            family=self.name,
            vocab_size=config.size("vocab_size"),
            hidden_size=hidden_size,
            embedding_size=hidden_size,
            layers=layers_of(config, "num_hidden_layers"),
            heads=heads,
            intermediate_size=config.size("ffn_dim"),
            tied=config.switch("tie_word_embeddings", default=True),
            position_rows=config.size("max_position_embeddings", 2048),
            key_heads=heads,
            head_width=hidden_size // heads,
            norm_eps=1e-5,
            activation=config.choice("activation_function", GELUS, "relu"),
            query_bias=bias,
            output_bias=bias,
            feed_forward_bias=bias,
            rotary=None,
        )

    def word_embeddings(self, architecture: Any) -> str:
        return "model.decoder.embed_tokens.weight"

    def shapes(self, architecture: Any) -> dict[str, tuple[int, ...]]:
        a: DecoderArchitecture = architecture
        d, f = a.hidden_size, a.intermediate_size
        shapes: dict[str, tuple[int, ...]] = {
            self.word_embeddings(a): (a.vocab_size, d),
            "model.decoder.embed_positions.weight": (a.position_rows + FIRST_POSITION, d),
        }

        def put(name: str, shape: tuple[int, ...], bias: bool) -> None:
            shapes[f"{name}.weight"] = shape
            if bias:
                shapes[f"{name}.bias"] = shape[:1]

        for i in range(a.layers):
            layer = f"model.decoder.layers.{i}"
            put(f"{layer}.self_attn_layer_norm", (d,), True)
            for part in "qkv":
                put(f"{layer}.self_attn.{part}_proj", (d, d), a.query_bias)
            put(f"{layer}.self_attn.out_proj", (d, d), a.output_bias)
            put(f"{layer}.final_layer_norm", (d,), True)
            put(f"{layer}.fc1", (f, d), a.feed_forward_bias)
            put(f"{layer}.fc2", (d, f), a.feed_forward_bias)
        put("model.decoder.final_layer_norm", (d,), True)
        if not a.tied:
            shapes["lm_head.weight"] = (a.vocab_size, d)
        return shapes

    def canonical(self, stored: str, architecture: Any) -> str | None:
        if stored == "lm_head.weight" and architecture.tied:
            return None
        return f"model.{stored}" if stored.startswith("decoder.") else stored  # as older files have it


OPT = OPTFamily()
