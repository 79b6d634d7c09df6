"""BERT (Devlin et al., 2019, arXiv:1810.04805).

Word, position and type embeddings are summed and normalised; every layer normalises after its residual sums; the head
for masked tokens is W x + b, the activation, a normalisation, and the word embeddings with a bias for every word.
"""

from zopog_models.families.encoder import (
    ACTIVATIONS,
    BERT_NUMBERS,
    EmbeddingNames,
    EncoderArchitecture,
    EncoderFamily,
    HeadNames,
    LayerNames,
    common_numbers,
    refuse_other_attention,
)
from zopog_models.families.family import Config

BERT_TOKENS = {"mask": "[MASK]", "pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]"}


class Bert(EncoderFamily):
    """google-bert/bert-base-uncased and its like."""

    name = "bert"
    title = "BERT"
    special_tokens = BERT_TOKENS
    prefix = "bert"
    unused = r"cls\.seq_relationship\..*"  # next-sentence prediction

    def read(self, config: Config) -> EncoderArchitecture:
        refuse_other_attention(config)
        activation, numbers = config.choice("hidden_act", ACTIVATIONS, "gelu"), common_numbers(config, **BERT_NUMBERS)
        return EncoderArchitecture(
            family=self.name,
            embedding_size=numbers["hidden_size"],
            tied=config.tied,
            max_position_rows=config.size("max_position_embeddings", 512),
            first_position=0,
            token_types=config.size("type_vocab_size", 2),
            layer_norm_eps=config.fraction("layer_norm_eps", 1e-12),
            activation=activation,
            head_activation=activation,
            **numbers,
        )

    def embedding_names(self, a: EncoderArchitecture) -> EmbeddingNames:
        return bert_embeddings(self.prefix)

    def layer_names(self, a: EncoderArchitecture, i: int) -> LayerNames:
        return bert_layer(f"{self.prefix}.encoder.layer.{i}")

    def head_names(self, a: EncoderArchitecture) -> HeadNames:
        head = "cls.predictions"
        return HeadNames(
            f"{head}.transform.dense", f"{head}.transform.LayerNorm", f"{head}.decoder.weight", f"{head}.bias"
        )


def bert_embeddings(prefix: str) -> EmbeddingNames:
    """BERT's names for the embeddings, which its descendants kept."""
    e = f"{prefix}.embeddings"
    return EmbeddingNames(
        words=f"{e}.word_embeddings.weight",
        positions=f"{e}.position_embeddings.weight",
        types=f"{e}.token_type_embeddings.weight",
        norm=f"{e}.LayerNorm",
        projection=None,
    )


def bert_layer(layer: str) -> LayerNames:
    """BERT's names for a layer, which its descendants kept."""
    attention = f"{layer}.attention"
    return LayerNames(
        query=f"{attention}.self.query",
        key=f"{attention}.self.key",
        value=f"{attention}.self.value",
        attended=f"{attention}.output.dense",
        attended_norm=f"{attention}.output.LayerNorm",
        wide=f"{layer}.intermediate.dense",
        narrow=f"{layer}.output.dense",
        narrow_norm=f"{layer}.output.LayerNorm",
    )


BERT = Bert()
