"""The layers of a decoder as graph operators, by name: what every family of decoders fills in."""

from abc import ABC, abstractmethod

from zopog_models.checkpoints.checkpoint import Checkpoint
from zopog_models.families.decoder import DecoderArchitecture
from zopog_models.graph.builder import GraphBuilder

__all__ = ["DecoderLayers"]


class DecoderLayers(ABC):
    """The layers of a decoder, by name. x is the name of a value; shapes stand at the line ends."""

    def __init__(self, graph: GraphBuilder, checkpoint: Checkpoint) -> None:
        assert isinstance(checkpoint.architecture, DecoderArchitecture)
        self.graph = graph
        self.tensors = checkpoint.tensors
        self.architecture = checkpoint.architecture

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

    @abstractmethod
    def outputs(self) -> str:
        """The output matrix (V, D)."""

    def table(self, name: str) -> str:
        """A weight as it is stored."""
        return self.graph.weight(name, self.tensors[name])

    def layer(self, i: int, x: str, q: str, k: str, v: str, mask: str) -> str:
        """x + attention, + feed-forward: (R, Q, D), with queries q that look at k and v (R, T, ·) where mask says."""
        g, a = self.graph, self.architecture
        scale = {} if a.attention_scale is None else {"scale": a.attention_scale}
        # (R, Q, heads · w)
        attended = g.op("Attention", q, k, v, mask, q_num_heads=a.heads, kv_num_heads=a.key_heads, **scale)
        x = g.op("Add", x, self.attended(attended, i))
        return g.op("Add", x, self.feed_forward(x, i))
