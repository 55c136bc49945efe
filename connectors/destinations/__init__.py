"""The outside systems we can write to, one file each."""

from __future__ import annotations

from connectors.base import Destination
from connectors.destinations.braze import Braze
from connectors.destinations.hot_store import HotStore
from connectors.destinations.hubspot import HubSpot
from connectors.destinations.iterable import Iterable

DESTINATIONS: dict[str, Destination] = {
    "braze": Braze(),
    "hot_store": HotStore(),
    "hubspot": HubSpot(),
    "iterable": Iterable(),
}
"""By the `kind` of the project file."""
