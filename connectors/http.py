"""The one place that opens a connection to a vendor.

`Http.post` either returns the reply or says which of the two kinds of failure it was:
NotSentError when the vendor surely never got the request, UnknownOutcomeError when it may
have. Nothing here ever tries again by itself.

A server may close a kept-alive connection at the moment we use it. Whether it read the
request before it closed cannot be seen from here, so that is an unknown outcome. To make it
rare, a connection that lay idle for `IDLE_SECONDS` is not used again: common servers close
after 5 seconds or more, so between two calls of a busy run none is closed under us.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec
import requests
import urllib3
from requests.adapters import HTTPAdapter

from connectors.base import Reply, Request
from connectors.errors import ConfigurationError, NotSentError, UnknownOutcomeError

Sign = Callable[[Request, bytes], Mapping[str, str]]

MAX_BODY = 32 << 20
IDLE_SECONDS = 2.0
SHORTEST_KEY = 8
_CHUNK = 64 << 10


class Http:
    """Sends requests of one destination. Safe to use from several threads."""

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        secret: str = "",
        *,
        sign: Sign | None = None,
        connect_timeout: float = 5.0,
        read_timeout: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Timeouts are seconds; `read_timeout` also limits the whole answer.

        `secret` is blotted out of every body before anybody sees it. `sign` gives further
        headers for each call. Raises ConfigurationError for a URL or a key that cannot be used.
        """
        self._base_url = _checked_url(base_url)
        self._headers = _checked_headers(headers)
        # What is shorter is no real key, and would be found in words of the reply.
        self._secret = secret.encode() if len(secret) >= SHORTEST_KEY else b""
        self._sign = sign
        self._timeouts = connect_timeout, read_timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: list[tuple[float, requests.Session]] = []

    def __repr__(self) -> str:
        return f"Http({self._base_url})"

    def post(self, request: Request) -> Reply:
        """One call. Raises NotSentError or UnknownOutcomeError when there is no whole reply."""
        body = _body_of(request)
        signed = self._sign(request, body or b"") if self._sign else {}
        session = self._take()
        try:
            with session.request(
                request.method,
                self._base_url + request.path,
                data=body,
                headers={**self._headers, **request.headers, **signed},
                timeout=self._timeouts,
                allow_redirects=False,
                stream=True,
            ) as response:
                reply = self._reply(response)
        except requests.RequestException as error:
            session.close()
            raise _classified(error) from None
        except BaseException:
            session.close()
            raise
        self._give_back(session)
        return reply

    def _reply(self, response: requests.Response) -> Reply:
        deadline = self._clock() + self._timeouts[1]
        body = bytearray()
        for chunk in response.iter_content(_CHUNK):
            body += chunk
            if len(body) > MAX_BODY:
                raise UnknownOutcomeError(f"HTTP {response.status_code} with too large a body")
            if self._clock() > deadline:
                raise UnknownOutcomeError("the answer took too long")
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Reply(response.status_code, self._redacted(bytes(body)), headers)

    def _redacted(self, body: bytes) -> bytes:
        return body.replace(self._secret, b"***") if self._secret else body

    def _take(self) -> requests.Session:
        """A session whose only connection was used a moment ago, or a new one."""
        with self._lock:
            while self._idle:
                used_at, session = self._idle.pop()
                if self._clock() - used_at < IDLE_SECONDS:
                    return session
                session.close()
        return _new_session()

    def _give_back(self, session: requests.Session) -> None:
        with self._lock:
            self._idle.append((self._clock(), session))

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            while self._idle:
                self._idle.pop()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _body_of(request: Request) -> bytes | None:
    if request.body is not None:
        return request.body
    return None if request.json is None else msgspec.json.encode(request.json)


def _new_session() -> requests.Session:
    session = requests.Session()
    adapter = HTTPAdapter(pool_connections=1, pool_maxsize=1, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.auth = _keep_headers
    session.headers = requests.structures.CaseInsensitiveDict(
        {
            "User-Agent": "nextmove",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
        }
    )
    return session


def _keep_headers(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Auth that does nothing: without one, a ~/.netrc entry would replace our key."""
    return request


def _classified(error: requests.RequestException) -> NotSentError | UnknownOutcomeError:
    """Which kind of failure it was. The text has no URL, header or body."""
    if isinstance(error, requests.exceptions.ProxyError):
        return NotSentError("the proxy could not be reached")
    if isinstance(error, requests.ConnectTimeout):
        return NotSentError("no connection in time")
    cause = _root(error)
    if isinstance(cause, urllib3.exceptions.NameResolutionError):
        return NotSentError("the host name is not known")
    if isinstance(cause, urllib3.exceptions.NewConnectionError):
        return NotSentError("connection refused")
    if isinstance(cause, ssl.SSLCertVerificationError):
        return NotSentError("the server's certificate is not valid")
    if isinstance(error, ValueError):
        return NotSentError("the address cannot be used")
    if isinstance(error, requests.Timeout):
        return UnknownOutcomeError("no answer in time")
    return UnknownOutcomeError("the connection broke before the answer was whole")


def _root(error: BaseException) -> object:
    """What urllib3 or ssl raised, inside of what requests made of it."""
    cause: Any = error.args[0] if error.args else error
    cause = getattr(cause, "reason", None) or cause
    if isinstance(cause, urllib3.exceptions.SSLError) and cause.args:
        return cause.args[0]
    return cause


def _checked_url(url: str) -> str:
    """The URL without a trailing slash. Keys travel on it, so plain http only stays at home."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"`url` {parts.scheme or 'without scheme'} is not https")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigurationError("`url` must be scheme, host and path only")
    if _is_nowhere(parts.hostname):
        raise ConfigurationError("`url` is no address of a vendor", "give the host by its name")
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise ConfigurationError("`url` must be https", "plain http is for this machine only")
    return url.rstrip("/")


def _is_nowhere(host: str) -> bool:
    """Whether it is a number instead of a name, or an address of a machine's own services only.

    One of those hands out the credentials of a cloud.
    """
    try:
        address = ip_address(host)
    except ValueError:
        last = host.rstrip(".").rpartition(".")[2]
        return last.isdigit() or last.lower().startswith("0x")
    address = getattr(address, "ipv4_mapped", None) or address
    return (
        address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or (address.is_reserved and not address.is_loopback)
    )


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not value.isascii() or not value.isprintable() or value != value.strip():
            raise ConfigurationError(
                f"the key for header {name} has characters that no key has",
                "look for a line break or a space in the environment variable",
            )
    return dict(headers)
