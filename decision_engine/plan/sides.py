"""The same customers decided for by two configurations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.base import Warehouse
from decision_engine.across_agents import decide_batch
from decision_engine.agent_in_epoch import AgentInEpoch, in_epoch
from decision_engine.epochs import daily_agents, read_state
from decision_engine.features import ALL_TRUSTED, Distrusted
from decision_engine.overrides import NO_OVERRIDES, Overrides
from decision_engine.types import Bools, Contexts, Decisions, Epoch, Floats, Ints, Reason, Reasons
from decision_engine.workspace import Workspace

CODES = np.array(sorted(Reason)[1:], dtype=np.uint8)
"""What can rule an action out, as the columns of `Made.ruled`."""


@dataclass(frozen=True, eq=False)
class Side:
    """One configuration with the policy states it decides by."""

    workspace: Workspace
    agents: list[AgentInEpoch]
    is_stopped: bool

    def agent(self, name: str) -> AgentInEpoch | None:
        """Its agent of this name, if it decides daily."""
        return next((a for a in self.agents if a.name == name), None)


def side_of(
    workspace: Workspace,
    warehouse: Warehouse,
    is_stopped: bool,
    versions: Mapping[str, str] | None = None,
    overrides: Overrides = NO_OVERRIDES,
    distrusted: Distrusted = ALL_TRUSTED,
) -> Side:
    """A configuration with its daily agents in the given versions, else in the current ones.

    The states are those of the warehouse, whichever project the configuration comes from.
    """
    has_states = warehouse.columns(workspace.engine("policy_states")) is not None

    def agent(name: str) -> AgentInEpoch:
        version = versions.get(name) if versions is not None else None
        state = read_state(workspace, warehouse, name, version) if has_states else None
        return in_epoch(workspace, name, state, overrides, distrusted=distrusted)

    return Side(workspace, [agent(name) for name in daily_agents(workspace)], is_stopped)


@dataclass(frozen=True, eq=False)
class Moves:
    """Everything that either side can do, m of them; number 0 is to decide nothing at all.

    `agents`, `actions`, `channels`, `incentives` (m,) names, empty where there is none · `costs`
    (2, m) cents of what is given away, on each side · `edited` (m,) whether the message is not
    the same any more · `places` for each side each agent's actions (k,) as numbers.
    """

    agents: NDArray[Any]
    actions: NDArray[Any]
    channels: NDArray[Any]
    incentives: NDArray[Any]
    costs: Ints
    edited: Bools
    places: tuple[Mapping[str, Ints], Mapping[str, Ints]]

    @property
    def is_send(self) -> Bools:
        """(m,): whether something reaches the customer."""
        sends: Bools = self.channels != ""
        return sends


def moves_of(before: Side, after: Side) -> Moves:
    """The actions of both sides, numbered."""
    messages = {("", ""): ("", "")}
    said: list[dict[tuple[str, str], Any]] = [{}, {}]
    costs: list[dict[tuple[str, str], int]] = [{}, {}]
    for i, side in enumerate((before, after)):
        incentives = {x.incentive: x for x in side.workspace.project.incentives}
        for agent in side.agents:
            for action in agent.plan.catalog.actions:
                name = (agent.name, action.key)
                given = incentives.get(action.incentive)
                messages[name] = (action.channel, action.incentive)
                said[i][name] = (side.workspace.creatives.get(action.creative), given)
                costs[i][name] = given.cost_cents if given else 0
    number = {name: i for i, name in enumerate(messages)}
    return Moves(
        agents=np.array([agent for agent, _ in number], dtype=object),
        actions=np.array([action for _, action in number], dtype=object),
        channels=np.array([channel for channel, _ in messages.values()], dtype=object),
        incentives=np.array([incentive for _, incentive in messages.values()], dtype=object),
        costs=np.array([[cost.get(name, 0) for name in number] for cost in costs]),
        edited=np.array([all(name in s for s in said) and _differ(said, name) for name in number]),
        places=(_places(before, number), _places(after, number)),
    )


def _differ(said: list[dict[tuple[str, str], Any]], name: tuple[str, str]) -> bool:
    return bool(said[0][name] != said[1][name])


def _places(side: Side, number: Mapping[tuple[str, str], int]) -> dict[str, Ints]:
    return {
        a.name: np.array([number[a.name, key] for key in a.plan.catalog.keys]) for a in side.agents
    }


@dataclass(frozen=True, eq=False)
class Made:
    """What one side does with n customers.

    `move` (n,) a number of `Moves` · `send_at` (n,) Unix seconds, NaN without a send · `group`
    (n,) '' for people nobody decides for · `ruled` (n, codes) whether some message was ruled out
    by each guardrail · `reachable` (n,) whether a message was possible · `reasons` for each agent
    the rows it decided for (r,) and their reasons (r, k).
    """

    move: Ints
    send_at: Floats
    group: NDArray[Any]
    ruled: Bools
    reachable: Bools
    reasons: dict[str, tuple[Ints, Reasons]]


def made(side: Side, places: Mapping[str, Ints], contexts: Contexts, epoch: Epoch) -> Made:
    """Decide for n customers, as `nextmove decide` does."""
    n = len(contexts)
    row = {customer_id: i for i, customer_id in enumerate(contexts.customer_ids)}
    out = Made(
        move=np.zeros(n, dtype=np.int64),
        send_at=np.full(n, np.nan),
        group=np.full(n, "", dtype=object),
        ruled=np.zeros((n, len(CODES)), dtype=bool),
        reachable=np.zeros(n, dtype=bool),
        reasons={},
    )
    if not side.agents:
        return out
    project = side.workspace.project
    for agent, found in decide_batch(contexts, side.agents, epoch, project, with_propensity=False):
        if len(found):
            at = np.array([row[customer_id] for customer_id in found.customer_ids])
            out.reasons[agent.name] = at, found.reasons
            _enter(out, at, places[agent.name], found)
    return out


def _enter(out: Made, at: Ints, places: Ints, found: Decisions) -> None:
    out.move[at] = places[found.action]
    out.send_at[at] = found.send_at
    out.group[at] = found.group
    out.ruled[at] = np.stack([(found.reasons == code).any(axis=1) for code in CODES], axis=1)
    out.reachable[at] = (found.reasons[:, 1:] == Reason.ELIGIBLE).any(axis=1)


def blockers(before: Made, after: Made, moves: Moves, wanted: Bools) -> Ints:
    """What took their messages from the wanted customers (w,), as codes.

    The guardrail that rules out most of what was possible before; of all messages, for people
    whom another agent decides for now.
    """
    out = np.zeros(len(wanted), dtype=np.int64)
    for agent, (at, now) in after.reasons.items():
        out[at] = _most(now, np.ones(now.shape, dtype=bool))
        if agent in before.reasons:
            earlier, then = before.reasons[agent]
            _, i, j = np.intersect1d(earlier, at, return_indices=True)
            old, new = (side[agent] for side in moves.places)
            _, a, b = np.intersect1d(old, new, return_indices=True)
            out[at[j]] = _most(now[j][:, b], then[i][:, a] == Reason.ELIGIBLE)
    return out[wanted]


def _most(reasons: Reasons, among: Bools) -> Ints:
    counts = np.stack([((reasons == code) & among).sum(axis=1) for code in CODES], axis=1)
    codes: Ints = CODES[counts.argmax(axis=1)].astype(np.int64)
    return codes
