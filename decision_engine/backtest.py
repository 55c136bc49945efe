"""What the engine would have earned on a past randomised campaign.

Two answers. Replay runs a policy from nothing over the log, learning as it goes, and counts the
rows where it agrees with the log. Held out, the policy is learned on one half and valued on the
other, both ways round, against always taking the action that was best in the learning half.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from decision_engine.backtest_data import Campaign, read_campaign, read_table, unbalanced
from decision_engine.backtest_policies import BEST, LINEAR, UNIFORM, WEIGHTED
from decision_engine.backtest_runs import (
    ArmTruth,
    HeldOut,
    Progress,
    ReplayValue,
    held_out_of,
    interval_of,
    replays_of,
    truth_of,
)
from decision_engine.evaluate import Estimate
from decision_engine.lift import Interval


@dataclass(frozen=True)
class BacktestResult:
    """Everything a backtest found; `conclusions` says it in words."""

    n: int
    action: str
    reward: str
    propensity: str | None
    features: tuple[str, ...]
    dropped: tuple[str, ...]
    shuffles: int
    seed: int
    seconds: float
    truth: tuple[ArmTruth, ...]
    replay: tuple[ReplayValue, ...]
    held_out: tuple[HeldOut, ...]
    context_gain: Estimate
    conclusions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data; a refused number is None."""
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return plain

    def to_frame(self) -> pd.DataFrame:
        """One row per number: section, policy, measure, value, low, high."""
        rows = [("truth", arm.arm, "mean", arm.mean) for arm in self.truth]
        for run in self.replay:
            rows.append(("replay", run.policy, "mean", run.mean))
            rows.append(("replay", run.policy, "against uniform", run.against_uniform))
            rows.append(("replay", run.policy, "against best action", run.against_best))
        for held in self.held_out:
            for e in (held.dr, held.switch_dr, held.ips, held.snips):
                rows.append(("held out", held.policy, e.estimator, interval_of(e)))
            rows.append(("held out", held.policy, "against uniform", held.against_uniform))
            rows.append(("held out", held.policy, "against best action", held.against_best))
        names = ["section", "policy", "measure", "value", "low", "high"]
        return pd.DataFrame(
            [(*r[:3], r[3].value, r[3].low, r[3].high) for r in rows], columns=names
        )


def run_backtest(
    path: Path,
    action: str,
    reward: str,
    context: Sequence[str],
    propensity: str | None = None,
    shuffles: int = 10,
    seed: int = 1,
    progress: Progress = lambda _: None,
) -> BacktestResult:
    """`backtest` of a CSV, CSV.gz or Parquet file. Raises ConfigurationError."""
    return backtest(
        read_table(path),
        action=action,
        reward=reward,
        context=context,
        propensity=propensity,
        shuffles=shuffles,
        seed=seed,
        progress=progress,
    )


def backtest(
    frame: pd.DataFrame,
    *,
    action: str,
    reward: str,
    context: Sequence[str] = (),
    propensity: str | None = None,
    shuffles: int = 10,
    seed: int = 1,
    progress: Progress = lambda _: None,
) -> BacktestResult:
    """What each action earned, and what the engine's policies would have earned with them.

    `frame` has one row per customer of a randomised campaign: `action` any text, `reward` a
    number, `context` columns known before the action, `propensity` the probability of the action
    taken (equal for all actions when None). Raises ConfigurationError naming column and fix.
    """
    started = time.monotonic()
    campaign = read_campaign(frame, action, reward, context, propensity)
    truth = truth_of(campaign)
    best = max(range(len(truth)), key=lambda a: truth[a].mean.value)
    replays = replays_of(campaign, best, shuffles, seed, progress)
    held_out, gain = held_out_of(campaign, shuffles, seed, progress)
    return BacktestResult(
        n=len(campaign),
        action=action,
        reward=reward,
        propensity=propensity,
        features=campaign.features,
        dropped=campaign.dropped,
        shuffles=shuffles,
        seed=seed,
        seconds=round(time.monotonic() - started, 2),
        truth=truth,
        replay=replays,
        held_out=held_out,
        context_gain=gain,
        conclusions=conclusions(campaign, truth, replays, held_out, gain),
    )


def conclusions(
    campaign: Campaign,
    truth: Sequence[ArmTruth],
    replays: Sequence[ReplayValue],
    held_out: Sequence[HeldOut],
    gain: Estimate,
) -> tuple[str, ...]:
    """What the numbers say, in sentences; no claim that its interval does not carry."""
    return (
        *_about_randomisation(campaign),
        _about_actions(truth),
        _about_learning(replays),
        _about_context(held_out, gain) if campaign.features else "No context was given to judge.",
    )


def _about_randomisation(campaign: Campaign) -> tuple[str, ...]:
    equal = (campaign.log.propensity == campaign.log.propensity[0]).all()
    found = unbalanced(campaign) if equal else ()
    if not found:
        return ()
    text = (
        f"Beware: customers of different actions differ in {', '.join(found)} beyond chance. "
        "Actions were not drawn at random, or this is not known before the action; "
        "then no number here can be trusted."
    )
    return (text,)


def _about_actions(truth: Sequence[ArmTruth]) -> str:
    first, second = sorted(truth, key=lambda t: -t.mean.value)[:2]
    text = f"'{first.arm}' earned most per customer: {_of(first.mean)}"
    # The rows of two actions are different customers, so the squared half widths add.
    halves = math.hypot(first.mean.high - first.mean.value, second.mean.high - second.mean.value)
    if first.mean.value - second.mean.value > halves:
        return f"{text}, clearly more than '{second.arm}': {_of(second.mean)}."
    return f"{text}, not clearly more than '{second.arm}': {_of(second.mean)}."


def _about_learning(replays: Sequence[ReplayValue]) -> str:
    runs = {run.policy: run for run in replays}
    uniform, best = runs[UNIFORM].mean.value, runs[BEST].mean.value
    texts = [
        f"{name} {runs[name].mean.value:.5g} ({_share(runs[name].mean.value, uniform, best)})"
        for name in (WEIGHTED, LINEAR)
        if name in runs
    ]
    return (
        f"Learning from nothing earned {' and '.join(texts)} per customer, between "
        f"{uniform:.5g} at random and {best:.5g} by always taking the best action."
    )


def _share(value: float, uniform: float, best: float) -> str:
    """How much of the way from random to the best action was covered while learning."""
    if best <= uniform:
        return "no action beats random"
    return f"{(value - uniform) / (best - uniform):.0%} of the gap"


def _about_context(held_out: Sequence[HeldOut], gain: Estimate) -> str:
    if gain.verdict == "refused":
        return f"Whether context pays cannot be said: {gain.reason}."
    if gain.value == gain.standard_error == 0:
        return (
            "Context shows no held-out gain: learning by it chose the best single action for "
            f"everyone. {WEIGHTED}, which needs no context, is enough for this campaign."
        )
    base = next(h for h in held_out if h.policy == BEST).dr.value
    shown = f"{gain.value:+.5f} [{gain.low:+.5f}, {gain.high:+.5f}] per customer"
    relative = f" ({gain.value / base:+z.1%})" if base > 0 else ""
    if gain.low > 0:
        return f"Context pays: choosing by it gained {shown}{relative} over the best single action."
    if gain.high < 0:
        return f"Context hurts: choosing by it lost {shown}{relative} to the best single action."
    return (
        f"Context shows no held-out gain: {shown}{relative} against the best single action. "
        f"{WEIGHTED}, which needs no context, is enough for this campaign."
    )


def _of(interval: Interval) -> str:
    return f"{interval.value:.5g} [{interval.low:.5g}, {interval.high:.5g}]"
