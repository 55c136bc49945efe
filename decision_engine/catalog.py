"""The actions of an agent, spelled out: creative x incentive x send hour, after no_action."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product

from decision_engine.config import Agent, AgentAction, Creative, Incentive
from decision_engine.types import NO_ACTION, Action, Catalog

NO_INCENTIVE = "none"
"""The incentive that every project has: nothing is given away."""


def catalog_of(
    agent: Agent, creatives: Mapping[str, Creative], incentives: Iterable[Incentive]
) -> Catalog:
    """`no_action`, then every combination in the order the agent's file names them.

    Raises KeyError for a creative or incentive that the project does not have, ValueError
    for the same combination twice; `load_project` has refused both before.
    """
    known = {NO_INCENTIVE, *(i.incentive for i in incentives)}
    actions = [a for entry in agent.actions for a in _combinations(entry, creatives, known)]
    return Catalog((Action(NO_ACTION), *actions))


def action_key(creative: Creative, incentive: str, send_hour: int | None) -> str:
    """`email.second_order.ten_percent.h09`; `.now` when it leaves at once."""
    when = "now" if send_hour is None else f"h{send_hour:02d}"
    return f"{creative.channel}.{creative.creative}.{incentive}.{when}"


def _combinations(
    entry: AgentAction, creatives: Mapping[str, Creative], known: set[str]
) -> Iterator[Action]:
    creative = creatives[entry.creative]
    for incentive, hour in product(entry.incentives, entry.send_hours or (None,)):
        if incentive not in known:
            raise KeyError(incentive)
        yield Action(
            key=action_key(creative, incentive, hour),
            channel=creative.channel,
            creative=creative.creative,
            incentive=incentive,
            send_hour=hour,
            is_promotional=creative.promotional,
            is_resolution=creative.resolution,
            eligible_if=entry.eligible_if,
            attributes=tuple(sorted(creative.attributes.items())),
            ramp=entry.ramp,
        )
