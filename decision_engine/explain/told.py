"""What is told of a decision, and the sentences that several readers get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from decision_engine.explain.case import Case
from decision_engine.explain.explanation import Counterfactual, Replay
from decision_engine.explain.words import listed, moment, percent, utc, value_of, words
from decision_engine.features import DROPPED
from decision_engine.send_times import zone_of
from decision_engine.waivers import FACT, names_of


@dataclass(frozen=True)
class Told:
    """A case with what else is told of it: deliveries, other ways it could have gone.

    `is_held` when its message leaves only with a person's approval.
    """

    case: Case
    receipts: Sequence[Mapping[str, Any]] = ()
    counterfactuals: Sequence[Counterfactual] = ()
    replayed: Replay | None = None
    config_digest: str = ""
    is_held: bool = False


def dropped(case: Case) -> Iterator[str]:
    """What was left out because its data failed a check."""
    failed = case.record["facts"].get(DROPPED)
    if failed:
        yield f"Left out, because it failed a check: {failed}. It added nothing to any move."


def waived(case: Case) -> Iterator[str]:
    """What was not applied to this customer."""
    names = names_of(case.record["facts"].get(FACT))
    if names:
        yield (
            f"Not applied: {listed(map(words, names))}, to a small share of customers drawn by"
            " lot, so that what it costs can be measured."
        )


def why(case: Case) -> Iterator[str]:
    """Why this one and not another."""
    if len(case.possible) == 1:
        yield "it was the only move that was possible."
    elif case.record["policy"] == "uniform":
        yield "the customer is in a group where every possible move has the same chance."
    elif case.record["policy"] == "fixed":
        yield "the customer is in a group with a fixed list; it is the first possible move on it."
    else:
        yield from _why_learned(case)


def _why_learned(case: Case) -> Iterator[str]:
    mean, best = case.record["mean"], case.next_best
    if best is None:
        return
    yield f"the agent expected {case.worth(case.chosen)} {case.unit} from it;"
    if mean[case.chosen] >= mean[best]:
        yield f"the next best, {case.move(best)}, promised {case.worth(best)}."
    else:
        yield f"{case.move(best)} promised more, {case.worth(best)}."
        yield (
            "The agent is not certain which is better, and tries each move as often as it may be"
            " the best one; this time the draw fell on this one."
        )


def fact(case: Case, column: str) -> str:
    """A column with its value."""
    return f"{words(column)} {case.seen().get(words(column), 'unknown')}"


def how_sure(case: Case) -> str:
    """The chances."""
    record = case.record
    text = f"this move had a chance of {percent(record['p_action'])}"
    if record["p_agent"] < 1:
        text += (
            f", and this agent a chance of {percent(record['p_agent'])} among those that wanted"
            f" the customer; together {percent(record['propensity'])}"
        )
    n = len(case.possible)
    if case.learns and record["floor"] > 0 and n > 1:
        least = min(record["floor"], 0.2 / n)
        text += f". No possible move ever has less than {percent(least)}, so all go on being tried"
    return f"{text}."


def otherwise(told: Told) -> Iterator[str]:
    """What would have changed the choice."""
    for other in told.counterfactuals:
        yield f"Otherwise: {had(other)}, it would have been {other.text}."


def had(other: Counterfactual) -> str:
    """The change itself."""
    return (
        f"had {words(other.column)} been {value_of(other.value)} instead of {value_of(other.was)}"
    )


def group(case: Case) -> str:
    """The group with its share."""
    name = case.record["group_name"]
    shares = {g["name"]: g["share"] for g in case.agent["groups"]}
    share = f" ({percent(shares[name])} of customers)" if name in shares else ""
    return f"{words(name)}{share}."


def when(case: Case) -> str:
    """When it leaves, on the customer's clock too."""
    record = case.record
    if record["send_at"] is None:
        return "nothing is sent."
    zone = zone_of(record["facts"].get("time_zone") or "")
    sent = utc(record["send_at"])
    local = f", {sent.astimezone(zone):%H:%M} on the customer's clock" if zone else ""
    return f"to leave at {moment(sent)}{local}; worthless after {moment(record['expires_at'])}."


def deliveries(told: Told) -> Iterator[str]:
    """What became of it."""
    if told.is_held and not told.receipts:
        yield "Delivery: none. It needs a person's approval to leave."
    for receipt in told.receipts:
        reason = f" ({receipt['reason']})" if receipt.get("reason") else ""
        yield f"Delivery: {words(receipt['status'])}{reason} at {moment(receipt['at'])}."
