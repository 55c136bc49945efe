"""The parts that a project's service has."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

from decision_engine.service.app import MakePart, serve
from decision_engine.service.ingest import Ingest
from decision_engine.service.publish import Publishing
from decision_engine.service.store import HotStore
from decision_engine.service.webhooks import Webhooks
from decision_engine.workspace import Workspace


def serve_project(workspace: Workspace, *, host: str = "127.0.0.1", port: int = 0) -> None:
    """Serve until SIGTERM or SIGINT. Raises as `serve` does, ConfigurationError for no keys."""
    opened = HotStore(workspace.hot_store) if workspace.project.service else nullcontext()
    with opened as store:
        serve(workspace.inbound_log, parts_of(workspace, store), host=host, port=port)


def parts_of(workspace: Workspace, store: HotStore | None) -> list[MakePart]:
    """What `nextmove.yml` asks for; the store is open when it has a `service`."""
    parts: list[MakePart] = [partial(Webhooks, secrets=workspace.webhook_keys())]
    service = workspace.project.service
    if service is not None and store is not None:
        key = workspace.write_key()
        parts.append(partial(Ingest, write_key=key, page_classes=service.page_classes))
        parts.append(partial(Publishing, store=store, api_key=workspace.service_key()))
    return parts
