"""RoBERTa (Liu et al., 2019, arXiv:1907.11692), and DistilRoBERTa, which is a RoBERTa of six layers.

BERT's network with another training, so another tokenizer, and three small differences: position ids count from
padding_idx + 1, there is one token type, and the head's activation is gelu whatever the configuration says.
"""

from dataclasses import replace

from zopog_models.errors import CheckpointError
from zopog_models.families.bert import Bert
from zopog_models.families.encoder import EncoderArchitecture, HeadNames
from zopog_models.families.family import Config


class Roberta(Bert):
    """FacebookAI/roberta-base, roberta-large, distilbert/distilroberta-base and their like."""

    name = "roberta"
    title = "RoBERTa, DistilRoBERTa"
    special_tokens = {"mask": "<mask>", "pad": "<pad>", "cls": "<s>", "sep": "</s>"}  # noqa: RUF012  never changed
    prefix = "roberta"
    unused = ""

    def read(self, config: Config) -> EncoderArchitecture:
        bert, first = super().read(config), config.token("pad_token_id", 1) + 1
        if bert.max_position_rows <= first:
            raise CheckpointError(f"{config.path}: max_position_embeddings {bert.max_position_rows} leaves no position")
        return replace(bert, first_position=first, head_activation="gelu")

    def head_names(self, a: EncoderArchitecture) -> HeadNames:
        return HeadNames("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder.weight", "lm_head.bias")


ROBERTA = Roberta()
