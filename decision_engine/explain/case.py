"""One logged decision with what is needed to name its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import copysign, expm1
from typing import Any

import numpy as np

from decision_engine.basis import usual
from decision_engine.config import Creative
from decision_engine.explain.words import by, number, reward, without_fields, words
from decision_engine.features import source_of
from decision_engine.policies import POLICIES
from decision_engine.replay import chances, record_of
from decision_engine.state import PolicyState
from decision_engine.types import NO_ACTION, REP, Floats, Reason

USUAL = ""
"""The column of what two actions differ by for a customer who is usual in everything."""

NOTABLE = 0.01
"""The share of all differences from which one is told."""


@dataclass(frozen=True, eq=False)
class Case:
    """A row of `decisions` (its `facts` decoded) and the decoded plan of its epoch.

    `state` is the policy state that the record names; None when it is not at hand, and then
    nothing can be said of single features.
    """

    record: Mapping[str, Any]
    plan: Mapping[str, Any]
    creatives: Mapping[str, Creative]
    state: PolicyState | None = None

    @cached_property
    def agent(self) -> Mapping[str, Any]:
        """What the epoch froze of the agent. KeyError when it does not have it."""
        found: Mapping[str, Any] = self.plan["agents"][self.record["agent"]]
        return found

    @cached_property
    def actions(self) -> Sequence[Mapping[str, Any]]:
        """The k actions as the plan has them."""
        return list(self.agent["actions"])

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The k action keys."""
        return tuple(a["key"] for a in self.actions)

    @cached_property
    def chosen(self) -> int:
        """The index of the chosen action."""
        return self.keys.index(self.record["action"])

    @cached_property
    def possible(self) -> list[int]:
        """The indices of the actions that nothing ruled out."""
        return [i for i, code in enumerate(self.record["reasons"]) if code == Reason.ELIGIBLE]

    @property
    def learns(self) -> bool:
        """Whether the choice was made by what was learned."""
        return self.record["policy"] not in ("uniform", "fixed")

    @property
    def unit(self) -> str:
        """What `mean` is in."""
        is_score = self.record["policy"] == "weighted_thompson"
        return "as a score from 0 to 1" if is_score else "of reward"

    @cached_property
    def next_best(self) -> int | None:
        """Of the other possible actions the one that was expected to earn most."""
        others = [i for i in self.possible if i != self.chosen]
        if not self.learns or not others:
            return None
        return max(others, key=lambda i: self.record["mean"][i])

    @cached_property
    def chances(self) -> Floats:
        """(k,): the probability of each action, that of the agent worked in."""
        found: Floats = chances(record_of(self.record, self.plan))[0] * self.record["p_agent"]
        return found

    @cached_property
    def parts(self) -> dict[str, float]:
        """What each column adds to the expected reward of the chosen action over the next best.

        Compared with a customer who is usual in that column; `USUAL` is what such a customer is
        expected to bring. Exact: with A the weights of the two, z the standardised features led
        by a 1 and g what is usual for this customer (1, or `basis.usual`), the parts are those of
        g (A_chosen - A_next)'z. Empty when nothing was learned.
        """
        if self.next_best is None or self.state is None:
            return {}
        weights = POLICIES[self.record["policy"]].weights(self.state, self.keys)
        theta = self.state.theta
        x = np.array(self.record["x"], dtype=float)
        z = np.concatenate([[1.0], (x - theta.feature_mean) / theta.feature_scale])
        terms = (weights[self.chosen] - weights[self.next_best]) * z * usual(x[None], theta.usual)
        found: dict[str, float] = {USUAL: float(terms[0])}
        for name, term in zip(self.agent["features"], terms[1:].tolist(), strict=True):
            column = source_of(name)
            found[column] = found.get(column, 0.0) + term
        return found

    def strongest(self) -> list[tuple[str, float]]:
        """The columns that made a difference, the largest first."""
        found = [(c, v) for c, v in self.parts.items() if c != USUAL and v]
        return sorted(found, key=lambda item: (-abs(item[1]), item[0]))

    def notable(self) -> list[tuple[str, float]]:
        """Those that are at least a hundredth of all that made a difference."""
        least = NOTABLE * sum(map(abs, self.parts.values()))
        return [(c, v) for c, v in self.strongest() if abs(v) >= least]

    @cached_property
    def dropped(self) -> set[str]:
        """The columns of the context that failed a check: all customers were as usual in them."""
        names = {source_of(name) for name in self.agent["features"]}
        return names & set(self.agent.get("distrusted", ()))

    @cached_property
    def values(self) -> dict[str, Any]:
        """The columns of the context as they were before they became numbers.

        A number that was not known is 0 in the basis; `facts` may know better.
        """
        found: dict[str, Any] = {}
        for name, value in zip(self.agent["features"], self.record["x"], strict=True):
            column, is_choice, option = name.partition("=")
            if is_choice:
                known = option if value else found.get(column)
                found[column] = known or self.record["facts"].get(column)
            elif name.startswith("log1p("):
                found[source_of(name)] = copysign(expm1(abs(value)), value)
            else:
                found[column] = value
        return {c: None if c in self.dropped else v for c, v in found.items()}

    def seen(self) -> dict[str, str]:
        """The same in words; what is zero comes last."""
        shown = {
            words(c): (str(v or "other or unknown") if not isinstance(v, float) else number(v))
            for c, v in self.values.items()
            if c not in self.dropped
        }
        return dict(sorted(shown.items(), key=lambda item: item[1] == "0"))

    @property
    def is_for_rep(self) -> bool:
        """Whether a rep is told, and not the customer."""
        return bool(self.actions[self.chosen]["channel"] == REP)

    def move(self, i: int) -> str:
        """An action for people: `email "A subject" with ten percent in 2 days, at 9:00`."""
        action = self.actions[i]
        if action["key"] == NO_ACTION:
            return "doing nothing"
        creative = self.creatives.get(action["creative"])
        subject = without_fields(creative.subject) if creative else words(action["creative"])
        gift = "" if action["incentive"] == "none" else f" with {words(action['incentive'])}"
        return f'{by(action["channel"])} "{subject}"{gift}{_time(action)}'

    def worth(self, i: int) -> str:
        """What an action was expected to earn."""
        mean, sd = self.record["mean"][i], self.record["sd"][i]
        return f"{reward(mean, sd)} ± {reward(sd, sd)}"


def _time(action: Mapping[str, Any]) -> str:
    """` at 9:00`, ` in 2 days`, ` in 2 days, at 9:00`; nothing when at once."""
    # Epochs of before there were waits have none.
    hour, wait = action["send_hour"], action.get("wait_days", 0)
    parts = [f"in {wait} day{'s' if wait > 1 else ''}"] if wait else []
    parts += [] if hour is None else [f"at {hour}:00"]
    return f" {', '.join(parts)}" if parts else ""
