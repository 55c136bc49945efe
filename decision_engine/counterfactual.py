"""What would have changed one decision: the nearest change of a single column.

A change counts when deciding again with it, by the same code and the same draws, gives another
action that is then the best expected one too. So luck of the draw is never told as a cause. The
action that was chosen must still be possible: that a message would not go to somebody without
consent says nothing about why it went.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import floor, log10
from typing import Any

import numpy as np

from decision_engine.across_agents import candidates_of, possible
from decision_engine.agent_in_epoch import AgentInEpoch
from decision_engine.config import ContextFeature, Project
from decision_engine.decide import decide
from decision_engine.errors import MissingColumnError
from decision_engine.explain.case import Case
from decision_engine.explain.explanation import Counterfactual
from decision_engine.features import feature_names, source_of
from decision_engine.row import Layout
from decision_engine.rule_check import kind_of_type
from decision_engine.rules import parsed
from decision_engine.types import Bools, Contexts, Decisions, Epoch, Reason

SHOWN = 3
REACH = 4.0
"""How far a number is changed, in standard deviations of those learned from."""
CLOSE = 1e-9

Change = tuple[str, Any]
_STEPS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)


def counterfactuals(
    case: Case, agent: AgentInEpoch, epoch: Epoch, project: Project, types: Mapping[str, str]
) -> list[Counterfactual]:
    """At most `SHOWN`, each of another column, the nearest first.

    `agent`, `epoch` and `project` are those the decision was made with, `types` the columns of
    profiles. None when the decision cannot be made again from its record in the same way.
    """
    again = _Again(case, agent, epoch, project, types)
    try:
        if not again.is_faithful:
            return []
        return sorted(again.nearest(), key=lambda found: (found.distance, found.column))[:SHOWN]
    except MissingColumnError:
        return []


@dataclass(frozen=True, eq=False)
class _Again:
    case: Case
    agent: AgentInEpoch
    epoch: Epoch
    project: Project
    types: Mapping[str, str]

    @cached_property
    def known(self) -> dict[str, Any]:
        """What the record has of the customer, by column; facts know what is NULL."""
        found = {**self.case.values, **self.case.record["facts"]}
        found = {c: v for c, v in found.items() if c in self.types}
        return {c: _whole(v) if self._is_whole(c) else v for c, v in found.items()}

    def _is_whole(self, column: str) -> bool:
        return "INT" in self.types[column].upper()

    def contexts(self, changes: Sequence[Change]) -> Contexts:
        """The customer as known, then with each change."""
        rows = [self.known, *({**self.known, c: v} for c, v in changes)]
        layout = Layout({c: self.types[c] for c in self.known})
        return layout.contexts([self.case.record["customer_id"]] * len(rows), rows)

    def decide(self, changes: Sequence[Change]) -> Decisions:
        """Decided as known, then with each change, by the draws of the record.

        What the record says of an action stands unless it follows from the columns: a guardrail
        that looks at something else is not undone by any of them.
        """
        contexts, record = self.contexts(changes), self.case.record
        rows = np.arange(len(contexts))
        audience = possible(contexts, rows, self.agent, self.epoch, self.project)
        slots = np.full(len(rows), record["slot"], dtype=object)
        candidates = candidates_of(audience, slots, self.epoch, self.project, np.ones(len(rows)))
        logged = np.array(record["reasons"], dtype=np.uint8)
        follows = candidates.reasons[0] == logged
        reasons = np.where(follows, candidates.reasons, logged)
        return decide(self.agent.plan, replace(candidates, reasons=reasons), with_propensity=False)

    @cached_property
    def is_faithful(self) -> bool:
        """Whether nothing but the record leads to the record: the same draws, choice and hopes."""
        made, record = self.decide([]), self.case.record
        return (
            made.decision_ids[0] == record["decision_id"]
            and made.group[0] == record["group_name"]
            and int(made.action[0]) == self.case.chosen
            and np.allclose(made.x[0], record["x"], rtol=CLOSE, atol=CLOSE)
            and np.allclose(made.mean[0], record["mean"], rtol=CLOSE, atol=CLOSE, equal_nan=True)
        )

    def nearest(self) -> Iterator[Counterfactual]:
        """The nearest of each column, after a second, finer look at numbers."""
        first = self.flips(list(self.tries()))
        finer = [change for found in first.values() for change in self.between(found)]
        return iter(
            {
                **first,
                **self.flips([*finer, *((f.column, f.value) for f in first.values())]),
            }.values()
        )

    def flips(self, changes: list[Change]) -> dict[str, Counterfactual]:
        """Of these changes those that make another choice, the nearest of each column."""
        if not changes:
            return {}
        made = self.decide(changes)
        found: dict[str, Counterfactual] = {}
        for i in np.flatnonzero(self._flipped(made) & self._in_audience(changes)).tolist():
            column, value = changes[i - 1]
            other = self._counterfactual(column, value, int(made.action[i]))
            if column not in found or other.distance < found[column].distance:
                found[column] = other
        return found

    def _flipped(self, made: Decisions) -> Bools:
        possible_ = made.reasons == Reason.ELIGIBLE
        flipped: Bools = (made.action != self.case.chosen) & possible_[:, self.case.chosen]
        if self.case.learns:
            best = np.where(possible_, made.mean, -np.inf).argmax(axis=1)
            flipped &= made.action == best
        return flipped

    def _in_audience(self, changes: Sequence[Change]) -> Bools:
        """Whether the agent would have decided for the customer at all."""
        config = self.agent.config
        rules = [parsed(r) for r in (config.audience, *(t.when for t in config.triggers)) if r]
        inside = np.ones(len(changes) + 1, dtype=bool)
        for rule in rules:
            if set(rule.columns) <= self.known.keys():
                inside &= rule.holds(self.contexts(changes))
            else:
                inside[1:] &= [c not in rule.columns for c, _ in changes]
        return inside

    def _counterfactual(self, column: str, value: Any, action: int) -> Counterfactual:
        return Counterfactual(
            column,
            self.known[column],
            value,
            self.case.keys[action],
            self.case.move(action),
            self.distance(column, value),
        )

    # --- which values, and how far they are ---

    def tries(self) -> Iterator[Change]:
        """Every change that is tried at first."""
        for column, was in self.known.items():
            kind, feature = kind_of_type(self.types[column]), self._feature(column)
            if kind == "boolean":
                yield from ((column, v) for v in (True, False) if v is not was)
            elif kind == "number":
                yield from ((column, v) for v in self._numbers(column, was))
            elif feature is not None:
                yield from ((column, option) for option in feature.one_of if option != was)

    def _feature(self, column: str) -> ContextFeature | None:
        return next((f for f in self.agent.config.context if f.column == column), None)

    def _numbers(self, column: str, was: float | None) -> list[float]:
        """Around what it was, in growing steps; never below 0 unless it was."""
        start = float(was or 0.0)
        low, high = self._range(column, start)
        step = max(1e-3 * (high - low), 1e-9)
        sizes = [m * 10.0**e for e in range(floor(log10(step)), 16) for m in _STEPS]
        found = {self._neat(column, v) for s in sizes for v in (start - s, start + s)}
        return sorted(v for v in found if low <= v <= high and v != was)

    def _range(self, column: str, start: float) -> tuple[float, float]:
        lowest = 0.0 if start >= 0 else -np.inf
        scale, feature = self._scale(column), self._feature(column)
        if scale is None or feature is None:
            reach = 2 * abs(start) + 10
            return max(lowest, -reach), reach
        if feature.transform == "log1p":
            return max(lowest, -abs(start)), float(np.expm1(np.log1p(abs(start)) + REACH * scale))
        return max(lowest, start - REACH * scale), start + REACH * scale

    def _neat(self, column: str, value: float) -> float:
        """A number that people would write: whole for counts, else of three digits."""
        return float(round(value)) if self._is_whole(column) else float(f"{value:.3g}")

    def between(self, found: Counterfactual) -> Iterator[Change]:
        """Nearer values than one that makes a difference."""
        if kind_of_type(self.types[found.column]) == "number":
            start = float(found.was or 0.0)
            for share in np.linspace(0.0, 1.0, 25)[1:-1].tolist():
                value = self._neat(found.column, start + share * (found.value - start))
                if value not in (start, found.value):
                    yield found.column, value

    def distance(self, column: str, value: Any) -> float:
        """In standard deviations of the feature; a number that is none counts by its own size."""
        was = self.known[column]
        if kind_of_type(self.types[column]) != "number":
            return 1.0
        start, scale, feature = float(was or 0.0), self._scale(column), self._feature(column)
        if scale is None or feature is None:
            return float(abs(value - start) / max(1.0, abs(start)))
        if feature.transform == "log1p":
            return float(abs(_log(value) - _log(start)) / scale)
        return float(abs(value - start) / scale)

    def _scale(self, column: str) -> float | None:
        names = feature_names(self.agent.config.context)
        at = [i for i, name in enumerate(names) if source_of(name) == column]
        return float(self.agent.state.theta.feature_scale[at[0]]) if len(at) == 1 else None


def _log(value: float) -> float:
    return float(np.sign(value) * np.log1p(abs(value)))


def _whole(value: Any) -> Any:
    return round(value) if isinstance(value, float) and np.isfinite(value) else value
