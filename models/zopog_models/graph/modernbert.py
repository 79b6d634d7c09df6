"""ModernBERT's layers (Warner et al. 2024).

x = x + W_o attention(LayerNorm(x))                    queries and keys turned by their positions
x = x + W_o (act(W_i y) * V_i y), y = LayerNorm(x)     both times `layers` times; the first layer reads x as it is
scores = head(LayerNorm(x))
"""

from typing import NamedTuple

from zopog_models.families.modernbert import ModernBert, ModernBertArchitecture
from zopog_models.families.rotary import Rotary
from zopog_models.graph.layers import Layers
from zopog_models.graph.rotary import Waves, add_waves, turned


class Sight(NamedTuple):
    """Who looks at whom, in layers of each window there is, and where both stand."""

    masks: dict[int, str]  # window -> (R, 1, Q, S)
    queries: str  # (R, Q)
    keys: str  # (R, S)
    waves: dict[Rotary, Waves]


class ModernBertLayers(Layers):
    """Layers of two kinds; weights that lie in one matrix are read as parts of its rows."""

    _waves: dict[Rotary, Waves] | None = None

    def sight(self, mask: str, at: str | None, total: str) -> Sight:
        g, a = self.graph, self._numbers
        if self._waves is None:
            rotaries = {"rotary": a.rotary, "rotary_local": a.local_rotary}
            width = a.hidden_size // a.heads
            self._waves = {r: add_waves(g, r, width, a.max_positions, total, name) for name, r in rotaries.items()}
        columns = self.places(total)  # (1, S)
        rows = g.op("Shape", mask, start=0, end=1)
        keys = g.op("Expand", columns, g.op("Concat", rows, total, axis=0))  # (R, S)
        queries = keys if at is None else at
        distance = g.op("Sub", g.op("Unsqueeze", queries, g.integers(2)), g.op("Unsqueeze", columns, g.integers(1)))
        distance = g.op("Unsqueeze", g.op("Abs", distance), g.integers(1))  # (R, 1, Q, S)
        masks = {0: mask}
        for window in set(a.windows) - {0}:
            masks[window] = g.op("And", mask, g.op("Less", distance, g.scalar(window)))
        return Sight(masks, queries, keys, self._waves)

    def encoder_layer(self, queries: str, x: str, sight: Sight, i: int, unit_mask: str | None = None) -> str:
        g, a, names = self.graph, self._numbers, self.family.layer_names(self._numbers, i)
        d, f, window = a.hidden_size, a.intermediate_size, a.windows[i] if a.windows else 0
        waves = sight.waves[a.local_rotary if window else a.rotary]
        y = self._before_attention(x, i)
        asked = y if queries == x else self._before_attention(queries, i)
        q = turned(g, self._part(asked, names.query, "q", 0, d), waves, sight.queries, a.heads)  # (R, Q, D)
        k = turned(g, self._part(y, names.key, "k", d, 2 * d), waves, sight.keys, a.heads)  # (R, S, D)
        v = self._part(y, names.value, "v", 2 * d, 3 * d)
        seen = sight.masks[window]
        attended = g.op("Attention", q, k, v, seen, q_num_heads=a.heads, kv_num_heads=a.heads)
        hidden = g.op("Add", queries, self.linear(attended, names.attended))
        y = self.layer_norm(hidden, names.narrow_norm)
        wide = self.activation(self._part(y, names.wide, "in", 0, f), a.activation)  # (R, Q, F)
        wide = g.op("Mul", wide, self._part(y, names.wide, "gate", f, 2 * f))
        if unit_mask is not None:
            wide = g.op("Mul", wide, unit_mask)
        return g.op("Add", hidden, self.linear(wide, names.narrow))

    def _before_attention(self, x: str, i: int) -> str:
        return self.layer_norm(x, self.family.layer_names(self._numbers, i).attended_norm) if i else x

    def end(self, x: str) -> str:
        assert isinstance(self.family, ModernBert)
        return self.layer_norm(x, self.family.last_norm())

    @property
    def _numbers(self) -> ModernBertArchitecture:
        assert isinstance(self.architecture, ModernBertArchitecture)
        return self.architecture

    def _part(self, x: str, name: str, part: str, start: int, end: int) -> str:
        """x Wᵀ (+ b) with some of the rows of W."""
        g, weight, bias = self.graph, f"{name}.weight", f"{name}.bias"
        product = g.product(x, f"{weight}.{part}", self.tensors[weight][start:end], transposed=True)
        if bias not in self.tensors:
            return product
        return g.op("Add", product, g.weight(f"{bias}.{part}", self.tensors[bias][start:end]))
