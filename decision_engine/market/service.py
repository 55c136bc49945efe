"""`python -m decision_engine.market.service FOLDER`: a project's service in simulated time.

It is the service that `nextmove serve` starts, but for its clock: simulated weeks pass in
minutes, so what time it is follows from the events that come in.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from connectors.errors import ConnectorError
from decision_engine.service.app import MakePart, Part, Receiver, serve
from decision_engine.service.commit import Place
from decision_engine.service.project import parts_of
from decision_engine.service.records import Event, Record
from decision_engine.service.store import HotStore
from decision_engine.workspace import Workspace


class EventClock:
    """The moment (naive UTC) of the newest event so far; 1970 before the first one.

    Webhooks do not move it: the market tells of a whole day's before it tells of its events.
    """

    def __init__(self) -> None:
        self._now = datetime(1970, 1, 1)

    def __call__(self) -> datetime:
        """The time in the simulation."""
        return self._now

    def applied(self, durable: Sequence[Record], _: Place) -> None:
        """Move on with what is durable."""
        for record in durable:
            if isinstance(record, Event):
                self._now = max(self._now, datetime.fromisoformat(record.occurred_at))


class Clockwork(Part):
    """Moves the clock. It must come before the part that decides: each is told in turn."""

    def __init__(self, receiver: Receiver, clock: EventClock) -> None:
        receiver.listen(clock.applied)


def serve_market(workspace: Workspace, port: int) -> None:
    """Serve until SIGTERM or SIGINT. Raises as `serve_project` does."""
    clock = EventClock()
    with HotStore(workspace.hot_store) as store:
        parts: list[MakePart] = [partial(Clockwork, clock=clock)]
        parts += parts_of(workspace, store, clock)
        serve(workspace.inbound_log, parts, port=port)


def main() -> int:
    """Print {"url": ...} and serve; exit code 2 if that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m decision_engine.market.service")
    parser.add_argument("folder", type=Path, help="the project; it must have a `service`")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port")
    args = parser.parse_args()
    try:
        serve_market(Workspace.open(args.folder), args.port)
    except ConnectorError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
