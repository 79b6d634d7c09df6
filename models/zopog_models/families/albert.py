"""ALBERT (Lan et al., 2020, arXiv:1909.11942).

Two savings: embeddings of width E are mapped to D (factorised embeddings), and all layers of a group share their
weights (in every published model there is one group, so one layer applied `layers` times). The head maps D back to E.
Groups stand in order: layer i of L belongs to group ⌊i · groups / L⌋.
"""

from dataclasses import replace

from zopog_models.families.bert import Bert, bert_embeddings
from zopog_models.families.encoder import EmbeddingNames, EncoderArchitecture, HeadNames, LayerNames, check_layers
from zopog_models.families.family import Config


class Albert(Bert):
    """albert/albert-base-v2 and its like."""

    name = "albert"
    title = "ALBERT"
    special_tokens = {"mask": "[MASK]", "pad": "<pad>", "cls": "[CLS]", "sep": "[SEP]"}  # noqa: RUF012  never changed
    prefix = "albert"
    unused = r"sop_classifier\..*"  # sentence-order prediction

    def read(self, config: Config) -> EncoderArchitecture:
        values = {"hidden_act": "gelu_new"} | dict(config.values)
        bert = super().read(replace(config, values=values))
        groups, inner = config.size("num_hidden_groups", 1), config.size("inner_group_num", 1)
        check_layers(config, "inner_group_num", bert.layers * inner)
        return replace(
            bert,
            embedding_size=config.size("embedding_size", 128),
            layers=bert.layers * inner,
            groups=groups,
            group_layers=inner,
        )

    def embedding_names(self, a: EncoderArchitecture) -> EmbeddingNames:
        projection = f"{self.prefix}.encoder.embedding_hidden_mapping_in"
        return bert_embeddings(self.prefix)._replace(projection=projection)

    def layer_names(self, a: EncoderArchitecture, i: int) -> LayerNames:
        outer, inner = divmod(i, a.group_layers)
        group = outer * a.groups // (a.layers // a.group_layers)
        layer = f"{self.prefix}.encoder.albert_layer_groups.{group}.albert_layers.{inner}"
        return LayerNames(
            query=f"{layer}.attention.query",
            key=f"{layer}.attention.key",
            value=f"{layer}.attention.value",
            attended=f"{layer}.attention.dense",
            attended_norm=f"{layer}.attention.LayerNorm",
            wide=f"{layer}.ffn",
            narrow=f"{layer}.ffn_output",
            narrow_norm=f"{layer}.full_layer_layer_norm",
        )

    def head_names(self, a: EncoderArchitecture) -> HeadNames:
        return HeadNames("predictions.dense", "predictions.LayerNorm", "predictions.decoder.weight", "predictions.bias")


ALBERT = Albert()
