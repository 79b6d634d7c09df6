"""DistilBERT (Sanh et al., 2019, arXiv:1910.01108).

BERT's layers, half as many, without type embeddings and without a pooler; its configuration and its tensors have names
of their own, and ε is 1e-12 in every normalisation.
"""

from zopog_models.families.bert import BERT_TOKENS
from zopog_models.families.encoder import (
    ACTIVATIONS,
    EmbeddingNames,
    EncoderArchitecture,
    EncoderFamily,
    HeadNames,
    LayerNames,
    common_numbers,
)
from zopog_models.families.family import Config


class DistilBert(EncoderFamily):
    """distilbert/distilbert-base-uncased and its like."""

    name = "distilbert"
    title = "DistilBERT"
    special_tokens = BERT_TOKENS
    prefix = "distilbert"

    def read(self, config: Config) -> EncoderArchitecture:
        activation = config.choice("activation", ACTIVATIONS, "gelu")
        numbers = common_numbers(
            config, hidden_size="dim", layers="n_layers", heads="n_heads", intermediate_size="hidden_dim"
        )
        return EncoderArchitecture(
            family=self.name,
            embedding_size=numbers["hidden_size"],
            tied=config.tied,
            # Sinusoidal positions (sinusoidal_pos_embds) are a table in the file as well.
            max_position_rows=config.size("max_position_embeddings", 512),
            first_position=0,
            token_types=0,
            layer_norm_eps=1e-12,
            activation=activation,
            head_activation=activation,
            **numbers,
        )

    def embedding_names(self, a: EncoderArchitecture) -> EmbeddingNames:
        e = f"{self.prefix}.embeddings"
        return EmbeddingNames(
            words=f"{e}.word_embeddings.weight",
            positions=f"{e}.position_embeddings.weight",
            types=None,
            norm=f"{e}.LayerNorm",
            projection=None,
        )

    def layer_names(self, a: EncoderArchitecture, i: int) -> LayerNames:
        layer = f"{self.prefix}.transformer.layer.{i}"
        return LayerNames(
            query=f"{layer}.attention.q_lin",
            key=f"{layer}.attention.k_lin",
            value=f"{layer}.attention.v_lin",
            attended=f"{layer}.attention.out_lin",
            attended_norm=f"{layer}.sa_layer_norm",
            wide=f"{layer}.ffn.lin1",
            narrow=f"{layer}.ffn.lin2",
            narrow_norm=f"{layer}.output_layer_norm",
        )

    def head_names(self, a: EncoderArchitecture) -> HeadNames:
        return HeadNames("vocab_transform", "vocab_layer_norm", "vocab_projector.weight", "vocab_projector.bias")


DISTILBERT = DistilBert()
