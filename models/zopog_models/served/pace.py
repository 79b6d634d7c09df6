"""The pace of requests to one server: as many a minute as were allowed, in requests and in tokens.

A limit is kept as a bucket that fills evenly and holds a tenth of a minute's worth (one request at least): a burst of a
whole minute's requests is what most servers refuse. What a server says of its own limits (`x-ratelimit-*`) is kept as a
pause until it has something left.
"""

import math
import re
import threading
import time
from collections.abc import Callable, Mapping

__all__ = ["Pace", "asked_pause", "pause_until_reset", "seconds_of"]

_HELD = 6.0  # seconds' worth that a bucket holds
_A_DATE = 1e9  # seconds: more is a point in time, counted from 1970
_NUMBER = r"\d{1,15}(?:\.\d+)?"
_PART = re.compile(rf"({_NUMBER})(ms|s|m|h|d)")
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

    def wait(self, tokens: float) -> float:
        """Seconds until a request of so many tokens may leave. It is taken as sent then."""
        with self._lock:
            now = self._clock()
            pairs = ((self._requests, 1.0), (self._tokens, tokens))
            return max((bucket.take(amount, now) for bucket, amount in pairs if bucket is not None), default=0.0)


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
    for kind in ("requests", "tokens"):
        left, reset = (headers.get(f"x-ratelimit-{what}-{kind}") for what in ("remaining", "reset"))
        if left is not None and reset is not None and left.strip() in ("0", "0.0"):
            seconds = seconds_of(reset) or 0.0
            pauses.append(seconds if seconds < _A_DATE else seconds - time.time())
    return max(pauses)


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
