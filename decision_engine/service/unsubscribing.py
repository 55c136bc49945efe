"""`/unsubscribe/<token>`: leave a channel by one click in the mailbox (RFC 8058).

GET shows a page with a button and changes nothing, for scanners follow links. POST is the click,
from the mailbox or from the page: it is durable before it is answered, and binds the next send.
Neither needs a cookie, and neither redirects. 404 is for a token that we did not make.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime

from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from connectors.errors import ConfigurationError
from decision_engine.opt_outs import OptOut, opened
from decision_engine.service.app import Part, Receiver, body_of
from decision_engine.service.records import Webhook

MAX_BODY = 4096
SHORTEST_KEY = 16
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">
<title>Unsubscribe</title><body>{}</body></html>"""
_ASK = """<p>Do you want no more of these messages?</p>
<form method="post"><input type="hidden" name="List-Unsubscribe" value="One-Click">
<button>Unsubscribe</button></form>"""
_DONE = "<p>You are unsubscribed.</p>"
_NOT_OURS = "<p>This address is not complete. Copy it from the message once more.</p>"
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
}


class Unsubscribing(Part):
    """Takes opt-outs into the log. ConfigurationError for a key that is too short."""

    def __init__(self, receiver: Receiver, key: str, clock: Callable[[], datetime]) -> None:
        if len(key) < SHORTEST_KEY:
            raise ConfigurationError(
                f"the unsubscribe key is shorter than {SHORTEST_KEY} characters",
                "make one: openssl rand -hex 32",
            )
        self._receiver = receiver
        self._key = key
        self._clock = clock

    def routes(self) -> Sequence[BaseRoute]:
        """One address."""
        return (Route("/unsubscribe/{token}", self.answer, methods=["GET", "POST"]),)

    async def answer(self, request: Request) -> Response:
        """Show, or leave."""
        found = opened(request.path_params["token"], self._key)
        if found is None:
            return _page(_NOT_OURS, 404)
        if request.method != "POST":
            return _page(_ASK)
        try:
            await body_of(request, MAX_BODY)
        except ClientDisconnect:
            return _page(_ASK, 400)
        await self._receiver.commit([self._event(found, request.path_params["token"])])
        return _page(_DONE)

    def _event(self, found: OptOut, token: str) -> Webhook:
        """The same token is the same event, however often it is clicked."""
        now = self._clock().isoformat()
        return Webhook(
            event_id=hashlib.sha256(token.encode()).hexdigest(),
            vendor="nextmove",
            event_type="unsubscribe",
            external_id=found.external_id,
            email=None,
            channel=found.channel,
            campaign_id=None,
            message_ref=None,
            decision_id=found.decision_id,
            is_machine=False,
            occurred_at=now,
            received_at=now,
        )


def _page(content: str, status: int = 200) -> Response:
    return HTMLResponse(_PAGE.format(content), status, headers=_HEADERS)
