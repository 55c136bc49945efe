"""A decision for who checks it: everything that it depends on, and every action."""

from __future__ import annotations

from collections.abc import Iterator

from decision_engine.explain.case import USUAL, Case
from decision_engine.explain.reasons import because
from decision_engine.explain.told import Told, deliveries, dropped, group, waived, when
from decision_engine.explain.words import moment, number
from decision_engine.guardrails import REASON_NAMES
from decision_engine.types import Reason


def auditor(told: Told) -> Iterator[str]:
    """The lines."""
    case, record = told.case, told.case.record
    yield f"Decision {record['decision_id']}"
    yield f"  customer {record['customer_id']}, agent {record['agent']}, action {record['action']}"
    yield f"  decided at {moment(record['decided_at'])} under epoch {record['epoch_id']}"
    if told.config_digest:
        yield f"  configuration {told.config_digest}"
    yield (
        f"  policy {record['policy']}, version {record['policy_version']},"
        f" group {group(case).removesuffix('.')}"
    )
    yield (
        f"  probability {record['propensity']!r} = {record['p_agent']!r} (agent)"
        f" x {record['p_action']!r} (action), floor {record['floor']!r}"
    )
    yield _again(told)
    yield "Inputs, as the policy had them:"
    for name, value in zip(case.agent["features"], record["x"], strict=True):
        yield f"  {name} = {value!r}"
    yield "Facts that the guardrails had:"
    yield from (f"  {name} = {value!r}" for name, value in sorted(record["facts"].items()))
    yield "Every action, its chance and the stage that ruled it out:"
    yield from (_line(case, i) for i in range(len(case.keys)))
    yield from _sum(case)
    yield from _verified(told)
    for override in case.plan.get("overrides", ()):
        yield f"Override in force: {override['kind']} by {override['by']}: {override['why']}."
    yield from dropped(case)
    yield from waived(case)
    yield f"When: {when(case)}"
    yield from deliveries(told)


def _again(told: Told) -> str:
    if told.replayed is None:
        return "  not decided again here; `nextmove replay` does"
    same = "the same action" if told.replayed.same_action else "ANOTHER ACTION"
    return (
        f"  decided again from this record: {same},"
        f" probability off by {told.replayed.propensity_difference!r}"
    )


def _line(case: Case, i: int) -> str:
    reason = Reason(case.record["reasons"][i])
    worth = f", expected {case.worth(i)}" if case.learns else ""
    if reason is Reason.ELIGIBLE:
        mark = " <- chosen" if i == case.chosen else ""
        return f"  {case.keys[i]}: chance {number(float(case.chances[i]))}{worth}{mark}"
    return f"  {case.keys[i]}: {REASON_NAMES[reason]}, because {because(case, reason)}{worth}"


def _sum(case: Case) -> Iterator[str]:
    if not case.parts or case.next_best is None:
        return
    yield f"Expected over {case.keys[case.next_best]}, part by part:"
    for column, part in case.strongest():
        yield f"  {column} {part!r}"
    yield f"  a usual customer {case.parts[USUAL]!r}"
    gap = case.record["mean"][case.chosen] - case.record["mean"][case.next_best]
    yield f"  sum {sum(case.parts.values())!r}, logged difference {gap!r}"


def _verified(told: Told) -> Iterator[str]:
    for other in told.counterfactuals:
        yield (
            f"Decided again with {other.column} = {other.value!r} instead of {other.was!r},"
            f" same draws: {other.action} (distance {number(other.distance)})."
        )
    if not told.counterfactuals:
        yield "No single change of a column that was tried gives another action by the same draws."
