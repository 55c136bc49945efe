"""The floor of bench-hotpath: the same framework and server, a fixed answer, no work."""

from __future__ import annotations

import asyncio

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.listen import Server, announce

ANSWER = b'{"id":"' + b"x" * 400 + b'"}'


async def answer(request: Request) -> Response:
    """Read the body, say the same as always."""
    await request.body()
    return Response(ANSWER, media_type="application/json")


def main() -> None:
    app = Starlette(routes=[Route("/v1/decide", answer, methods=["POST"])])
    config = uvicorn.Config(app, port=0, lifespan="off", access_log=False, log_level="warning")
    asyncio.run(Server(config, announce).serve())


if __name__ == "__main__":
    main()
