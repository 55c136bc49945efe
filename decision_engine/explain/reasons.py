"""Why an action was not possible, as the end of a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from decision_engine.explain.case import Case
from decision_engine.explain.words import by, few, listed, words
from decision_engine.features import HELD
from decision_engine.guardrails import GUARDRAILS
from decision_engine.overrides import KINDS as OVERRIDE_KINDS
from decision_engine.types import REP, Reason
from decision_engine.waiting import WAITING

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
    Reason.FROZEN: "it is frozen",
    Reason.BAD_DATA: "data that the agent goes by failed a check",
    Reason.BUDGET: "it is not expected to be worth what it uses up of a limit",
    Reason.RAMP: "it is new, and not open to all customers yet",
    Reason.SMALL_LIST: "the customer is on a small list, which follows its own rule",
    Reason.PINNED: "a person has pinned another action",
    Reason.BLACKOUT: "promotions rest on that day",
    Reason.OTHER_CHANNEL: "another channel was asked for",
}
"""Each reason as the end of a sentence: "ruled out because ..."."""

TO_CUSTOMER: Mapping[Reason, str] = {
    Reason.KILL_SWITCH: "we had stopped all messages",
    Reason.STALE_PROFILE: "what we knew was too old to go by",
    Reason.SUPPRESSED: "you have asked for no messages",
    Reason.NO_CONSENT: "you have not agreed to messages of that kind on that channel",
    Reason.UNREACHABLE: "we could not have reached you that way",
    Reason.OPEN_COMPLAINT: "you have a complaint open with us, and offers wait until it is solved",
    Reason.NOT_ELIGIBLE: "it is meant for customers in another situation",
    Reason.UNKNOWN_ZONE: "we do not know what time it is where you are",
    Reason.QUIET_HOURS: "it would have come at a time when we leave people in peace",
    Reason.FREQUENCY_CAP: "you have had as many messages from us as we allow ourselves",
    Reason.LEGAL_WINDOW: "the law where you live does not allow it at that hour",
    Reason.PROJECT_RULE: "one of our rules for all messages excludes it",
    Reason.AGENT_RULE: "one of our rules for such messages excludes it",
    Reason.EXCLUDED: "a person here has decided that a group you are in gets none",
    Reason.PAUSED: "a person here has paused it",
    Reason.FROZEN: "we have stopped that message",
    Reason.BAD_DATA: "something we knew of our customers looked wrong, so we did nothing",
    Reason.BUDGET: "there are not enough of it for everybody",
    Reason.RAMP: "it is new, and only a few get it at first",
    Reason.SMALL_LIST: "you are on a short list of people for whom a person decides",
    Reason.PINNED: "a person here has chosen another one",
    Reason.BLACKOUT: "we send no offers on that day",
    Reason.OTHER_CHANNEL: "the message was to come on another channel",
}
"""The same for the customer."""

LAST = (Reason.BAD_DATA, Reason.BUDGET, Reason.RAMP, Reason.SMALL_LIST, Reason.PINNED)
"""What comes after the guardrails, in this order."""

CAP_FACTS = {"sends_1d": "1 day", "sends_7d": "7 days", "sends_30d": "30 days"}


def blocked(case: Case) -> dict[Reason, list[int]]:
    """The actions that were ruled out, by the stage that did it, in the order of the stages."""
    found: dict[Reason, list[int]] = {}
    for i, code in enumerate(case.record["reasons"]):
        if code != Reason.ELIGIBLE:
            found.setdefault(Reason(code), []).append(i)
    return {reason: found[reason] for reason in (*GUARDRAILS, *LAST) if reason in found}


def channels(case: Case, reason: Reason) -> set[str]:
    """The channels of what a stage ruled out."""
    return {case.actions[i]["channel"] for i in blocked(case)[reason]}


def because(case: Case, reason: Reason) -> str:
    """Why a stage ruled something out, with what was known of this customer."""
    detail = _decreed(case, reason)
    if reason is Reason.FREQUENCY_CAP:
        detail = _cap_detail(case)
    elif reason is Reason.UNREACHABLE and REP in channels(case, reason):
        detail = " (for a rep: no contact with an owner in the CRM)"
    elif reason is Reason.BAD_DATA:
        detail = f" ({case.record['facts'].get(HELD)})"
    elif reason is Reason.RAMP and case.agent.get("reach"):
        detail = f": to {case.agent['reach'][case.record['reasons'].index(reason)]:.0%} so far"
    return f"{REASON_TEXT[reason]}{detail}"


def ruled_out(case: Case) -> Iterator[tuple[Reason, str]]:
    """Each stage with what it ruled out: `3 moves (email ideas, sms hello)`."""
    for reason, rows in blocked(case).items():
        names = dict.fromkeys(
            f"{by(case.actions[i]['channel'])} {words(case.actions[i]['creative'])}" for i in rows
        )
        moves = "1 move" if len(rows) == 1 else f"{len(rows)} moves"
        yield reason, f"{moves} ({few(names)})"


def _decreed(case: Case, reason: Reason) -> str:
    """What people gave as their reason: that of the overrides of this kind then in force."""
    given = [
        o["why"]
        for o in case.plan.get("overrides", ())
        if o["kind"] == OVERRIDE_KINDS.get(reason)
        and o.get("agent") in (None, case.record["agent"])
    ]
    return f": {listed(given)}" if given else ""


def _cap_detail(case: Case) -> str:
    facts = case.record["facts"]
    known = [f"{facts[c]:g} in {w}" for c, w in CAP_FACTS.items() if facts.get(c) is not None]
    waiting = list(filter(None, str(facts.get(WAITING) or "").split(",")))
    known += [f"{len(waiting)} decided and yet to leave"] if waiting else []
    return f" (so far {listed(known)})" if known else ""
