"""The pace of requests to one server: as many a minute as were allowed, in requests and in tokens.

A limit is kept as a bucket that fills evenly and holds a tenth of a minute's worth (one request at least): a burst of a
whole minute's requests is what most servers refuse. What a server says of its own limits (`x-ratelimit-*`,
`anthropic-ratelimit-*`) is kept as a pause until it has something left. Everybody in this process who asks one server
with one key has one pace, and who waits for a pause to end does not come back at the same moment as all others.
"""

import math
import random
import re
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from datetime import datetime

__all__ = ["Pace", "asked_pause", "pause_until_reset", "seconds_of", "shared_pace"]

SPREAD, LONGEST_SPREAD = 0.25, 15.0  # of a pause that many wait for, and seconds: so much later may one come back

_HELD = 6.0  # seconds' worth that a bucket holds
_A_DATE = 1e9  # seconds: more is a point in time, counted from 1970
_NUMBER = r"\d{1,15}(?:\.\d+)?"
_PART = re.compile(rf"({_NUMBER})(ms|s|m|h|d)")
# What is left, and when there is more: OpenAI's headers, and Anthropic's.
_LIMITS = [
    *((f"x-ratelimit-remaining-{kind}", f"x-ratelimit-reset-{kind}") for kind in ("requests", "tokens")),
    *(
        (f"anthropic-ratelimit-{kind}-remaining", f"anthropic-ratelimit-{kind}-reset")
        for kind in ("requests", "tokens", "input-tokens", "output-tokens")
    ),
]
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class _Bucket:
    def __init__(self, a_minute: float, now: float) -> None:
        self.rate = a_minute / 60.0
        self.held = max(1.0, self.rate * _HELD)
        self.level, self.then = self.held, now

    def take(self, amount: float, now: float) -> float:
        """Take it, now or in advance, and the seconds until it is there."""
        self.level = min(self.held, self.level + (now - self.then) * self.rate) - amount
        self.then = now
        return max(0.0, -self.level / self.rate)


class Pace:
    """Limits of one server. Safe to use from several threads.

    rpm, tpm: requests and tokens a minute; None: no limit. Raises ValueError for one that is not positive.
    """

    def __init__(self, rpm: float | None, tpm: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        for name, limit in (("rpm", rpm), ("tpm", tpm)):
            if limit is not None and not 0 < limit < math.inf:
                raise ValueError(f"{name} is {limit}; it must be a positive number")
        self._clock, self._lock = clock, threading.Lock()
        self._requests = None if rpm is None else _Bucket(rpm, clock())
        self._tokens = None if tpm is None else _Bucket(tpm, clock())
        self._jitter = random.Random()
        self._held_from = self._held_until = 0.0  # a pause that the server asked for

    def hold(self, seconds: float) -> bool:
        """Nothing leaves for so long. Whether that is more than two seconds longer than was known."""
        with self._lock:
            now = self._clock()
            news = now + seconds > max(now, self._held_until) + 2
            if now + seconds > self._held_until:
                self._held_from, self._held_until = now, now + seconds
            return news

    def held(self) -> float:
        """Seconds until the pause is over, and a random part of it on top; 0 where there is none."""
        with self._lock:
            left = self._held_until - self._clock()
            if left <= 0:
                return 0.0
            whole = self._held_until - self._held_from
            return left + self._jitter.uniform(0, min(SPREAD * whole, LONGEST_SPREAD))

    def wait(self, tokens: float) -> float:
        """Seconds until a request of so many tokens may leave. It is taken as sent then."""
        with self._lock:
            now = self._clock()
            pairs = ((self._requests, 1.0), (self._tokens, tokens))
            return max((bucket.take(amount, now) for bucket, amount in pairs if bucket is not None), default=0.0)


_SHARED: weakref.WeakValueDictionary[tuple[object, ...], Pace] = weakref.WeakValueDictionary()
_SHARED_LOCK = threading.Lock()


def shared_pace(rpm: float | None, tpm: float | None, *account: object) -> Pace:
    """The one pace of all who ask this account (a server, a key's variable) with these limits. Raises as `Pace`."""
    with _SHARED_LOCK:
        pace = _SHARED.get((rpm, tpm, *account))
        if pace is None:
            pace = _SHARED[rpm, tpm, *account] = Pace(rpm, tpm)
        return pace


def seconds_of(text: str) -> float | None:
    """Of "1s", "6m0s", "20ms", "1.5": seconds; None of anything else."""
    text = text.strip().lower()
    parts = _PART.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    return float(text) if re.fullmatch(_NUMBER, text) else None


def pause_until_reset(headers: Mapping[str, str]) -> float:
    """Seconds until the server has requests and tokens left, as its headers (names in lower case) say; 0 if it has."""
    pauses = [0.0]
    for remaining, reset in _LIMITS:
        left, until = headers.get(remaining), headers.get(reset)
        if left is not None and until is not None and left.strip() in ("0", "0.0"):
            pauses.append(_until(until))
    return max(pauses)


def _until(text: str) -> float:
    """Seconds until what is written as a time to wait, or as a date; 0 of anything else."""
    seconds = seconds_of(text)
    if seconds is not None:
        return seconds if seconds < _A_DATE else seconds - time.time()
    try:
        return datetime.fromisoformat(text.strip()).timestamp() - time.time()
    except (ValueError, OverflowError, OSError):
        return 0.0


def asked_pause(headers: Mapping[str, str]) -> float | None:
    """Seconds that a failure asks for, or None: Retry-After (a number, or a date), or finer in milliseconds."""
    text, fine = headers.get("retry-after"), headers.get("retry-after-ms")
    if fine is not None and (milliseconds := seconds_of(fine)) is not None:
        return milliseconds / 1000.0
    if text is None:
        return pause_until_reset(headers) or None
    if (seconds := seconds_of(text)) is not None:
        return seconds
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    try:
        return Retry().parse_retry_after(text)
    except (InvalidHeader, ValueError, OverflowError):  # a date of the year 99999 is a header that can be parsed
        return None
