"""What is known of architectures that this package does not run: why, and what to do instead."""

_TWO_STACKS = (
    "it has two stacks, an encoder that reads and a decoder that answers, and the prompts here stand in one; take an "
    "encoder (ModernBERT, XLM-R) or a decoder (Qwen3, Gemma 3)"
)
_EXPERTS = "it is a mixture of experts; take a dense model of the same series"
_PICTURES = "it reads pictures too; take a text model of the same series"
_DEBERTA = (
    "its attention keeps words and distances apart, which is not computed here, and DeBERTa-v3 was trained to tell "
    "replaced tokens, so it scores no words; take ModernBERT or RoBERTa"
)
_REASONS = {
    **dict.fromkeys(("t5", "mt5", "umt5", "longt5", "switch_transformers", "bart", "mbart", "pegasus"), _TWO_STACKS),
    **dict.fromkeys(("mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss", "deepseek_v3", "olmoe"), _EXPERTS),
    **dict.fromkeys(("llava", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "mistral3", "mllama", "idefics3"), _PICTURES),
    **dict.fromkeys(("deberta", "deberta-v2"), _DEBERTA),
    "gemma3": f"{_PICTURES}: gemma-3-270m and gemma-3-1b are gemma3_text",
}
_ELSEWHERE = "a server that has it can be asked instead: --model completions+http://HOST/v1#NAME (docs/remote.md)"


def why_not(model_type: object) -> str:
    """The end of the message that refuses a model_type."""
    if not isinstance(model_type, str):
        return ""
    reason = _REASONS.get(model_type)
    return f". {reason[0].upper()}{reason[1:]}; or {_ELSEWHERE}" if reason else f"; {_ELSEWHERE}"
