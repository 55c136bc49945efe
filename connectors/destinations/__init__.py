"""The outside systems we can write to: one file each here, and those of installed packages.

A package adds one by an entry point of the group `nextmove.destinations`: its name is the `kind`
of the project file, its value a class without arguments that is a `Destination`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points

from connectors.base import Destination, Lane, Stream
from connectors.destinations.braze import Braze
from connectors.destinations.hot_store import HotStore
from connectors.destinations.hubspot import HubSpot
from connectors.destinations.iterable import Iterable as IterableVendor
from connectors.destinations.salesforce import Salesforce
from connectors.destinations.slack import Slack
from connectors.destinations.webhook import Webhook
from connectors.errors import ConfigurationError

GROUP = "nextmove.destinations"
OURS: Mapping[str, Destination] = {
    "braze": Braze(),
    "hot_store": HotStore(),
    "hubspot": HubSpot(),
    "iterable": IterableVendor(),
    "salesforce": Salesforce(),
    "slack": Slack(),
    "webhook": Webhook(),
}


def found(points: Iterable[EntryPoint]) -> dict[str, Destination]:
    """Our destinations and those of other packages, by kind.

    Raises ConfigurationError for one that cannot be loaded, is none, or is called like another.
    """
    destinations = dict(OURS)
    for point in points:
        destination = _loaded(point)
        if point.name in destinations:
            raise ConfigurationError(
                f"two destinations are called {point.name}", f"one is {point.value}; uninstall one"
            )
        destinations[point.name] = destination
    return destinations


def _loaded(point: EntryPoint) -> Destination:
    try:
        destination: Destination = point.load()()
    except Exception as error:
        raise ConfigurationError(
            f"destination {point.name} ({point.value}) cannot be loaded: {error}",
            "repair or uninstall the package it comes from",
        ) from error
    missing = [n for n in ("name", "streams", "headers", "build", "parse")
               if not hasattr(destination, n)]  # fmt: skip
    if missing:
        raise ConfigurationError(
            f"destination {point.name} ({point.value}) lacks {', '.join(missing)}",
            "see docs/how_to/add_a_destination.md",
        )
    return destination


DESTINATIONS = found(entry_points(group=GROUP))
"""By the `kind` of the project file."""


def senders_of(kind: str, channel: str) -> list[Stream]:
    """The streams of a destination that send on a channel; none for a kind that nobody knows."""
    known = DESTINATIONS.get(kind)
    streams = known.streams.values() if known else ()
    return [s for s in streams if s.lane is Lane.SEND and channel in s.channels]
