"""MPNet (Song et al., 2020, arXiv:2004.09297): RoBERTa without token types, and with a bias for relative positions.

What a position gives to another is shifted by a number for their distance, in 32 buckets, the same in all layers.
"""

from dataclasses import replace

from zopog_models.families.encoder import EmbeddingNames, EncoderArchitecture, LayerNames
from zopog_models.families.family import Config
from zopog_models.families.roberta import Roberta

BUCKETS = 32


class MPNet(Roberta):
    """microsoft/mpnet-base, sentence-transformers/all-mpnet-base-v2 and their like."""

    name = "mpnet"
    title = "MPNet"
    prefix = "mpnet"

    def read(self, config: Config) -> EncoderArchitecture:
        config.choice("relative_attention_num_buckets", (BUCKETS,), BUCKETS)
        return replace(super().read(config), token_types=0)

    def embedding_names(self, a: EncoderArchitecture) -> EmbeddingNames:
        return super().embedding_names(a)._replace(types=None)

    def layer_names(self, a: EncoderArchitecture, i: int) -> LayerNames:
        attention = f"{self.prefix}.encoder.layer.{i}.attention"
        return (
            super()
            .layer_names(a, i)
            ._replace(
                query=f"{attention}.attn.q",
                key=f"{attention}.attn.k",
                value=f"{attention}.attn.v",
                attended=f"{attention}.attn.o",
                attended_norm=f"{attention}.LayerNorm",
            )
        )

    def relative_bias(self) -> str:
        """The table (BUCKETS, heads)."""
        return f"{self.prefix}.encoder.relative_attention_bias.weight"

    def shapes(self, architecture: EncoderArchitecture) -> dict[str, tuple[int, ...]]:
        return super().shapes(architecture) | {self.relative_bias(): (BUCKETS, architecture.heads)}


MPNET = MPNet()
