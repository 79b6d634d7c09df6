"""What real APIs refuse, in their own words: unknown parameters, too many log-probabilities, what reasoning models lack."""

from typing import Any

COMMON = {"model", "temperature", "seed", "top_p", "stop", "stream", "user", "metadata"}
KNOWN = {
    "/v1/completions": COMMON | {"prompt", "max_tokens", "logprobs", "n", "echo", "suffix", "best_of"},
    "/v1/chat/completions": COMMON | {"messages", "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs", "n"},
    "/v1/responses": (COMMON - {"seed", "stop"}) | {"input", "max_output_tokens", "include", "top_logprobs", "instructions"},
    "/v1/messages": (COMMON - {"seed", "stop", "user"}) | {"messages", "max_tokens", "system", "stop_sequences", "top_k"},
    "/exact/v1/completions": COMMON
    | {"prompt", "prompt_embeds", "max_tokens", "logprobs", "logprob_token_ids", "return_tokens_as_token_ids"},
    "/generate": {
        "input_ids", "input_embeds", "text", "sampling_params", "return_logprob", "token_ids_logprob",
        "logprob_start_len", "top_logprobs_num", "rid",
    },
}  # fmt: skip


def why_not(path: str, request: dict[str, Any], *, most: int | None = None, reasoning: bool = False) -> str | None:
    """The words of the refusal, or None. most: log-probabilities; reasoning: as OpenAI's reasoning models.

    Every double refuses unknown parameters; what `most` and `reasoning` say, only where a test asks for it.
    """
    unknown = sorted(request.keys() - KNOWN[path])
    if unknown:
        return f"Unrecognized request argument supplied: {unknown[0]}"
    if path == "/v1/messages" and "max_tokens" not in request:
        return "max_tokens: Field required"
    if path == "/v1/chat/completions" and "top_logprobs" in request and request.get("logprobs") is not True:
        return "Invalid value for 'top_logprobs': 'logprobs' must be set to true when 'top_logprobs' is set."
    asked = request.get("top_logprobs", 0)
    if most is not None and asked > most:
        return (
            f"Invalid 'top_logprobs': integer above maximum value. Expected a value <= {most}, but got {asked} instead."
        )
    if not reasoning:
        return None
    if "max_tokens" in request:
        return (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
    if request.get("temperature", 1) != 1:
        return "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported."
    if "logprobs" in request or request.get("include"):
        return "Unsupported parameter: 'logprobs' is not supported with this model."
    return None
