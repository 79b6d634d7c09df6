"""How a server is reached: the headers that show a key, the query, a proxy, whose certificates are trusted, a socket.

A secret is read from the environment variable that somebody names, and goes over an encrypted connection, through a
socket of this machine, to this machine itself, or nowhere, unless `allow_http` says that it is meant. The proxy and the
certificates are those of the usual variables: HTTPS_PROXY, HTTP_PROXY, NO_PROXY; SSL_CERT_FILE, REQUESTS_CA_BUNDLE.
"""

import ipaddress
import os
import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from zopog_models.errors import ProviderError, SetupError
from zopog_models.served.exchange import open_pool
from zopog_models.served.secrets import Secrets
from zopog_models.served.wire import UNIX, Wire, split_address

__all__ = ["Reach"]

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_SHOWN = re.compile(r"[A-Z_][A-Z0-9_]{,40}")  # what is surely a name and no key
_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class Reach(NamedTuple):
    """url: of requests; query: behind every path, with its "?"; pool: urllib3's; longest: characters of a secret."""

    url: str
    query: str
    headers: dict[str, str]
    secrets: Secrets
    longest: int
    pool: Any

    @classmethod
    def of(cls, url: str, wire: Wire) -> "Reach":
        """To a server's address. Raises SetupError (an address, a variable) and ProviderError (urllib3 is missing)."""
        parts = split_address(url)
        headers, hidden = _headers(parts, wire)
        socket = unquote(parts.netloc) if parts.scheme == UNIX else None
        proxy = None if socket else _proxy(parts)
        hidden += [] if proxy is None else [unquote(proxy.password or "")]
        bundle = next((os.environ[name] for name in _BUNDLES if os.environ.get(name)), None)
        if bundle is not None and not Path(bundle).exists():
            raise SetupError(f"the certificates that the environment names are not there: {bundle}")
        try:
            pool = open_pool(wire.concurrency, proxy=proxy, certificates=bundle, socket_path=socket)
        except ImportError as error:
            raise ProviderError(f'a served model needs urllib3 ({error}): pip install "urllib3>=2.7"') from error
        address = url.rstrip("/") if socket is None else "http://localhost" + parts.path.rstrip("/")
        query = "?" + "&".join(wire.query) if wire.query else ""
        return cls(address, query, headers, Secrets(*hidden), max(map(len, hidden), default=0), pool)


def _headers(parts: SplitResult, wire: Wire) -> tuple[dict[str, str], list[str]]:
    """Headers of every request, and the secrets among them."""
    named = [text.partition("=")[::2] for text in wire.headers_env]
    if wire.key_variable is not None:
        named.append((wire.key_header, wire.key_variable))
    headers: dict[str, str] = {}
    hidden: list[str] = []
    for header, variable in named:
        if not _NAME.fullmatch(header) or not variable:
            raise SetupError(
                "--header-env: expected HEADER=VARIABLE, of --key-header the name of a header (what was given is not "
                "shown: it may hold the key itself)"
            )
        secret = _secret(parts, variable, wire.allow_http)
        if header.lower() in map(str.lower, headers):
            raise SetupError(f"the header {header!r} is given twice; leave one of the two out")
        headers[header] = f"Bearer {secret}" if header.lower() == "authorization" and " " not in secret else secret
        hidden += {secret, secret.rpartition(" ")[2]}
    return headers, hidden


def _secret(parts: SplitResult, variable: str, allow_http: bool) -> str:
    secret = os.environ.get(variable, "").strip()
    if not secret and not _SHOWN.fullmatch(variable):
        raise SetupError(
            "--key-env and --header-env take the name of an environment variable, and there is none of the name that "
            "was given (it is not shown: it may be the key itself): put the key into a variable, and give its name"
        )
    if not secret:
        raise SetupError(f"the environment variable {variable} holds no key: set it, or leave the option out")
    if not secret.isascii() or not secret.isprintable():
        raise SetupError(f"the environment variable {variable} holds something that cannot be sent as a key")
    host = parts.hostname or ""
    try:
        local = parts.scheme == UNIX or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if parts.scheme == "http" and not local and not allow_http:
        raise SetupError(
            f"a key is not sent to {host} over http, where anybody on the way can read it: use https, or say "
            "--allow-http where the way is yours, as inside a cluster"
        )
    return secret


def _proxy(parts: SplitResult) -> SplitResult | None:
    """What the environment says of this host."""
    found = getproxies().get(parts.scheme)
    host = parts.hostname or ""
    if not found or host == "localhost" or proxy_bypass(host):
        return None
    try:
        if ipaddress.ip_address(host).is_loopback:
            return None
    except ValueError:
        pass
    try:
        proxy = urlsplit(found if "://" in found else f"http://{found}")
        usable = proxy.scheme in ("http", "https") and bool(proxy.hostname) and (proxy.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or proxy.path.strip("/") or proxy.query or proxy.fragment:  # a password with a / or # in it
        raise SetupError(
            f"the proxy of {parts.scheme.upper()}_PROXY is no address of http or https: unset it, or mend it; "
            "signs of a password are quoted (%2F)"
        )
    return proxy
