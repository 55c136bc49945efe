"""The parts that a project's service has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import datetime
from functools import partial

from prometheus_client import Gauge, Histogram
from starlette.routing import BaseRoute

from decision_engine.delivery import utc_now
from decision_engine.service.app import MakePart, Part, Receiver, serve
from decision_engine.service.decisions import DECISION_SECONDS, Decisions
from decision_engine.service.hot import HotPath
from decision_engine.service.ingest import Ingest
from decision_engine.service.publish import Publishing
from decision_engine.service.stopping import Stopping
from decision_engine.service.store import HotStore
from decision_engine.service.unsubscribing import Unsubscribing
from decision_engine.service.webhooks import Webhooks
from decision_engine.workspace import Workspace

Clock = Callable[[], datetime]


def serve_project(
    workspace: Workspace, *, host: str = "127.0.0.1", port: int = 0, clock: Clock = utc_now
) -> None:
    """Serve until SIGTERM or SIGINT. Raises as `serve` does, ConfigurationError for no keys."""
    opened = HotStore(workspace.hot_store) if workspace.project.service else nullcontext()
    with opened as store:
        serve(workspace.inbound_log, parts_of(workspace, store, clock), host=host, port=port)


def parts_of(workspace: Workspace, store: HotStore | None, clock: Clock) -> list[MakePart]:
    """What `nextmove.yml` asks for; the store is open when it has a `service`."""
    url = workspace.public_url
    webhooks: list[MakePart] = [partial(Webhooks, secrets=workspace.webhook_keys(), public_url=url)]
    if url:
        webhooks.append(partial(Unsubscribing, key=workspace.unsubscribe_key(), clock=clock))
    service = workspace.project.service
    if service is None or store is None:
        return webhooks
    write_key, api_key = workspace.write_key(), workspace.service_key()
    # Routes are tried in this order, and somebody waits for a decision.
    return [
        partial(Hot, workspace=workspace, store=store, api_key=api_key, clock=clock),
        partial(Ingest, write_key=write_key, page_classes=service.page_classes),
        *webhooks,
    ]


class Hot(Part):
    """Decisions, and the publishing of what they are made from.

    Raises StoreError when the store is of another log.
    """

    def __init__(
        self,
        receiver: Receiver,
        workspace: Workspace,
        store: HotStore,
        api_key: str,
        clock: Clock,
    ) -> None:
        seconds = Histogram(
            "nextmove_event_to_decision_seconds",
            "From an event being durable to the decision it called for being durable.",
            buckets=DECISION_SECONDS,
            registry=receiver.metrics,
        )
        self._hot = HotPath(
            workspace, store, receiver.log.directory, receiver.commit, clock, seconds.observe
        )
        Gauge(
            "nextmove_decisions_pending",
            "Decisions that events have called for and that are not made yet.",
            registry=receiver.metrics,
        ).set_function(lambda: len(self._hot.known.pending))
        self._hot.known.work_in()
        receiver.listen(self._hot.known.applied)
        decisions = Decisions(receiver, workspace, self._hot, api_key)
        publishing = Publishing(receiver, store, self._hot.known.people, api_key)
        stopping = Stopping(workspace, api_key)
        self._routes = [*decisions.routes(), *stopping.routes(), *publishing.routes()]

    def routes(self) -> Sequence[BaseRoute]:
        """Deciding and publishing."""
        return self._routes

    async def start(self) -> None:
        """Make the decisions that are pending."""
        await self._hot.start()

    async def stop(self) -> None:
        """Write everything down."""
        await self._hot.stop()

    def missing(self) -> str | None:
        """Policies have to be published before anything can be decided."""
        return None if self._hot.is_ready else "nothing is published yet: run `nextmove deliver`"
