"""The architectures this package can run, one file each: what config.json says, and which tensors there must be."""

from zopog_models.errors import CheckpointError
from zopog_models.families.albert import ALBERT
from zopog_models.families.bert import BERT
from zopog_models.families.distilbert import DISTILBERT
from zopog_models.families.electra import ELECTRA
from zopog_models.families.family import Architecture, Config, Family
from zopog_models.families.gemma3 import GEMMA3
from zopog_models.families.gpt2 import GPT2
from zopog_models.families.gpt_neox import GPT_NEOX
from zopog_models.families.llama import LLAMA, QWEN2
from zopog_models.families.mistral import MISTRAL
from zopog_models.families.modernbert import MODERNBERT
from zopog_models.families.mpnet import MPNET
from zopog_models.families.opt import OPT
from zopog_models.families.phi3 import PHI3
from zopog_models.families.qwen3 import QWEN3
from zopog_models.families.roberta import ROBERTA
from zopog_models.families.smollm3 import SMOLLM3
from zopog_models.families.unsupported import why_not
from zopog_models.families.xlm_roberta import CAMEMBERT, XLM_ROBERTA
from zopog_models.files.quoting import quoted

__all__ = ["FAMILIES", "Architecture", "CheckpointError", "Config", "Family", "family_of"]

_ENCODERS: tuple[Family, ...] = (BERT, ROBERTA, XLM_ROBERTA, CAMEMBERT, DISTILBERT, ELECTRA, ALBERT, MPNET, MODERNBERT)
_DECODERS: tuple[Family, ...] = (GPT2, GPT_NEOX, OPT, LLAMA, MISTRAL, QWEN2, QWEN3, SMOLLM3, GEMMA3, PHI3)
FAMILIES: dict[str, Family] = {family.name: family for family in _ENCODERS + _DECODERS}


def family_of(config: Config) -> Family:
    """The family that config.json names under model_type. Raises CheckpointError naming an unknown one."""
    name = config.values.get("model_type")
    if not isinstance(name, str) or name not in FAMILIES:
        raise CheckpointError(
            f"{config.path}: model_type {quoted(name)} is not supported; supported: {', '.join(FAMILIES)}"
            f"{why_not(name)}"
        )
    return FAMILIES[name]
