"""The layers of a decoder as graph operators, by name: what every family of decoders fills in."""

from abc import ABC, abstractmethod

from zopog_models.checkpoints.checkpoint import Checkpoint
from zopog_models.families.decoder import DecoderArchitecture
from zopog_models.graph.builder import GraphBuilder
from zopog_models.graph.tokens import Padded

__all__ = ["DecoderLayers"]


class DecoderLayers(ABC):
    """The layers of a decoder, by name. x is the name of a value; shapes stand at the line ends."""

    def __init__(self, graph: GraphBuilder, checkpoint: Checkpoint) -> None:
        assert isinstance(checkpoint.architecture, DecoderArchitecture)
        self.graph = graph
        self.tensors = checkpoint.tensors
        self.architecture = checkpoint.architecture
        self.tokens = Padded(graph)

    @abstractmethod
    def words(self) -> str:
        """The word embeddings (V, D)."""

    @abstractmethod
    def start(self, x: str, positions: str, total: str) -> str:
        """What enters the first layer, from word embeddings x (R, S, D) at positions (R, S) below total (1,)."""

    @abstractmethod
    def before_attention(self, x: str, i: int) -> str:
        """The normalised input of the i-th layer's attention."""

    @abstractmethod
    def queries(self, x: str, positions: str, i: int) -> str:
        """(R, Q, D) at positions (R, Q) -> (R, Q, heads · w)."""

    @abstractmethod
    def keys_values(self, x: str, positions: str, i: int) -> tuple[str, str]:
        """(R, S, D) at positions (R, S) -> keys and values, (R, S, key_heads · w) each."""

    @abstractmethod
    def attended(self, x: str, i: int) -> str:
        """The attention's output map, (R, Q, heads · w) -> (R, Q, D)."""

    @abstractmethod
    def feed_forward(self, x: str, i: int) -> str:
        """(R, Q, D) -> (R, Q, D), its normalisation included, the residual sum not."""

    @abstractmethod
    def end(self, x: str) -> str:
        """The last normalisation."""

    def outputs(self) -> str:
        """The output matrix (V, D)."""
        return self.words() if self.architecture.tied else self.table("lm_head.weight")

    def table(self, name: str) -> str:
        """A weight as it is stored."""
        return self.graph.weight(name, self.tensors[name])

    def linear(self, x: str, name: str, *, outliers: bool = False) -> str:
        """x Wᵀ (+ b), with W published as (out, in); outliers: as in `GraphBuilder.product`."""
        g, bias = self.graph, f"{name}.bias"
        product = g.product(x, f"{name}.weight", self.tensors[f"{name}.weight"], transposed=True, outliers=outliers)
        return g.op("Add", product, self.table(bias)) if bias in self.tensors else product

    def layer_norm(self, x: str, name: str) -> str:
        """(x − mean) / √(variance + ε) · γ + β over the last axis."""
        gamma, beta = self.table(f"{name}.weight"), self.table(f"{name}.bias")
        return self.graph.op("LayerNormalization", x, gamma, beta, axis=-1, epsilon=self.architecture.norm_eps)

    def gelu(self, x: str) -> str:
        """The activation between two linear maps: one of GELU's forms, or relu."""
        kind = self.architecture.activation
        if kind == "relu":
            return self.graph.op("Relu", x)
        return self.graph.op("Gelu", x, approximate="none" if kind == "gelu" else "tanh")

    def layer(self, i: int, x: str, q: str, k: str, v: str, mask: str) -> str:
        """x + attention, + feed-forward: (B, s, D), with queries q (R, Q, ·) that look at k and v (R, T, ·) by mask."""
        g, a = self.graph, self.architecture
        scale = {} if a.attention_scale is None else {"scale": a.attention_scale}
        # (R, Q, heads · w)
        attended = g.op("Attention", q, k, v, mask, q_num_heads=a.heads, kv_num_heads=a.key_heads, **scale)
        summed = g.op("Add", x, self.attended(self.tokens.pack(attended), i))
        return g.op("Add", summed, self.feed_forward(x if a.parallel else summed, i))
