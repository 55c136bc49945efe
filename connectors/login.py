"""Access tokens that end: asked for before the first call, and again when one is refused."""

from __future__ import annotations

import threading

from connectors.base import LoggingIn, Reply, Request
from connectors.errors import NotSentError, UnknownOutcomeError
from connectors.http import Http

_REFUSED = 401
_BAD_CLIENT = (400, 401, 403)


class LoggedIn:
    """Sends requests with a token that it gets by `api_key`. Safe to use from several threads.

    A call that is refused with 401 was not carried out, so it goes once more with a new token.
    """

    def __init__(self, destination: LoggingIn, url: str, api_key: str) -> None:
        """Raises ConfigurationError for a bad URL or key."""
        self._destination = destination
        self._url = url
        self._login = destination.login(api_key)
        self._door = Http(url, {}, api_key.rpartition(":")[2])
        self._turn = threading.Lock()
        self._inside: Http | None = None

    def post(self, request: Request) -> Reply:
        """One call. Raises NotSentError or UnknownOutcomeError when there is no whole reply."""
        way = self._enter()
        if isinstance(way, Reply):
            return way
        reply = way.post(request)
        if reply.status != _REFUSED:
            return reply
        self._leave(way)
        again = self._enter()
        return again if isinstance(again, Reply) else again.post(request)

    def _enter(self) -> Http | Reply:
        """The way with a token; the refusal, as a 401, when there is none to be had."""
        with self._turn:
            if self._inside is not None:
                return self._inside
            try:
                reply = self._door.post(self._login)
            except UnknownOutcomeError as error:
                raise NotSentError(f"no access token: {error}") from None
            if reply.status in _BAD_CLIENT:
                return Reply(_REFUSED, reply.body, reply.headers)
            token = self._destination.token(reply)
            if token is None:
                raise NotSentError(f"no access token: HTTP {reply.status}")
            self._inside = Http(self._url, self._destination.headers(token), token)
            return self._inside

    def _leave(self, way: Http) -> None:
        """Forget a token that was refused, unless somebody has a newer one already."""
        with self._turn:
            if self._inside is way:
                self._inside = None

    def close(self) -> None:
        """Close all connections."""
        self._door.close()
        if self._inside is not None:
            self._inside.close()
