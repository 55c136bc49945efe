"""Both sides over all customers of the warehouse, day by day; nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from connectors.base import Warehouse
from decision_engine.arrow import contexts_of
from decision_engine.batch import empty_audiences, needed, require_columns
from decision_engine.build import Progress
from decision_engine.config import needs_approval
from decision_engine.data_checks import of_build
from decision_engine.epochs import FEATURES, daily_agents, profile_build
from decision_engine.errors import StepError
from decision_engine.fairness import SEGMENTS
from decision_engine.features import ALL_TRUSTED
from decision_engine.overrides import Overrides
from decision_engine.plan import journey
from decision_engine.plan.baseline import Baseline, baseline, overrides_now
from decision_engine.plan.edits import decreed, edits
from decision_engine.plan.estimate import expected
from decision_engine.plan.journey import Journey
from decision_engine.plan.pace import seconds_needed
from decision_engine.plan.prices import priced
from decision_engine.plan.result import AgentChange, Plan
from decision_engine.plan.risks import risks
from decision_engine.plan.sides import Moves, Side, made, moves_of, side_of
from decision_engine.plan.tally import Change, Tally
from decision_engine.types import Bools, Contexts, Epoch, seconds_of
from decision_engine.workspace import Workspace


def plan(
    workspace: Workspace,
    against: str | None = None,
    days: int = 1,
    progress: Progress = lambda _: None,
) -> Plan:
    """What the project as it is would change, as of the profiles' own moment.

    `against` as in `baseline`. With more `days`, the customers live on as `journey` assumes.
    StepError without profiles, ConfigurationError for what cannot be read.
    """
    with workspace.warehouse_to_read() as warehouse:
        build = profile_build(workspace, warehouse)
        require_columns(workspace, warehouse)
        base = baseline(workspace, warehouse, against)
        return _plan(workspace, warehouse, base, build, days, progress)


def _plan(
    workspace: Workspace,
    warehouse: Warehouse,
    base: Baseline,
    build: str,
    days: int,
    progress: Progress,
) -> Plan:
    old = replace(base.workspace, root=workspace.root)
    now = overrides_now(workspace, base)
    bad = of_build(workspace, warehouse, build) or ALL_TRUSTED
    before = side_of(old, warehouse, base.is_stopped, base.versions, base.overrides, bad)
    after = side_of(workspace, warehouse, workspace.is_stopped, None, now, bad)
    (as_of,) = warehouse.rows(f"select max(as_of) from {workspace.model(FEATURES)}")[0]
    learned = None
    if _differ(before, after):
        learned = side_of(old, warehouse, base.is_stopped, None, base.overrides, bad)
    run = _Run(workspace, warehouse, before, after, learned, as_of, build, days)
    tally = run.tally(progress)
    found = _result(run, tally, base, now)
    empty = {a.name for a in empty_audiences(workspace, warehouse, after.agents)}
    return replace(found, warnings=tuple(risks(found, base, before, after, tally, empty)))


def _differ(before: Side, after: Side) -> bool:
    """Whether an agent that is the same otherwise has learned since."""
    return any(
        (old := before.agent(a.name)) is not None and old.state.version != a.state.version
        for a in after.agents
    )


class _Run:
    """One pass over the profiles."""

    def __init__(
        self,
        workspace: Workspace,
        warehouse: Warehouse,
        before: Side,
        after: Side,
        learned: Side | None,
        as_of: datetime,
        build: str,
        days: int,
    ) -> None:
        self.workspace, self.warehouse = workspace, warehouse
        self.before, self.after, self.learned = before, after, learned
        self.as_of, self.build, self.days = as_of, build, days
        self.moves: Moves = moves_of(before, after)
        self.daily = [self.priced(side, i, days) for i, side in enumerate((before, after))]
        if learned is not None:
            self.learned = self.priced(learned, 0, 1)[0]

    def priced(self, side: Side, i: int, days: int) -> list[Side]:
        """The side of each day, at the prices of its limits on that day."""
        epochs = [self.epoch(side, day) for day in range(days)]
        places = self.moves.places[i]
        return priced(side, self.warehouse, self.columns(), self.moves, places, epochs)

    def epoch(self, side: Side, day: int) -> Epoch:
        """The epoch the side would decide under on a day."""
        as_of = self.as_of + timedelta(days=day)
        slot, digest = as_of.date().isoformat(), side.workspace.digest
        return Epoch("plan", slot, as_of, self.build, digest, side.is_stopped)

    def tally(self, progress: Progress) -> Tally:
        """Decide for everybody on both sides and count."""
        tally = Tally(self.moves, seconds_of(self.as_of))
        for contexts in self.batches():
            self.live(contexts, tally)
            progress(f"{tally.customers:,} customers")
        return tally

    def live(self, contexts: Contexts, tally: Tally) -> None:
        """The days of one batch."""
        places = self.moves.places
        journeys = [Journey(contexts, self.moves) for _ in self.daily]
        for day in range(self.days):
            today = [j.today() for j in journeys]
            found = [
                made(sides[day], places[i], today[i], self.epoch(sides[day], day))
                for i, sides in enumerate(self.daily)
            ]
            tally.add(day, contexts, *found)
            if day == 0 and self.learned is not None:
                now = made(self.learned, places[0], contexts, self.epoch(self.learned, 0))
                tally.learned += int((now.move != found[0].move).sum())
            midnight = seconds_of(self.as_of + timedelta(days=day + 1))
            for i, of_side in enumerate(journeys if day + 1 < self.days else ()):
                of_side.sleep(found[i], midnight)

    def batches(self) -> Iterator[Contexts]:
        """The profiles with every column that either side reads."""
        table = self.workspace.model(FEATURES)
        columns = ", ".join(self.warehouse.quote(c) for c in ("customer_id", *self.columns()))
        for batch in self.warehouse.query(f"select {columns} from {table} order by customer_id"):
            yield contexts_of(batch)

    def columns(self) -> list[str]:
        """What of the profiles is read. StepError when it is not all there."""
        table = self.workspace.model(FEATURES)
        there = self.warehouse.columns(table) or {}
        wanted = {
            c for s in (self.before, self.after) for c in needed(s.workspace.project, s.agents)
        }
        missing = sorted(wanted - there.keys())
        if missing:
            raise StepError(
                f"{table} does not have {', '.join(missing)}, which one of the two sides reads;"
                " run `nextmove build`, or name another one to compare with (--against)"
            )
        wanted |= {c for c in SEGMENTS if c in there}
        if self.days > 1:
            wanted |= {c for c in journey.COLUMNS if c in there}
        return sorted(wanted)


def _result(run: _Run, tally: Tally, base: Baseline, now: Overrides) -> Plan:
    moves, ones = run.moves, np.ones((2, len(run.moves.agents)), dtype=np.int64)
    labels = [f"{a} · {m}" if a else "" for a, m in zip(moves.agents, moves.actions, strict=True)]
    decided = tally.by(moves.agents.tolist(), ones)
    sent = tally.by(moves.agents.tolist(), ones * moves.is_send)
    held = tally.by(moves.agents.tolist(), ones * _held(run))
    not_daily = run.workspace.agents.keys() - set(daily_agents(run.workspace))
    found = edits(base.workspace, run.workspace)
    found += decreed(base.overrides, now, run.as_of, not_daily)
    touched = _touched(run, tally) if found else set()
    before, after = (sides[0] for sides in run.daily)
    estimates = expected(run.workspace, run.warehouse, before, after, touched)
    names = sorted({a.name for side in (run.before, run.after) for a in side.agents})
    return Plan(
        against=base.name,
        as_of=run.as_of,
        days=run.days,
        customers=tally.customers,
        edits=found,
        kinds=tally.kinds(),
        learned=tally.learned,
        moved=tally.regrouped,
        agents={
            name: AgentChange(
                decided.get(name, Change(0, 0)),
                sent.get(name, Change(0, 0)),
                (_version(run.before, name), _version(run.after, name)),
                estimates.get(name),
            )
            for name in names
        },
        sends=tally.by(moves.channels.tolist(), ones),
        approvals={name: n for name, n in held.items() if any(n)},
        incentive_cents=tally.by(moves.channels.tolist(), moves.costs),
        seconds=seconds_needed(run.workspace.project, tally),
        actions=tally.by(labels, ones),
        guardrails=tally.by_guardrail(),
        gained=tally.reach_gained,
        lost=dict(tally.reach_lost.most_common()),
        segments=tally.by_segment(),
        daily=tuple(Change(*day) for day in tally.daily),
    )


def _held(run: _Run) -> Bools:
    """(2, m): the messages that a person must approve first, on each side."""
    sides = (run.before, run.after)
    asking = [{a.name for a in side.agents if needs_approval(a.config)} for side in sides]
    held = np.array([[name in names for name in run.moves.agents] for names in asking])
    return held & run.moves.is_send


def _touched(run: _Run, tally: Tally) -> set[str]:
    """The agents that were edited or decide differently."""
    old, new = run.before.workspace.agents, run.workspace.agents
    return tally.touched() | {name for name in new if new[name] != old.get(name)}


def _version(side: Side, name: str) -> str:
    agent = side.agent(name)
    return agent.state.version if agent else ""
