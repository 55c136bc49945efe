"""`GET /openapi.json`: the API described, from the types it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from decision_engine.service.decisions import Ask, Content, Move
from decision_engine.service.stopping import Objection

REFERENCE = "#/components/schemas/{name}"
WHO = ("customer_id", "user_id", "anonymous_id", "email")

TEXTS = {
    "/v1/decide": "The best move for one person, now.",
    "/v1/content/{agent}": "What a message should say, asked for while it is rendered.",
    "/v1/decisions/{decision_id}": "A decision made here, with its reasons in words.",
    "/v1/stop": "A person says that a decision is wrong: its message does not leave.",
    "/v1/hot_store": "Which store this is; filled by the delivery.",
    "/v1/hot_store/{table}": "Rows of profiles or policies; filled by the delivery.",
    "/v1/projects/{key}/settings": "Where a library is to send events, as Segment's CDN says it.",
    "/webhooks/{vendor}": "What a vendor tells of its messages.",
    "/health": "Whether the log can be written.",
    "/ready": "Whether everything can be answered.",
    "/metrics": "Counts and times, for Prometheus.",
    "/openapi.json": "This description.",
}
OPEN = ("/health", "/ready", "/metrics", "/openapi.json", "/v1/projects/{key}/settings")
TRACKING = "Segment's tracking API: the same body, answer and authentication."


def route(routes: Sequence[BaseRoute]) -> Route:
    """The route that describes the others."""
    described = description([r for r in routes if isinstance(r, Route)])

    async def answer(_: Request) -> Response:
        return JSONResponse(described)

    return Route("/openapi.json", answer)


def description(routes: Sequence[Route]) -> dict[str, Any]:
    """OpenAPI 3.1. Raises KeyError for a route that nobody has described."""
    schemas, components = msgspec.json.schema_components(
        (Ask, Move, Content, Objection), ref_template=REFERENCE
    )
    ask, move, content, objection = schemas
    details: dict[str, dict[str, Any]] = {
        "/v1/decide": {"requestBody": {"required": True, "content": _json(ask)}, "answer": move},
        "/v1/stop": {"requestBody": {"required": True, "content": _json(objection)}},
        "/v1/content/{agent}": {
            "parameters": [_parameter(n) for n in (*WHO, "channel", "default")]
            + [_parameter(n, required=True) for n in ("message", "send")],
            "answer": content,
        },
    }
    paths: dict[str, Any] = {}
    for found in routes:
        detail = dict(details.get(found.path, {}))
        operation = _operation(found, detail.pop("answer", {}))
        operation["parameters"] = [*_of_path(found), *detail.pop("parameters", [])]
        methods = sorted((found.methods or {"GET"}) - {"HEAD", "OPTIONS"})
        paths[found.path] = {m.lower(): {**operation, **detail} for m in methods}
    return {
        "openapi": "3.1.0",
        "info": {"title": "nextmove", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
            },
        },
    }


def _operation(found: Route, answer: Any) -> dict[str, Any]:
    is_open = found.path in OPEN
    return {
        "summary": TEXTS[found.path] if found.path in TEXTS else _tracking(found.path),
        "responses": {
            "200": {"description": "Done.", "content": _json(answer)},
            "default": {"description": "Not done; `error` or `message` says why and what to do."},
        },
        **({} if is_open else {"security": [{"key": []}, {"basic": []}]}),
    }


def _tracking(path: str) -> str:
    from decision_engine.service.tracking import BATCH, IMPORT, KINDS

    kinds = {*KINDS, BATCH, IMPORT}
    if path.removeprefix("/v1/") not in kinds | {kind[0] for kind in kinds}:
        raise KeyError(path)
    return TRACKING


def _of_path(found: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in found.param_convertors
    ]


def _parameter(name: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "schema": {"type": "string"}}


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
