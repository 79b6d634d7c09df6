"""Where a server is, and how it is talked to."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from zopog_models.errors import SetupError

__all__ = ["UNIX", "Wire", "split_address"]

UNIX = "http+unix"  # http+unix://%2Frun%2Fmodel.sock/v1: a socket of this machine, its path quoted


_QUERY = re.compile(r"[A-Za-z0-9._~%+-]+=[A-Za-z0-9._~%+-]*")

_SECRET = re.compile(r"(?i)(api[-_]?|subscription[-_]?|access[-_]?)?(key|token)|secret|password|sig|signature|code")


@dataclass(frozen=True)
class Wire:
    """How to talk to a server. None of it changes a result. Raises ValueError.

    Parameters
        timeout: seconds for a whole answer, from the first packet of the connection to the last byte
        retries: further attempts of one request; 8 wait for a minute at least
        concurrency: requests under way at once
        key_variable: the environment variable that holds the key; default: no key
        key_header: which shows it; default Authorization, as a bearer token. Azure's is api-key
        headers_env: further headers, "HEADER=VARIABLE" each, of variables of the environment
        query: of every request, "NAME=VALUE" each, such as api-version=2024-10-21; no secrets: it is kept
        allow_http: a key may go over http to another machine
        rpm, tpm: requests and tokens a minute at most; default: what the server's own headers say
        price_in, price_out: US dollars for a million tokens that are read, and written
        budget_usd: at most so many US dollars; needs the prices
        cache: a folder of answers that are not asked for again, whatever run asked; default: none
        max_bytes: of an answer; default 64 MiB
        refused_share: of texts that a completions endpoint may refuse, as by a filter, before it is an error
    """

    timeout: float = 60.0
    retries: int = 8
    concurrency: int = 4
    key_variable: str | None = None
    key_header: str = "Authorization"
    headers_env: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    allow_http: bool = False
    rpm: float | None = None
    tpm: float | None = None
    price_in: float | None = None
    price_out: float | None = None
    budget_usd: float | None = None
    cache: Path | None = None
    max_bytes: int = 64 * 2**20
    refused_share: float = 0.05

    def __post_init__(self) -> None:
        for name in ("headers_env", "query"):  # lists where a command line gathered them
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not 0 < self.timeout < float("inf"):
            raise ValueError(f"timeout is {self.timeout}; it must be a positive number of seconds")
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}; it must be 0 or more")
        if not 0 <= self.refused_share <= 1:
            raise ValueError(f"refused-share is {self.refused_share}; it must lie between 0 and 1")
        if self.concurrency < 1:
            raise ValueError(f"concurrency is {self.concurrency}; it must be at least 1")
        if not all(map(_QUERY.fullmatch, self.query)):
            raise ValueError(
                "query: expected NAME=VALUE, quoted as in a URL (what was given is not shown: it may hold a key)"
            )
        if secret := [name for part in self.query if _SECRET.fullmatch(name := part.partition("=")[0])]:
            raise ValueError(
                f"query has {secret[0]!r:.40}, and it is kept in the run folder: show a key with key-header"
            )
        if (self.price_in is None) != (self.price_out is None):
            raise ValueError("price-in and price-out go together: say both")


def split_address(url: str) -> SplitResult:
    """The parts of an http or https address. Raises SetupError, for one that holds a password or a query too."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https", UNIX) and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        parts, usable = SplitResult("", "", url, "", ""), False
    if "@" in parts.netloc + parts.path or "?" in url:  # whatever else is wrong with it: the message shows no password
        raise SetupError(
            "the address holds a user, a password or a query, and it is kept in the run folder: leave them out, and "
            "put a key into an environment variable"
        )
    if not usable:
        raise SetupError(f"{url!r} is no address; expected http://host:port/...")
    return parts
