"""What the status of an HTTP answer means for a question: ask again, give this one up, or end the run."""

import re

__all__ = ["PASSING", "is_final", "is_refusal", "may_be_billed", "means", "parameter_advice"]

# Worth another attempt: too early, too often, or a server's own trouble, which may pass.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
_REFUSALS = frozenset({400, 422, 451})  # of this question; others may be answered
_SPENT = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")  # of 429: no pause helps
_MODERATED = (b"moderation", b"flagged", b"content_filter", b"content_policy")  # of 403: this text, not the account
_MEANS = {
    401: "the server does not know this key: look at --key-env and --key-header",
    402: "the account has nothing left: no pause helps",
    403: "the server knows who asks and does not allow it: this key has no right to the model or to what was asked of "
    "it, or not from this place; asking again changes nothing",
    404: "there is no such model or path: look at --model",
}


def is_refusal(status: int, body: bytes) -> bool:
    """Whether the server will not answer this question, and may answer others.

    HTTP 403 is one where a gateway says that it had the text looked at.
    """
    return status in _REFUSALS or (status == 403 and any(word in body.lower() for word in _MODERATED))


def is_final(status: int, body: bytes) -> bool:
    """Whether a failure that looks passing is none: the account has nothing left."""
    return status == 429 and any(_quoted(word).search(body) for word in _SPENT)


def _quoted(word: str) -> re.Pattern[bytes]:
    """A word in quotes, also where a gateway repeats another server's error as text, in JSON's or Python's quotes."""
    return re.compile(rb"""["']%b\\*["']""" % word.encode())


def may_be_billed(status: int) -> bool:
    """Whether a server that failed may have done its work: the answer was filtered away (Azure says so), or late."""
    return status in _REFUSALS | {408, 502, 504}


def means(status: int) -> str:
    """What a status that is not repeated means for whoever asked, to be put behind the server's words; or ""."""
    return f". That is: {_MEANS[status]}" if status in _MEANS else ""


# A parameter in the words of a refusal, which is no entry of a request that the server repeats.
_NAMED = r"(?<![\w-]){}(?![\w-])(?![\"']?\s*:\s*(?:\d|true|false|null))"
_FEWER = "That is no fault of the text: ask for fewer, with --top-logprobs"
_NONE = (
    "That is no fault of the text: the model gives no log-probabilities, or not so many. Ask for fewer, with "
    "--top-logprobs; or learn from its answers alone, with --answers labels --loss error (and --answer-tokens 2000 of "
    "a reasoning model)"
)
_ADVICE = {re.compile(_NAMED.format("top_logprobs")): _FEWER, re.compile(_NAMED.format("logprobs")): _NONE}


def parameter_advice(refusal: str) -> str:
    """What to do where a refusal is about what is asked of every text, not about this one; or ""."""
    return next((advice for named, advice in _ADVICE.items() if named.search(refusal)), "")
