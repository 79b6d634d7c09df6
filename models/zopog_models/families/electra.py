"""ELECTRA's generator (Clark et al., 2020, arXiv:2003.10555).

BERT with word embeddings narrower than its layers: the embeddings, normalised at width E, go through a linear map to D
where E ≠ D, and the head goes back to E, so that the output matrix is the embedding table. The head's activation is
gelu. The discriminator, which tells real tokens from replaced ones, scores no words and cannot be prompted.
"""

from dataclasses import replace

from zopog_models.families.bert import Bert, bert_embeddings
from zopog_models.families.encoder import EmbeddingNames, EncoderArchitecture, HeadNames
from zopog_models.families.family import Config


class Electra(Bert):
    """google/electra-small-generator and its like."""

    name = "electra"
    title = "ELECTRA generator"
    prefix = "electra"
    unused = r"discriminator_predictions\..*"

    def read(self, config: Config) -> EncoderArchitecture:
        width = config.size("embedding_size", 128)
        return replace(super().read(config), embedding_size=width, head_activation="gelu")

    def embedding_names(self, a: EncoderArchitecture) -> EmbeddingNames:
        projection = f"{self.prefix}.embeddings_project" if a.embedding_size != a.hidden_size else None
        return bert_embeddings(self.prefix)._replace(projection=projection)

    def head_names(self, a: EncoderArchitecture) -> HeadNames:
        return HeadNames(
            "generator_predictions.dense",
            "generator_predictions.LayerNorm",
            "generator_lm_head.weight",
            "generator_lm_head.bias",
        )

    def missing_hint(self, missing: list[str]) -> str:
        hint = super().missing_hint(missing)
        return hint and f"{hint[:-1]}; of ELECTRA only the generator has one)"


ELECTRA = Electra()
