"""The actions of an agent, spelled out: creative x incentive x send hour x wait."""

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
    actions = [a for entry in agent.actions for a in _actions(entry, creatives, known)]
    return Catalog((Action(NO_ACTION), *actions))


def action_key(creative: Creative, incentive: str, send_hour: int | None, wait_days: int) -> str:
    """`email.second_order.ten_percent.h09`, `.h09.d2` two days later, `.now` when at once."""
    when = [] if send_hour is None else [f"h{send_hour:02d}"]
    when += [f"d{wait_days}"] if wait_days else []
    return ".".join((creative.channel, creative.creative, incentive, *(when or ["now"])))


Combination = tuple[str, int | None, int]
"""Incentive, send hour and wait in days."""


def combinations(entry: AgentAction) -> Iterator[Combination]:
    """What an entry combines its creative with, in the order of its lists."""
    yield from product(entry.incentives, entry.send_hours or (None,), entry.wait_days)


def _actions(
    entry: AgentAction, creatives: Mapping[str, Creative], known: set[str]
) -> Iterator[Action]:
    creative = creatives[entry.creative]
    for incentive, hour, wait in combinations(entry):
        if incentive not in known:
            raise KeyError(incentive)
        yield Action(
            key=action_key(creative, incentive, hour, wait),
            channel=creative.channel,
            creative=creative.creative,
            incentive=incentive,
            send_hour=hour,
            wait_days=wait,
            is_promotional=creative.promotional,
            is_resolution=creative.resolution,
            eligible_if=entry.eligible_if,
            attributes=tuple(sorted(creative.attributes.items())),
            ramp=entry.ramp,
        )
