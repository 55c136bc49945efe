"""make bench-evaluate: do the intervals and alarms keep their promises? Seeds are printed.

1,000 simulated logs a world for the off-policy estimators, 2,000 experiments without any
difference and 28 daily looks each, 2,000 actions without drift, 500 campaigns. Takes six
minutes of one core; `--share 0.1` does a tenth of it. Fails when a promise is broken.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

import numpy as np

from decision_engine import drift, sample_ratio
from tests.decision_engine import simulated_campaigns as campaigns
from tests.decision_engine.simulated_experiments import EXPERIMENTS, Experiment, rates
from tests.decision_engine.simulated_logs import WORLDS, coverage

SEED = 20_261

REAL = (
    Experiment("5% of the treatment lost", customers=40_000, stay=False, lost=0.05),
    Experiment("rate 0.100 to 0.115", effect=0.015),
)


def main() -> None:
    """Print the tables and judge them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="share of the repeats")
    share = parser.parse_args().share
    broken: list[str] = []
    started = time.process_time()
    for part in (off_policy, nothing_to_find, something_to_find, changes):
        for line in part(share, broken):
            print(line, flush=True)
    print(f"\nseed {SEED}, {time.process_time() - started:.0f} s of CPU")
    if broken:
        sys.exit("broken: " + "; ".join(broken))


def off_policy(share: float, broken: list[str]) -> Iterator[str]:
    """Coverage of the 95% intervals: 93 to 97%, and the noise of the repeats."""
    repeats = round(1000 * share)
    yield f"\n{repeats} logs a world: coverage of 95% intervals"
    yield f"{'world':<22}{'estimator':<15}{'covered':>8}{'refused':>8}{'eff. n':>8}{'width':>9}"
    slack = 2 * np.sqrt(0.05 * 0.95 / repeats)
    for world in WORLDS:
        for name, c in coverage(world, repeats, SEED).items():
            yield (
                f"{world.name:<22}{name:<15}{c.share:>8.1%}{c.refused / repeats:>8.1%}"
                f"{c.effective / c.given:>8.0f}{c.width / c.given:>9.4f}"
            )
            if not 0.93 - (slack if share < 1 else 0) <= c.share <= 0.97 + slack:
                broken.append(f"{world.name}, {name}")


def nothing_to_find(share: float, broken: list[str]) -> Iterator[str]:
    """Experiments in which any of 28 daily looks found a winner, or called the sizes wrong."""
    repeats = round(2000 * share)
    limit = 0.05 + 2 * np.sqrt(0.05 * 0.95 / repeats)
    yield f"\n{repeats} experiments without a difference, 28 daily looks: found a winner"
    yield f"{'experiment':<28}{'naive':>8}{'always valid':>14}{'with CUPED':>12}{'sizes':>8}"
    for experiment in EXPERIMENTS:
        r = rates(experiment, repeats, SEED)
        yield row(experiment.name, r)
        if max(r["valid"], r["cuped"]) > limit or r["sizes"] > sample_ratio.ALPHA:
            broken.append(experiment.name)


def something_to_find(share: float, broken: list[str]) -> Iterator[str]:
    """The same looks where there is something."""
    repeats = round(200 * share)
    yield f"\n{repeats} experiments each with something to find"
    for experiment in REAL:
        r = rates(experiment, repeats, SEED)
        yield row(experiment.name, r)
    if r["cuped"] < r["valid"]:
        broken.append("CUPED finds less")


def row(name: str, r: dict[str, float]) -> str:
    """One line of the table."""
    return f"{name:<28}{r['naive']:>8.1%}{r['valid']:>14.1%}{r['cuped']:>12.1%}{r['sizes']:>8.2%}"


def changes(share: float, broken: list[str]) -> Iterator[str]:
    """Drift, plateau and weak creatives: false alarms and power."""
    repeats = round(2000 * share)
    found = campaigns.drift_rates(repeats, SEED)
    yield f"\n{repeats} actions, {campaigns.DRIFT_DAYS} days, then a change or none; daily looks"
    yield from (f"  {name}: {value:.3g}" for name, value in found.items())
    if found["false alarms"] > drift.ALPHA + 2 * np.sqrt(drift.ALPHA / repeats):
        broken.append("false alarms of drift")
    repeats = round(500 * share)
    ends = campaigns.plateau_rates(repeats, SEED)
    yield f"\n{repeats} campaigns of 10,000 decisions, 10 looks, margin {campaigns.MARGIN}: plateau"
    yield from (f"  {name}: {value:.3g}" for name, value in ends.items())
    if ends["called while there was more"] > 0.05 + 2 * np.sqrt(0.05 * 0.95 / repeats):
        broken.append("false plateaus")
    repeats = round(500 * share)
    called = campaigns.weak_rates(repeats, SEED)
    yield f"\n{repeats} campaigns of 6 actions, looks at {campaigns.LOOKS}: weak creatives"
    yield from (f"  {name}: {value:.3g}" for name, value in called.items())
    if max(list(called.values())[:2]) > 0.05 + 2 * np.sqrt(0.05 * 0.95 / repeats):
        broken.append("creatives falsely called weak")


if __name__ == "__main__":
    main()
