"""`POST /webhooks/<vendor>`: what ESPs tell of their messages.

200 {"accepted": n}, 400 body not understood, 401 wrong token or signature or one too old, 404
vendor not set up, 413 body over 1 MiB, 503 the log cannot be written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from prometheus_client import Counter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from connectors.errors import ConfigurationError
from connectors.inbound import VENDORS, Call, self_test
from decision_engine.service.app import LogUnavailableError, Part, Receiver, body_of
from decision_engine.service.records import Webhook

MAX_BODY = 1 << 20
LONGEST = 2048
"""Characters of an id, an address or a name."""


class Webhooks(Part):
    """Checks, parses and stores webhook calls.

    `secrets` has what each vendor's calls are checked with: one secret or, while it is changed,
    several, one a line, which no header can hold. A vendor without any is not served.
    `public_url` is where the vendors find us. Raises ConfigurationError for a vendor that sends no
    webhooks, or whose check does not work here.
    """

    def __init__(
        self, receiver: Receiver, secrets: Mapping[str, str], public_url: str = ""
    ) -> None:
        self._secrets = {vendor: given.split("\n") for vendor, given in secrets.items()}
        unknown = [v for v, given in self._secrets.items() if v not in VENDORS or "" in given]
        if unknown:
            raise ConfigurationError(
                f"webhooks cannot be received from {', '.join(unknown)}",
                f"give a token, and only for {', '.join(VENDORS)}",
            )
        for vendor in secrets:
            self_test(vendor)
            if VENDORS[vendor].needs_url and not public_url:
                raise ConfigurationError(
                    f"{vendor} signs the address that it calls",
                    "give it as `public_url` under `service`",
                )
        self._receiver = receiver
        self._public_url = public_url.rstrip("/")
        self._requests = Counter(
            "nextmove_webhook_requests_total",
            "Webhook calls by vendor and answer.",
            ["vendor", "status"],
            registry=receiver.metrics,
        )
        self._events = Counter(
            "nextmove_webhook_events_total",
            "Webhook events stored durably by vendor.",
            ["vendor"],
            registry=receiver.metrics,
        )

    def routes(self) -> Sequence[BaseRoute]:
        """One route for all vendors."""
        return (Route("/webhooks/{vendor}", self.webhook, methods=["POST"]),)

    async def webhook(self, request: Request) -> Response:
        """Take in one call."""
        vendor = request.path_params["vendor"]
        known = vendor if vendor in self._secrets else "unknown"
        try:
            status, answer = await self._take(known, request)
        except LogUnavailableError:
            self._requests.labels(known, "503").inc()
            raise
        self._requests.labels(known, str(status)).inc()
        return JSONResponse(answer, status)

    async def _take(self, vendor: str, request: Request) -> tuple[int, dict[str, Any]]:
        if vendor not in self._secrets:
            return 404, {"error": "no such vendor"}
        try:
            body = await body_of(request, MAX_BODY)
        except ClientDisconnect:
            return 400, {"error": "the connection ended before the body did"}
        if body is None:
            return 413, {"error": f"the body is larger than {MAX_BODY} bytes"}
        url = f"{self._public_url}/webhooks/{vendor}"
        call = Call(body, request.headers, datetime.now(UTC), url)
        if not any(VENDORS[vendor].verify(call, secret) for secret in self._secrets[vendor]):
            return 401, {"error": "unauthorized"}
        try:
            records = [_record(e) for e in VENDORS[vendor].parse(call)]
        except ValueError:
            return 400, {"error": "the body is not a webhook of this vendor"}
        await self._receiver.commit(records)
        self._events.labels(vendor).inc(len(records))
        return 200, {"accepted": len(records)}


def _record(event: dict[str, Any]) -> Webhook:
    """Raises ValueError for a text that no column should hold.

    By a vendor's clock that is ahead of ours it happened when it was received: an opt-out of
    the future would not count yet.
    """
    at = min(event["occurred_at"], event["received_at"])
    return Webhook(**{name: _plain(value) for name, value in {**event, "occurred_at": at}.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and len(value) > LONGEST:
        raise ValueError("a text is too long")
    return value.replace("\x00", "") if isinstance(value, str) else value
