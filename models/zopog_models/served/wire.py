"""Where a server is, how it is talked to, and the key that it is shown."""

import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from zopog_models.errors import SetupError

__all__ = ["Wire", "key_of", "split_address"]


@dataclass(frozen=True)
class Wire:
    """How to talk to a server. None of it changes a result. Raises ValueError.

    Parameters
        timeout: seconds for a whole answer, from the first packet of the connection to the last byte
        retries: further attempts of one request; 8 wait for a minute at least
        concurrency: requests under way at once
        key_variable: the environment variable that holds the key, which is sent as a bearer token; default: no key
        max_bytes: of an answer; default 64 MiB
        refused_share: of texts that a completions endpoint may refuse, as by a filter, before it is an error
    """

    timeout: float = 60.0
    retries: int = 8
    concurrency: int = 4
    key_variable: str | None = None
    max_bytes: int = 64 * 2**20
    refused_share: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.timeout < float("inf"):
            raise ValueError(f"timeout is {self.timeout}; it must be a positive number of seconds")
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}; it must be 0 or more")
        if not 0 <= self.refused_share <= 1:
            raise ValueError(f"refused-share is {self.refused_share}; it must lie between 0 and 1")
        if self.concurrency < 1:
            raise ValueError(f"concurrency is {self.concurrency}; it must be at least 1")


def split_address(url: str) -> SplitResult:
    """The parts of an http or https address. Raises SetupError, for one that holds a password or a query too."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        raise SetupError(f"{url!r} is no address; expected http://host:port/...") from None
    if parts.username is not None or parts.password is not None or parts.query:
        raise SetupError(
            "the address holds a user, a password or a query, and it is kept in the run folder: leave them out, and "
            "put a key into an environment variable"
        )
    if not usable:
        raise SetupError(f"{url!r} is no address; expected http://host:port/...")
    return parts


def key_of(parts: SplitResult, variable: str | None) -> str:
    """The key, or "". It goes over an encrypted connection, or to this machine itself, or nowhere."""
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise SetupError(f"the environment variable {variable} holds no key: set it, or leave the option out")
    if not key.isascii() or not key.isprintable():
        raise SetupError(f"the environment variable {variable} holds something that cannot be sent as a key")
    host = parts.hostname or ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if parts.scheme != "https" and not local:
        raise SetupError(f"a key is not sent to {host} over http, where anybody on the way can read it: use https")
    return key
