"""GPT-NeoX (Black et al., 2022, arXiv:2204.06745) and Pythia (Biderman et al., 2023, arXiv:2304.01373).

Attention and feed-forward read the same input, each with a LayerNorm of its own, and both are added to it; a quarter of
each head is turned by its position. Queries, keys and values lie in one matrix, head by head.
"""

import re
from typing import Any

from zopog_models.errors import CheckpointError
from zopog_models.families.decoder import GELUS, DecoderArchitecture, DecoderFamily, layers_of
from zopog_models.families.family import Config
from zopog_models.families.rotary import read_rotary


class GPTNeoXFamily(DecoderFamily):
    """EleutherAI/pythia-160m and its like."""

    name = "gpt_neox"
    title = "GPT-NeoX, Pythia"

    def read(self, config: Config) -> DecoderArchitecture:
        hidden_size, heads = config.size("hidden_size"), config.size("num_attention_heads")
        if hidden_size % heads:
            raise CheckpointError(
                f"{config.path}: hidden_size {hidden_size} is not a multiple of num_attention_heads {heads}"
            )
        bias = config.switch("attention_bias", default=True)
        return DecoderArchitecture(
            family=self.name,
            vocab_size=config.size("vocab_size"),
            hidden_size=hidden_size,
            embedding_size=hidden_size,
            layers=layers_of(config, "num_hidden_layers"),
            heads=heads,
            intermediate_size=config.size("intermediate_size"),
            tied=config.switch("tie_word_embeddings"),
            position_rows=config.size("max_position_embeddings", 2048),
            key_heads=heads,
            head_width=hidden_size // heads,
            norm_eps=config.fraction("layer_norm_eps", 1e-5),
            activation=config.choice("hidden_act", GELUS, "gelu"),
            query_bias=bias,
            output_bias=bias,
            feed_forward_bias=True,
            rotary=read_rotary(config, "rotary_emb_base", width=hidden_size // heads, share=("rotary_pct", 0.25)),
            parallel=config.switch("use_parallel_residual", default=True),
        )

    def word_embeddings(self, architecture: Any) -> str:
        return "gpt_neox.embed_in.weight"

    def shapes(self, architecture: Any) -> dict[str, tuple[int, ...]]:
        a: DecoderArchitecture = architecture
        d, f = a.hidden_size, a.intermediate_size
        shapes: dict[str, tuple[int, ...]] = {self.word_embeddings(a): (a.vocab_size, d)}

        def put(name: str, shape: tuple[int, ...], bias: bool) -> None:
            shapes[f"{name}.weight"] = shape
            if bias:
                shapes[f"{name}.bias"] = shape[:1]

        for i in range(a.layers):
            layer = f"gpt_neox.layers.{i}"
            put(f"{layer}.input_layernorm", (d,), True)
            put(f"{layer}.post_attention_layernorm", (d,), True)
            put(f"{layer}.attention.query_key_value", (3 * d, d), a.query_bias)
            put(f"{layer}.attention.dense", (d, d), a.output_bias)
            put(f"{layer}.mlp.dense_h_to_4h", (f, d), True)
            put(f"{layer}.mlp.dense_4h_to_h", (d, f), True)
        put("gpt_neox.final_layer_norm", (d,), True)
        if not a.tied:
            shapes["lm_head.weight"] = (a.vocab_size, d)
        return shapes

    def canonical(self, stored: str, architecture: Any) -> str | None:
        name = "lm_head.weight" if stored == "embed_out.weight" else stored  # as the files on the hub call it
        if name == "lm_head.weight" and architecture.tied:
            return None
        # Causal masks and rotary frequencies, stored as buffers by old versions of transformers.
        buffers = r"gpt_neox\.layers\.\d+\.attention\.((masked_)?bias|rotary_emb\.inv_freq)"
        return None if re.fullmatch(buffers, name) else name


GPT_NEOX = GPTNeoXFamily()
