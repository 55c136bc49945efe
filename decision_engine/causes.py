"""What an agent's actions cause, for reward and for retention, and for whom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from connectors.base import Warehouse
from decision_engine.errors import StepError
from decision_engine.evaluation_log import AgentLog, fit_of, read_retention
from decision_engine.features import feature_names, source_of
from decision_engine.lift import Interval
from decision_engine.types import TREATMENT, Bools, Floats, Ints
from decision_engine.uplift import Effect, PersonalEffect, choose, effects, personal_effect
from decision_engine.workspace import Workspace


@dataclass(frozen=True)
class Difference:
    """An effect that certainly changes with `column`: its mean over two sets of customers.

    `below` are those with less of it than the mean, typically `low`; `above` the others. A choice
    (`tier=gold`) is 0 or 1. Both are the line of `personal_effect` at the mean context of the set.
    """

    column: str
    low: float
    below: Interval
    high: float
    above: Interval


@dataclass(frozen=True)
class Retained:
    """What one action does to retention, as a difference of shares from doing nothing.

    `together` is the difference of the plain means, over all groups: what goes together, whatever
    causes it. `helped` is the share of customers whom, as last seen, it certainly helps more than
    any other action does; NaN when nothing is known of single customers. `differences` are the
    features by which the effect certainly differs, the surest first.
    """

    effect: Effect
    together: float
    helped: float
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Retention:
    """Retention after `decisions` whose window is over, and by action, the most certain first.

    Retained is who is active in the second half of `window_hours`; `share` of them are, NaN
    when no window is over.
    """

    window_hours: int
    decisions: int
    share: float
    actions: dict[str, Retained]


@dataclass(frozen=True, eq=False)
class _Known:
    """The decisions whose chances are known: by lot and by the treatment's policy."""

    found: AgentLog
    rows: Ints
    by_lot: Bools
    predictions: Floats

    def effects(self) -> tuple[Effect, ...]:
        log, eligible = self.found.log.take(self.rows), self.found.eligible[self.rows]
        return effects(log, eligible, self.predictions, by_lot=self.by_lot)

    def personal(self, action: int) -> PersonalEffect | None:
        log, eligible = self.found.log.take(self.rows), self.found.eligible[self.rows]
        x = self.found.x[self.rows]
        try:
            return personal_effect(log, x, eligible, self.predictions, action, by_lot=self.by_lot)
        except ValueError:  # too few decisions for so many features
            return None


def _known(found: AgentLog) -> _Known | None:
    lot = found.of_kind("uniform")
    rows = found.of_group(*lot, TREATMENT)
    fit = fit_of(found, rows)
    if fit is None:
        return None
    by_lot = np.isin(rows, found.of_group(*lot))
    return _Known(found, rows, by_lot, fit.predictions)


def effects_of(found: AgentLog) -> dict[str, Effect]:
    """What each action causes over doing nothing, the most certain first."""
    known = _known(found)
    return {} if known is None else {found.actions[e.action]: e for e in known.effects()}


def retention_of(workspace: Workspace, warehouse: Warehouse, agent: str) -> Retention | None:
    """What the agent's actions do to retention; None when it names no `retained`. StepError."""
    named = warehouse.rows(
        f"select window_hours from {workspace.engine('agent_outcomes')}"
        " where agent = ? and event = 'retained'",
        [agent],
    )
    if not named:
        return None
    if warehouse.columns(workspace.model("fct_outcomes")) is None:
        table = workspace.model("fct_outcomes")
        raise StepError(f"{table} does not exist; run `nextmove build` first")
    ((window,),) = named
    found = read_retention(workspace, warehouse, agent, window)
    if found is None:
        return Retention(int(window), 0, float("nan"), {})
    known, features = _known(found), feature_names(workspace.agents[agent].context)
    actions = {} if known is None else _by_action(known, features)
    return Retention(int(window), len(found.log), float(found.log.reward.mean()), actions)


def _by_action(known: _Known, features: tuple[str, ...]) -> dict[str, Retained]:
    found = known.found
    every = known.effects()
    lines = {
        e.action: line
        for e in every
        if e.estimate.verdict == "estimated" and (line := known.personal(e.action)) is not None
    }
    latest = _latest_rows(found)
    chosen, _ = choose(list(lines.values()), found.x[latest], found.eligible[latest])
    tests = max(len(lines) * len(features), 1)
    return {
        found.actions[e.action]: Retained(
            effect=e,
            together=_together(found, e.action),
            helped=float((chosen == e.action).mean()) if e.action in lines else float("nan"),
            differences=_differences(lines[e.action], found.x[latest], features, tests)
            if e.action in lines
            else (),
        )
        for e in every
    }


def _latest_rows(found: AgentLog) -> Ints:
    """The latest decision (m,) of each customer; the log is oldest first."""
    customer = found.log.customer
    if customer is None:
        return np.arange(len(found.log))
    _, last = np.unique(customer[::-1], return_index=True)
    rows: Ints = len(customer) - 1 - last
    return rows


def _together(found: AgentLog, action: int) -> float:
    means = [
        found.log.reward[rows].mean()
        if (rows := found.is_whole & (found.log.action == a)).any()
        else np.nan
        for a in (action, 0)
    ]
    return float(means[0] - means[1])


def _differences(
    line: PersonalEffect, x: Floats, features: tuple[str, ...], tests: int
) -> tuple[Difference, ...]:
    """The features whose coefficient is certainly not 0, all `tests` of the report together."""
    slope = line.coefficients[1:]
    spread = np.sqrt(np.diag(line.covariance)[1:])
    sure = np.abs(slope) / np.where(spread > 0, spread, np.inf)
    limit = float(special.stdtrit(line.degrees, 1 - 0.025 / tests))
    wanted = [int(i) for i in np.argsort(-sure) if sure[i] > limit]
    return tuple(d for i in wanted if (d := _difference(line, x, features, i)) is not None)


def _difference(
    line: PersonalEffect, x: Floats, features: tuple[str, ...], i: int
) -> Difference | None:
    is_above = x[:, i] > x[:, i].mean()
    if is_above.all() or not is_above.any():
        return None
    sets = np.stack([x[~is_above].mean(axis=0), x[is_above].mean(axis=0)])
    below, above = (
        Interval(*map(float, (value, low, high)))
        for value, low, high in zip(*line.at(sets), strict=True)
    )
    name = features[i]
    values: Floats = sets[:, i]
    if name.startswith("log1p("):
        name, values = source_of(name), np.sign(values) * np.expm1(np.abs(values))
    return Difference(name, float(values[0]), below, float(values[1]), above)
