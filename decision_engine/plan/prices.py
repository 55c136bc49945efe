"""What the limits of a side are worth on each day of a plan, worked out as `decide` does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from connectors.base import Warehouse
from decision_engine.agent_in_epoch import at_prices
from decision_engine.budgets import Prices, uses
from decision_engine.config import Limit
from decision_engine.limits_left import days_of, first_date, left_to_decide
from decision_engine.plan.journey import DAY, Journey
from decision_engine.plan.sides import Made, Moves, Side, made
from decision_engine.pricing import cleared, sample
from decision_engine.types import Epoch, Floats, Ints, seconds_of


def priced(
    side: Side,
    warehouse: Warehouse,
    columns: Iterable[str],
    moves: Moves,
    places: Mapping[str, Ints],
    epochs: list[Epoch],
) -> list[Side]:
    """The side on each day, with its actions at the prices of that day.

    The sample that prices are made from lives through the days; what it used is scaled up and
    gone the day after, beside what has really left or waits.
    """
    project = side.workspace.project
    if not project.limits or not side.agents:
        return [side] * len(epochs)
    contexts, scale = sample(side.workspace, warehouse, columns)
    journey, use = Journey(contexts, moves), _uses(side, moves, places)
    found, past = [], list[tuple[Epoch, Made]]()
    for day, epoch in enumerate(epochs):
        today, at = journey.today(), seconds_of(epoch.as_of)
        real = left_to_decide(side.workspace, warehouse, epoch.as_of, epochs[0].as_of)
        there_is: Prices = {
            limit.limit: max(0.0, real[limit.limit] - scale * _gone(past, limit, each, epoch))
            for limit, each in zip(project.limits, use, strict=True)
        }
        prices = cleared(side.workspace, side.agents, epoch, today, scale, there_is)
        found.append(replace(side, agents=at_prices(side.workspace, side.agents, prices)))
        if day + 1 < len(epochs):
            past.append((epoch, made(found[-1], places, today, epoch)))
            journey.sleep(past[-1][1], at + DAY)
    return found


def _uses(side: Side, moves: Moves, places: Mapping[str, Ints]) -> list[Floats]:
    """For each limit what each move (m,) uses of it."""
    project, found = side.workspace.project, []
    for limit in project.limits:
        each = np.zeros(len(moves.agents))
        for agent in side.agents:
            each[places[agent.name]] = uses(limit, agent.plan.catalog, project.incentives)
        found.append(each)
    return found


def _gone(past: list[tuple[Epoch, Made]], limit: Limit, each: Floats, epoch: Epoch) -> float:
    """What the sample took before, as `left_to_decide` counts it, if all leave on time."""
    days = days_of(limit)
    at, reach, gone = seconds_of(epoch.as_of), days.total_seconds(), 0.0
    for then, day in past:
        waits = day.send_at >= seconds_of(then.as_of) + DAY
        is_recent = then.as_of >= first_date(epoch.as_of, days)
        gone += float(
            each[day.move][np.where(waits, np.abs(day.send_at - at) <= reach, is_recent)].sum()
        )
    return gone
