"""The same decision for four readers, in plain language; the same record gives the same text.

`marketer` owns the agent. `rep` talks to the customer. `customer` asks why (GDPR, article 15).
`auditor` checks that it was done right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from decision_engine.explain.auditor import auditor
from decision_engine.explain.case import USUAL, Case
from decision_engine.explain.reasons import (
    REASON_TEXT,
    TO_CUSTOMER,
    because,
    blocked,
    channels,
    ruled_out,
)
from decision_engine.explain.told import (
    Told,
    deliveries,
    dropped,
    fact,
    group,
    had,
    how_sure,
    otherwise,
    waived,
    when,
    why,
)
from decision_engine.explain.words import by, listed, moment, percent, reward, utc, value_of, words
from decision_engine.features import DROPPED, HELD
from decision_engine.types import NO_ACTION, REP, Reason
from decision_engine.waivers import FACT

Reader = Literal["marketer", "rep", "customer", "auditor"]

SHOWN_FEATURES, SHOWN_PARTS, FEW_PARTS = 10, 5, 2


def text_for(reader: Reader, told: Told) -> str:
    """The text for one reader."""
    return "\n".join(READERS[reader](told))


# --- for who owns the agent ---


def _marketer(told: Told) -> Iterator[str]:
    case, record = told.case, told.case.record
    yield (
        f"{words(record['agent']).capitalize()} chose {case.move(case.chosen)}"
        f" for customer {record['customer_id']} on {moment(record['decided_at'])}."
    )
    shown = list(case.seen().items())[:SHOWN_FEATURES]
    yield f"Seen: {listed(f'{name} {value}' for name, value in shown)}."
    yield _possible(case)
    for reason, what in ruled_out(case):
        yield f"Ruled out: {what}, because {because(case, reason)}."
    yield from dropped(case)
    yield from waived(case)
    yield f"Why this one: {' '.join(why(case))}"
    yield from _difference(case)
    yield f"How sure: {how_sure(case)}"
    yield from otherwise(told)
    yield f"Group: {group(case)}"
    yield f"When: {when(case)}"
    yield from deliveries(told)
    yield (
        f"By: {words(record['policy'])}, version {record['policy_version']},"
        f" epoch {record['epoch_id']}, decision {record['decision_id']}."
    )


def _possible(case: Case) -> str:
    n, k = len(case.possible), len(case.actions)
    if n == 1:
        return f"Possible: nothing but {case.move(case.possible[0])}, out of {k} moves."
    return (
        f"Possible: {n} of {k} moves, {'doing nothing' if 0 in case.possible else 'one'} included."
    )


def _difference(case: Case) -> Iterator[str]:
    """What made the two differ; it sums to what they differ by."""
    best = case.next_best
    if not case.parts or best is None:
        return
    gap, spread = sum(case.parts.values()), case.record["sd"][case.chosen]
    notable, shown = case.notable(), case.notable()[:SHOWN_PARTS]
    named = [f"{fact(case, c)} ({reward(v, spread, '+')})" for c, v in shown]
    rest = gap - case.parts[USUAL] - sum(v for _, v in shown)
    if len(notable) > SHOWN_PARTS:
        named.append(f"{len(notable) - SHOWN_PARTS} more ({reward(rest, spread, '+')})")
    usual = f"what holds for a usual customer ({reward(case.parts[USUAL], spread, '+')})"
    yield (
        f"What makes the difference of {reward(gap, spread, '+')} to {case.move(best)}:"
        f" {listed([*named, usual])}."
    )


# --- for who talks to the customer ---


def _rep(told: Told) -> Iterator[str]:
    case, record = told.case, told.case.record
    does = "gets nothing" if record["action"] == NO_ACTION else f"gets {case.move(case.chosen)}"
    if case.is_for_rep:
        does = f"is for you: {case.move(case.chosen)}"
    yield f"Customer {record['customer_id']} {does} (decided on {moment(record['decided_at'])})."
    yield f"Why: {_plainly(case)}"
    for reason in blocked(case):
        yield f"Not now: {_channels(case, reason)}, because {REASON_TEXT[reason]}."
    yield from dropped(case)
    yield f"When: {when(case)}"
    yield from deliveries(told)
    yield from list(otherwise(told))[:1]
    yield f"If asked for the decision: {record['decision_id'][:12]}."


def _plainly(case: Case) -> str:
    """Why, without figures."""
    if not case.parts:
        return " ".join(why(case))
    speaks_for = [fact(case, c) for c, v in case.notable() if v > 0][:FEW_PARTS]
    against = [fact(case, c) for c, v in case.notable() if v < 0][:FEW_PARTS]
    parts = [f"for it: {listed(speaks_for)}"] if speaks_for else []
    parts += [f"against it: {listed(against)}"] if against else []
    if sum(case.parts.values()) < 0:
        parts.append("something else promised more, and this is tried now and then to learn")
    return f"{'; '.join(parts) or 'nothing about the customer made a difference'}."


def _channels(case: Case, reason: Reason) -> str:
    names = channels(case, reason)
    messages = sorted(names - {REP})
    return " and ".join(
        [f"some messages by {listed(messages)}"] * bool(messages) + [by(REP)] * (REP in names)
    )


# --- for the customer ---


def _customer(told: Told) -> Iterator[str]:
    case, record = told.case, told.case.record
    what = "not to send you anything" if record["action"] == NO_ACTION else "to send you this"
    if case.is_for_rep:
        what = "that somebody of ours should be in touch with you"
    yield f"On {utc(record['decided_at']):%-d %B %Y} a program of ours decided {what}:"
    yield f"  {case.move(case.chosen)}"
    yield "What it knew of you:"
    yield from (f"  {name}: {value}" for name, value in case.seen().items())
    yield from dropped(case)
    yield f"What its rules looked at besides: {listed(_rules_saw(case))}."
    yield from _weighed(case)
    yield from _not_for_you(case)
    if len(case.possible) > 1:
        yield (
            f"Chance had a part in it: this choice had a chance of {percent(record['p_action'])},"
            " so that we find out what serves people."
        )
    for other in told.counterfactuals:
        instead = "nothing" if other.action == NO_ACTION else other.text
        yield f"{had(other).capitalize()}, it would have been {instead}."
    yield (
        "You may object to such decisions at any time, ask that a person looks at this one, and"
        f" have what we know of you corrected. Its number is {record['decision_id'][:12]}."
    )


def _rules_saw(case: Case) -> Iterator[str]:
    facts = sorted(case.record["facts"].items())
    own = {*case.values, "as_of", FACT, DROPPED, HELD}
    yield from (f"{words(name)} {value_of(v)}" for name, v in facts if name not in own)


def _weighed(case: Case) -> Iterator[str]:
    """What counted, and how much of the whole, in percent of all that counted."""
    notable = case.notable()
    total = sum(abs(v) for _, v in notable)
    if not total:
        yield "None of that made a difference to the choice."
        return
    yield "What counted, by its weight among all of that:"
    for column, v in notable:
        side = "for" if v > 0 else "against"
        yield f"  {words(column)}: {percent(abs(v) / total)}, spoke {side} it"


def _not_for_you(case: Case) -> Iterator[str]:
    for reason in blocked(case):
        yield f"Other messages were left out because {TO_CUSTOMER[reason]}."


READERS: Mapping[Reader, Callable[[Told], Iterator[str]]] = {
    "marketer": _marketer,
    "rep": _rep,
    "customer": _customer,
    "auditor": auditor,
}
