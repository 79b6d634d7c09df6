"""XLM-R (Conneau et al., 2020, arXiv:1911.02116) and CamemBERT (Martin et al., 2020, arXiv:1911.03894).

RoBERTa's network and RoBERTa's names, trained on other texts: a hundred languages, and French.
"""

from zopog_models.families.roberta import Roberta


class XlmRoberta(Roberta):
    """FacebookAI/xlm-roberta-base, intfloat/multilingual-e5-base and their like."""

    name = "xlm-roberta"
    title = "XLM-R"


class Camembert(Roberta):
    """almanach/camembert-base and its like."""

    name = "camembert"
    title = "CamemBERT"


XLM_ROBERTA = XlmRoberta()
CAMEMBERT = Camembert()
