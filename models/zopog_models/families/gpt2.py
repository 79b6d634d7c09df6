"""GPT-2 (Radford et al. 2019): learned positions, LayerNorm before each block, tanh GELU, a tied output matrix."""

import re
from typing import Any

from zopog_models.errors import CheckpointError
from zopog_models.families.decoder import GELUS, DecoderArchitecture, DecoderFamily, layers_of
from zopog_models.families.family import Config


class GPT2Family(DecoderFamily):
    """Names as save_pretrained writes them; the files on the hub leave out the leading `transformer.`."""

    name = "gpt2"
    title = "GPT-2"

    def read(self, config: Config) -> DecoderArchitecture:
        config.choice("scale_attn_weights", (True,), True)
        config.choice("scale_attn_by_inverse_layer_idx", (False,), False)
        config.choice("add_cross_attention", (False,), False)
        hidden_size, heads = config.size("n_embd"), config.size("n_head")
        if hidden_size % heads:
            raise CheckpointError(f"{config.path}: n_embd {hidden_size} is not a multiple of n_head {heads}")
        wide = config.values.get("n_inner") is not None
        return DecoderArchitecture(
            family=self.name,
            vocab_size=config.size("vocab_size"),
            hidden_size=hidden_size,
            embedding_size=hidden_size,
            layers=layers_of(config, "n_layer"),
            heads=heads,
            intermediate_size=config.size("n_inner") if wide else 4 * hidden_size,
            tied=bool(config.values.get("tie_word_embeddings", True)),
            position_rows=config.size("n_positions"),
            key_heads=heads,
            head_width=hidden_size // heads,
            norm_eps=config.fraction("layer_norm_epsilon", 1e-5),
            activation=config.choice("activation_function", GELUS, "gelu_new"),
            query_bias=True,
            output_bias=True,
            feed_forward_bias=True,
            rotary=None,
        )

    def word_embeddings(self, architecture: Any) -> str:
        return "transformer.wte.weight"

    def shapes(self, architecture: Any) -> dict[str, tuple[int, ...]]:
        a: DecoderArchitecture = architecture
        d, f = a.hidden_size, a.intermediate_size
        shapes: dict[str, tuple[int, ...]] = {
            "transformer.wte.weight": (a.vocab_size, d),
            "transformer.wpe.weight": (a.position_rows, d),
        }
        for i in range(a.layers):
            layer = f"transformer.h.{i}"
            shapes |= {f"{layer}.ln_1.weight": (d,), f"{layer}.ln_1.bias": (d,)}
            # "Conv1D": weights (in, out), the other way round than everywhere else; queries, keys, values side by side.
            shapes |= {f"{layer}.attn.c_attn.weight": (d, 3 * d), f"{layer}.attn.c_attn.bias": (3 * d,)}
            shapes |= {f"{layer}.attn.c_proj.weight": (d, d), f"{layer}.attn.c_proj.bias": (d,)}
            shapes |= {f"{layer}.ln_2.weight": (d,), f"{layer}.ln_2.bias": (d,)}
            shapes |= {f"{layer}.mlp.c_fc.weight": (d, f), f"{layer}.mlp.c_fc.bias": (f,)}
            shapes |= {f"{layer}.mlp.c_proj.weight": (f, d), f"{layer}.mlp.c_proj.bias": (d,)}
        shapes |= {"transformer.ln_f.weight": (d,), "transformer.ln_f.bias": (d,)}
        if not a.tied:
            shapes["lm_head.weight"] = (a.vocab_size, d)
        return shapes

    def canonical(self, stored: str, architecture: Any) -> str | None:
        if stored == "lm_head.weight":
            return None if architecture.tied else stored
        name = stored if stored.startswith("transformer.") else f"transformer.{stored}"
        # Causal masks, stored as buffers by old versions of transformers.
        return None if re.fullmatch(r"transformer\.h\.\d+\.attn\.(masked_)?bias", name) else name


GPT2 = GPT2Family()
