"""Decisions for a few people at once: the batch's own function on their rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from decision_engine.across_agents import decide_batch
from decision_engine.agent_check import EVENT_COLUMNS
from decision_engine.agent_in_epoch import AgentInEpoch, in_epoch, plan_of
from decision_engine.budgets import NO_PRICES, Prices
from decision_engine.config import needs_approval
from decision_engine.epochs import EVENTS
from decision_engine.features import ALL_TRUSTED, Distrusted, all_needed_columns
from decision_engine.overrides import NO_OVERRIDES, Overrides
from decision_engine.record import CarriedOutBy, rows_of
from decision_engine.row import Layout
from decision_engine.rules import parsed
from decision_engine.service import records
from decision_engine.service.definitions import profile_types
from decision_engine.state import PolicyState
from decision_engine.types import Contexts, Epoch, column_of
from decision_engine.waiting import without
from decision_engine.workspace import Workspace

ALL_TRUSTED_BY_ALL: Mapping[str, Distrusted] = {}


class Decider:
    """The agents with the policy states they decide with from now on.

    Another one is made when a state or the kill switch changes: what a decision depends on,
    besides the person, is the same as long as `epoch_id` is.
    """

    def __init__(
        self,
        workspace: Workspace,
        states: Mapping[str, PolicyState],
        *,
        is_stopped: bool,
        overrides: Overrides = NO_OVERRIDES,
        prices: Prices = NO_PRICES,
        distrusted: Mapping[str, Distrusted] = ALL_TRUSTED_BY_ALL,
    ) -> None:
        """`states` are the published ones; agents without one cannot decide.

        `distrusted` has the columns that an agent is not to go by.
        """
        self.workspace = workspace
        self.is_stopped = is_stopped
        self.overrides = overrides
        self.prices = prices
        self.distrusted = {name: found for name, found in distrusted.items() if found}
        self.agents: dict[str, AgentInEpoch] = {
            name: in_epoch(
                workspace, name, states[name], overrides, prices, distrusted.get(name, ALL_TRUSTED)
            )
            for name in sorted(workspace.agents)
            if name in states
        }
        types = profile_types()
        self._layout = Layout({c: types[c] for c in self.columns})

    @property
    def columns(self) -> tuple[str, ...]:
        """The profile columns that agents and triggers read."""
        pairs = [(a.config, a.plan.catalog) for a in self.agents.values()]
        of_triggers = {
            column
            for agent in self.agents.values()
            for trigger in agent.config.triggers
            if trigger.when
            for column in parsed(trigger.when).columns
        }
        needed = all_needed_columns(pairs, self.workspace.project)
        return tuple(sorted({*of_triggers, *needed, *self.overrides.columns}))

    @cached_property
    def epoch_id(self) -> str:
        """Names everything that is frozen."""
        versions = {name: agent.state.version for name, agent in self.agents.items()}
        parts = (
            self.workspace.project.salt,
            EVENTS,
            self.workspace.digest,
            json.dumps(versions, sort_keys=True),
            str(self.is_stopped),
            json.dumps(dict(self.prices), sort_keys=True),
            json.dumps(self.distrusted, sort_keys=True),
            str(self.overrides.is_known),
            *(o.override_id for o in self.overrides.frozen),
        )
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]

    def epoch_record(self, at: datetime) -> records.Epoch:
        """The epoch, to be stored before its first decision."""
        return records.Epoch(
            {
                "epoch_id": self.epoch_id,
                "slot": EVENTS,
                "as_of": at.isoformat(),
                "profile_build": "",
                "config_digest": self.workspace.digest,
                "kill_switch": self.is_stopped,
                "plan": json.dumps(self.plan),
                "status": "done",
            }
        )

    @cached_property
    def plan(self) -> dict[str, Any]:
        """What explaining and replaying a decision of this epoch needs, as plain data."""
        return plan_of(self.workspace, list(self.agents.values()))

    def decide(
        self,
        people: Sequence[tuple[str, str, Mapping[str, Any]]],
        agents: Sequence[str],
        at: datetime,
        channel: str | None = None,
        carried_out_by: CarriedOutBy = "delivery",
    ) -> dict[str, dict[str, Any]]:
        """Rows of `decisions` by customer, p_action and propensity left out.

        `people` are (slot, customer_id, profile columns as of `at` in UTC; one that is absent is
        NULL), nobody twice. Who is outside all audiences has no row.
        """
        asked = [self.agents[name] for name in agents if self.may(name, carried_out_by)]
        if not asked:
            return {}
        epoch = Epoch(self.epoch_id, EVENTS, at, "", self.workspace.digest, self.is_stopped)
        slots, ids, values = zip(*people, strict=True)
        made = decide_batch(
            self._layout.contexts(ids, values),
            asked,
            epoch,
            self.workspace.project,
            slots=slots,
            channel=channel,
            with_propensity=False,
        )
        return {
            row["customer_id"]: row
            for agent, decisions in made
            for row in rows_of(decisions, agent, epoch, carried_out_by)
        }

    def may(self, agent: str, carried_out_by: CarriedOutBy) -> bool:
        """What needs a person's approval is not for a caller to carry out at once."""
        return carried_out_by == "delivery" or not needs_approval(self.agents[agent].config)

    def called_by(self, event: records.Event) -> list[tuple[str, str | None]]:
        """(agent, condition on the profile) of each trigger that the event itself satisfies."""
        return _called_by(self._triggers, tuple(getattr(event, column) for column in EVENT_COLUMNS))

    def holds(self, rule: str | None, customer_id: str, values: Mapping[str, Any]) -> bool:
        """Whether a trigger's condition is true of a profile."""
        if rule is None:
            return True
        contexts = without(self._layout.contexts([customer_id], [values]), self.overrides.stopped)
        return bool(parsed(rule).holds(contexts)[0])

    @cached_property
    def _triggers(self) -> tuple[tuple[str, str, str | None], ...]:
        return tuple(
            (name, trigger.on, trigger.when)
            for name, agent in self.agents.items()
            for trigger in agent.config.triggers
        )


@lru_cache(maxsize=4096)  # few combinations of an event's columns occur
def _called_by(
    triggers: tuple[tuple[str, str, str | None], ...], values: tuple[Any, ...]
) -> list[tuple[str, str | None]]:
    row = {c: column_of([v]) for c, v in zip(EVENT_COLUMNS, values, strict=True)}
    contexts = Contexts(np.array([""], dtype=object), row)
    return [(name, when) for name, on, when in triggers if parsed(on).holds(contexts)[0]]
