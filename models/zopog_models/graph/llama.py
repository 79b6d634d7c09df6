"""The layers of Llama and Qwen2 (Touvron et al. 2023; Llama 3, 2024; Qwen2 technical report, 2024).

    x = word + offset
    x = x + W_o attention(RMSNorm(x))                        causal; queries and keys turned by their positions
    x = x + W_down (silu(W_gate y) * W_up y), y = RMSNorm(x)     both times `layers` times
    scores = RMSNorm(x) Oᵀ

Heads of keys and values serve heads / key_heads heads of queries each (Ainslie et al. 2023). Rotary positions (Su et
al. 2021): at position p the pair (x_i, x_{i + w/2}) of a head of width w is turned by the angle p · f_i.
"""

import math

import numpy as np

from zopog_models.families.decoder import Rotary
from zopog_models.graph import onnx_format
from zopog_models.graph.decoder_layers import DecoderLayers

STRIDE = 256  # positions from one row of the coarse tables to the next


def frequencies(rotary: Rotary, head_width: int) -> np.ndarray:
    """f_i = θ^(−2i/w), (w/2,), float64; rescaled as config.json says.

    "linear": f_i / factor. "llama3": waves of more than context / low_freq_factor positions are slowed down by
    factor, those of fewer than context / high_freq_factor stay, between them the two are mixed linearly in
    context / wavelength.
    """
    f = rotary.theta ** (-np.arange(0, head_width, 2) / head_width)  # (w/2,)
    if rotary.kind == "linear":
        return f / rotary.factor
    if rotary.kind == "longrope":
        return f / np.array(rotary.divisors)
    if rotary.kind == "llama3":
        turns = rotary.original_max_positions * f / (2 * math.pi)  # in the context the model was first trained on
        low, high = rotary.low_freq_factor, rotary.high_freq_factor
        kept = np.clip((turns - low) / (high - low), 0, 1)
        return kept * f + (1 - kept) * f / rotary.factor
    return f


def wave_tables(waves: np.ndarray, positions: int) -> dict[str, np.ndarray]:
    """cos and sin of p · f for p = 0, STRIDE, 2 STRIDE, ... below `positions`, and for p = 0 ... STRIDE − 1, float64.

    cos((a + b) f) = cos a f cos b f − sin a f sin b f, sin((a + b) f) = sin a f cos b f + cos a f sin b f: every
    position to about 1e-16, from tables of a few hundred rows.
    """
    far = np.arange(0, positions, STRIDE)[:, None] * waves  # (positions / STRIDE, w/2)
    near = np.arange(STRIDE)[:, None] * waves  # (STRIDE, w/2)
    return {"cos_far": np.cos(far), "sin_far": np.sin(far), "cos_near": np.cos(near), "sin_near": np.sin(near)}


class LlamaLayers(DecoderLayers):
    """Weights read by the names of `families.llama`."""

    _cosines: str
    _sines: str

    def words(self) -> str:
        return self.table("model.embed_tokens.weight")

    def outputs(self) -> str:
        return self.words() if self.architecture.tied else self.table("lm_head.weight")

    def start(self, x: str, positions: str, total: str) -> str:
        g, a = self.graph, self.architecture
        assert a.rotary is not None
        # In float64: at position 100,000 an angle in float32 is off by 0.004 of a radian. From tables of two scales,
        # p = STRIDE · far + near, since not every ONNX Runtime has a cosine of float64.
        tables = wave_tables(frequencies(a.rotary, a.head_width), a.max_positions)
        cos_far, sin_far, cos_near, sin_near = (g.doubles(f"rotary_{name}", table) for name, table in tables.items())
        places = g.op("Range", g.scalar(0), g.op("Squeeze", total), g.scalar(1))  # (T,)
        far = g.op("Div", places, g.scalar(STRIDE))
        near = g.op("Sub", places, g.op("Mul", far, g.scalar(STRIDE)))
        c, s = (g.op("Gather", table, far) for table in (cos_far, sin_far))  # (T, w/2)
        d, t = (g.op("Gather", table, near) for table in (cos_near, sin_near))
        cosines = g.op("Sub", g.op("Mul", c, d), g.op("Mul", s, t))
        sines = g.op("Add", g.op("Mul", s, d), g.op("Mul", c, t))
        self._cosines, self._sines = (
            g.from_float32(g.op("Cast", wave, to=onnx_format.FLOAT)) for wave in (cosines, sines)
        )
        return x

    def before_attention(self, x: str, i: int) -> str:
        return self._rms_norm(x, f"model.layers.{i}.input_layernorm")

    def queries(self, x: str, positions: str, i: int) -> str:
        q = self._linear(x, f"model.layers.{i}.self_attn.q_proj")
        return self._turned(q, positions, self.architecture.heads)

    def keys_values(self, x: str, positions: str, i: int) -> tuple[str, str]:
        k = self._linear(x, f"model.layers.{i}.self_attn.k_proj")
        v = self._linear(x, f"model.layers.{i}.self_attn.v_proj")
        return self._turned(k, positions, self.architecture.key_heads), v

    def attended(self, x: str, i: int) -> str:
        return self._linear(x, f"model.layers.{i}.self_attn.o_proj")

    def feed_forward(self, x: str, i: int) -> str:
        g, layer = self.graph, f"model.layers.{i}"
        y = self._rms_norm(x, f"{layer}.post_attention_layernorm")
        gate, up = self._linear(y, f"{layer}.mlp.gate_proj"), self._linear(y, f"{layer}.mlp.up_proj")  # (R, Q, F)
        silu = g.op("Mul", gate, g.op("Sigmoid", gate))
        return self._linear(g.op("Mul", silu, up), f"{layer}.mlp.down_proj")

    def end(self, x: str) -> str:
        return self._rms_norm(x, "model.norm")

    def _rms_norm(self, x: str, name: str) -> str:
        """x / √(mean x² + ε) · γ over the last axis."""
        gamma = self.table(f"{name}.weight")
        return self.graph.op("RMSNormalization", x, gamma, axis=-1, epsilon=self.architecture.norm_eps)

    def _linear(self, x: str, name: str) -> str:
        """x Wᵀ (+ b), with W published as (out, in)."""
        g = self.graph
        product = g.product(x, f"{name}.weight", self.tensors[f"{name}.weight"], transposed=True)
        bias = f"{name}.bias"
        return g.op("Add", product, self.table(bias)) if bias in self.tensors else product

    def _turned(self, x: str, positions: str, heads: int) -> str:
        return self.graph.op("RotaryEmbedding", x, self._cosines, self._sines, positions, num_heads=heads)
