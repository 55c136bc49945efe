"""Why one decision was made, in plain language: templates over logged fields, nothing else.

The text says only what the record and its epoch say; the same record gives the same text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import copysign, expm1
from typing import Any

from decision_engine.config import Creative
from decision_engine.guardrails import GUARDRAILS, REASON_NAMES
from decision_engine.overrides import KINDS as OVERRIDE_KINDS
from decision_engine.send_times import zone_of
from decision_engine.types import NO_ACTION, Reason
from decision_engine.waivers import FACT, names_of

REASON_TEXT: Mapping[Reason, str] = {
    Reason.ELIGIBLE: "it is possible",
    Reason.KILL_SWITCH: "everything is stopped by the kill switch",
    Reason.STALE_PROFILE: "what is known of the customer is too old",
    Reason.SUPPRESSED: "the customer objected to messages or was erased",
    Reason.NO_CONSENT: "there is no consent for the channel",
    Reason.UNREACHABLE: "there is no address for the channel",
    Reason.OPEN_COMPLAINT: "a complaint is open, so promotions wait",
    Reason.NOT_ELIGIBLE: "its own rule does not hold for the customer",
    Reason.UNKNOWN_ZONE: "the customer's time zone is not known",
    Reason.QUIET_HOURS: "it would arrive in quiet hours on the customer's clock",
    Reason.FREQUENCY_CAP: "the customer has had as many messages as the caps allow",
    Reason.LEGAL_WINDOW: "the law of the customer's place does not allow it at that hour",
    Reason.PROJECT_RULE: "the rule of the project does not hold for the customer",
    Reason.AGENT_RULE: "the rule of the agent does not hold for the customer",
    Reason.EXCLUDED: "a person has excluded this segment",
    Reason.PAUSED: "a person has paused the agent",
    Reason.FROZEN: "a person has frozen it",
    Reason.BUDGET: "it is not expected to be worth what it uses up of a limit",
    Reason.SMALL_LIST: "the customer is on a small list, which follows its own rule",
    Reason.PINNED: "a person has pinned another action",
    Reason.BLACKOUT: "promotions rest on that day",
    Reason.OTHER_CHANNEL: "another channel was asked for",
}
"""Each reason as the end of a sentence: "ruled out because ..."."""

SHOWN_FEATURES, SHOWN_NAMES = 10, 4
CAP_FACTS = {"sends_1d": "1 day", "sends_7d": "7 days", "sends_30d": "30 days"}


@dataclass(frozen=True)
class Explanation:
    """`text` is for people; the rest is the same as data.

    `blocked`: reason name -> action keys. `expected` and `uncertainty` are the posterior mean
    and standard deviation of the chosen action, as logged: reward for linear policies, a score
    from 0 to 1 for Beta ones, None for groups without a learned policy.
    """

    decision_id: str
    agent: str
    customer_id: str
    action: str
    group: str
    seen: dict[str, str]
    possible: list[str]
    blocked: dict[str, list[str]]
    expected: float | None
    uncertainty: float | None
    propensity: float
    text: str


@dataclass(frozen=True)
class _Case:
    """One logged decision with what is needed to name its parts."""

    record: Mapping[str, Any]
    plan: Mapping[str, Any]
    agent: Mapping[str, Any]
    creatives: Mapping[str, Creative]
    receipts: Sequence[Mapping[str, Any]]

    @property
    def actions(self) -> Sequence[Mapping[str, Any]]:
        return list(self.agent["actions"])

    @property
    def chosen(self) -> int:
        return [a["key"] for a in self.actions].index(self.record["action"])

    @property
    def possible(self) -> list[int]:
        return [i for i, code in enumerate(self.record["reasons"]) if code == Reason.ELIGIBLE]

    @property
    def learns(self) -> bool:
        return self.record["policy"] not in ("uniform", "fixed")

    @property
    def unit(self) -> str:
        is_score = self.record["policy"] == "weighted_thompson"
        return "as a score from 0 to 1" if is_score else "of reward"

    def blocked(self) -> dict[Reason, list[int]]:
        found: dict[Reason, list[int]] = {}
        for i, code in enumerate(self.record["reasons"]):
            if code != Reason.ELIGIBLE:
                found.setdefault(Reason(code), []).append(i)
        order = (*GUARDRAILS, Reason.BUDGET, Reason.SMALL_LIST, Reason.PINNED)
        return {reason: found[reason] for reason in order if reason in found}

    def move(self, i: int) -> str:
        """An action for people: `email "A subject" with ten percent at 9:00`."""
        action = self.actions[i]
        if action["key"] == NO_ACTION:
            return "doing nothing"
        creative = self.creatives.get(action["creative"])
        name = f'"{creative.subject}"' if creative else f'"{_words(action["creative"])}"'
        gift = "" if action["incentive"] == "none" else f" with {_words(action['incentive'])}"
        hour = action["send_hour"]
        return f"{action['channel']} {name}{gift}{'' if hour is None else f' at {hour}:00'}"

    def worth(self, i: int) -> str:
        return f"{self.record['mean'][i]:.3f} ± {self.record['sd'][i]:.3f}"


def explain(
    record: Mapping[str, Any],
    plan: Mapping[str, Any],
    creatives: Mapping[str, Creative],
    receipts: Sequence[Mapping[str, Any]] = (),
) -> Explanation:
    """Explain a row of `decisions` (its `facts` decoded) with its epoch's `plan` (decoded).

    `receipts` are its deliveries so far: status, reason, at. KeyError when the plan does not
    have the record's agent.
    """
    case = _Case(record, plan, plan["agents"][record["agent"]], creatives, receipts)
    keys = [a["key"] for a in case.actions]
    return Explanation(
        decision_id=record["decision_id"],
        agent=record["agent"],
        customer_id=record["customer_id"],
        action=record["action"],
        group=record["group_name"],
        seen=_seen(case),
        possible=[keys[i] for i in case.possible],
        blocked={REASON_NAMES[r]: [keys[i] for i in rows] for r, rows in case.blocked().items()},
        expected=float(record["mean"][case.chosen]) if case.learns else None,
        uncertainty=float(record["sd"][case.chosen]) if case.learns else None,
        propensity=float(record["propensity"]),
        text="\n".join(_lines(case)),
    )


def _lines(case: _Case) -> Iterator[str]:
    record = case.record
    yield (
        f"{_words(record['agent']).capitalize()} chose {case.move(case.chosen)}"
        f" for customer {record['customer_id']} on {_moment(record['decided_at'])}."
    )
    yield f"Seen: {_listed(f'{k} {v}' for k, v in _seen(case).items())}."
    yield _possible_line(case)
    yield from _blocked_lines(case)
    yield from _waived_lines(case)
    yield f"Why this one: {' '.join(_why(case))}"
    yield f"How sure: {_how_sure(case)}"
    yield f"Group: {_group(case)}"
    yield f"When: {_when(case)}"
    yield from _delivery_lines(case)
    yield (
        f"By: {_words(record['policy'])}, version {record['policy_version']},"
        f" epoch {record['epoch_id']}, decision {record['decision_id']}."
    )


# --- what was seen, possible and ruled out ---


def _seen(case: _Case) -> dict[str, str]:
    """The features as they were before they became numbers; what is zero comes last."""
    found: dict[str, str] = {}
    for name, value in zip(case.agent["features"], case.record["x"], strict=True):
        column, is_choice, option = name.partition("=")
        if is_choice:
            _see_choice(found, case, column, option if value else None)
        elif name.startswith("log1p("):
            original = copysign(expm1(abs(value)), value)
            found[_words(name[len("log1p(") : -1])] = f"{original:.4g}"
        else:
            found[_words(name)] = f"{value:.4g}"
    return dict(sorted(found.items(), key=lambda item: item[1] == "0")[:SHOWN_FEATURES])


def _see_choice(found: dict[str, str], case: _Case, column: str, option: str | None) -> None:
    logged = case.record["facts"].get(column, option)
    found[_words(column)] = option or found.get(_words(column)) or str(logged or "other or unknown")


def _possible_line(case: _Case) -> str:
    n, k = len(case.possible), len(case.actions)
    if n == 1:
        return f"Possible: nothing but {case.move(case.possible[0])}, out of {k} moves."
    return (
        f"Possible: {n} of {k} moves, {'doing nothing' if 0 in case.possible else 'one'} included."
    )


def _blocked_lines(case: _Case) -> Iterator[str]:
    for reason, rows in case.blocked().items():
        names = dict.fromkeys(
            f"{case.actions[i]['channel']} {_words(case.actions[i]['creative'])}" for i in rows
        )
        detail = _cap_detail(case) if reason is Reason.FREQUENCY_CAP else _decreed(case, reason)
        moves = "1 move" if len(rows) == 1 else f"{len(rows)} moves"
        yield f"Ruled out: {moves} ({_few(names)}), because {REASON_TEXT[reason]}{detail}."


def _waived_lines(case: _Case) -> Iterator[str]:
    names = names_of(case.record["facts"].get(FACT))
    if names:
        yield (
            f"Not applied: {_listed(map(_words, names))}, to a small share of customers drawn by"
            " lot, so that what it costs can be measured."
        )


def _decreed(case: _Case, reason: Reason) -> str:
    """What people gave as their reason: that of the overrides of this kind then in force."""
    given = [
        o["why"]
        for o in case.plan.get("overrides", ())
        if o["kind"] == OVERRIDE_KINDS.get(reason)
        and o.get("agent") in (None, case.record["agent"])
    ]
    return f": {_listed(given)}" if given else ""


def _cap_detail(case: _Case) -> str:
    facts = case.record["facts"]
    known = [f"{facts[c]:g} in {w}" for c, w in CAP_FACTS.items() if facts.get(c) is not None]
    return f": {_listed(known)}" if known else ""


# --- why this one ---


def _why(case: _Case) -> Iterator[str]:
    if len(case.possible) == 1:
        yield "it was the only move that was possible."
    elif case.record["policy"] == "uniform":
        yield "the customer is in a group where every possible move has the same chance."
    elif case.record["policy"] == "fixed":
        yield "the customer is in a group with a fixed list; it is the first possible move on it."
    else:
        yield from _why_learned(case)


def _why_learned(case: _Case) -> Iterator[str]:
    mean = case.record["mean"]
    others = [i for i in case.possible if i != case.chosen]
    best = max(others, key=lambda i: mean[i])
    yield f"the agent expected {case.worth(case.chosen)} {case.unit} from it;"
    if mean[case.chosen] >= mean[best]:
        yield f"the next best, {case.move(best)}, promised {case.worth(best)}."
    else:
        yield f"{case.move(best)} promised more, {case.worth(best)}."
        yield (
            "The agent is not certain which is better, and tries each move as often as it may be"
            " the best one; this time the draw fell on this one."
        )


def _how_sure(case: _Case) -> str:
    record = case.record
    text = f"this move had a chance of {_percent(record['p_action'])}"
    if record["p_agent"] < 1:
        text += (
            f", and this agent a chance of {_percent(record['p_agent'])} among those that wanted"
            f" the customer; together {_percent(record['propensity'])}"
        )
    n = len(case.possible)
    if case.learns and record["floor"] > 0 and n > 1:
        least = min(record["floor"], 0.2 / n)
        text += f". No possible move ever has less than {_percent(least)}, so all go on being tried"
    return f"{text}."


# --- group, time, delivery ---


def _group(case: _Case) -> str:
    name = case.record["group_name"]
    shares = {g["name"]: g["share"] for g in case.agent["groups"]}
    share = f" ({_percent(shares[name])} of customers)" if name in shares else ""
    return f"{_words(name)}{share}."


def _when(case: _Case) -> str:
    record = case.record
    if record["send_at"] is None:
        return "nothing is sent."
    zone = zone_of(record["facts"].get("time_zone") or "")
    sent = _utc(record["send_at"])
    local = f", {sent.astimezone(zone):%H:%M} on the customer's clock" if zone else ""
    return f"to leave at {_moment(sent)}{local}; worthless after {_moment(record['expires_at'])}."


def _delivery_lines(case: _Case) -> Iterator[str]:
    for receipt in case.receipts:
        reason = f" ({receipt['reason']})" if receipt.get("reason") else ""
        yield f"Delivery: {_words(receipt['status'])}{reason} at {_moment(receipt['at'])}."


# --- words ---


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _moment(moment: datetime) -> str:
    return f"{_utc(moment):%Y-%m-%d %H:%M} UTC"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _listed(parts: Iterable[str]) -> str:
    return ", ".join(parts) or "nothing"


def _few(names: Iterable[str]) -> str:
    shown = list(names)
    more = len(shown) - SHOWN_NAMES
    return _listed([*shown[:SHOWN_NAMES], *([f"{more} more"] if more > 0 else [])])
