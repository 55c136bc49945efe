"""make bench-learning: what the engine's policies learn to earn, beside peer libraries.

All learners of a seed see the same customers and the same luck, in one run:

- `hillstrom`: a real e-mail test, replayed (`--hillstrom FILE`, or the variable HILLSTROM; the file
  is not shipped, and without it this part is skipped). Measure: visits per customer.
- `email`, `attributes`, `drift`: simulated campaigns with known truth (`campaigns`). Measure: the
  share of the gap from uniform choice to the oracle.
- `sequences`: a simulated market where the best next step is not what earns most at once.

Printed: the mean over seeds with its 95 % interval, the difference to ours paired by seed, CPU
seconds per seed, and at the end each goal with what was measured. Exits with 1 when one is missed.
All parts with their usual seeds take about 20 minutes of one core, --quick about 2.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from decision_engine.lift import Interval, paired_interval
from decision_engine.types import Floats
from tests.decision_engine import hillstrom, sequences
from tests.decision_engine.campaign_engine import Engine
from tests.decision_engine.campaign_peers import PEERS
from tests.decision_engine.campaigns import CAMPAIGNS, Campaign, Learner, bounds, gap_share, run

DEFAULT, FACTORED = "linear_thompson", "factored_linear_thompson"
HALVED = "linear_thompson, half-life 8 d"
OURS = {"email": DEFAULT, "attributes": FACTORED, "drift": HALVED}
"""The default policy; creatives that differ by attributes are what the factored one is for, and
`half_life_days` is for what keeps changing: about half the time between two changes."""

SEEDS = {"email": 12, "attributes": 6, "drift": 8, "hillstrom": 20, "sequences": 8}
QUICK = {"email": 3, "attributes": 2, "drift": 2, "hillstrom": 3, "sequences": 2}
FIRST_SEED = 100
"""Seeds below it are for trying things out; what is judged here was never tuned on."""

LEAST_EMAIL, BELOW_BEST, WEEKS, A_WEEK = 0.52, 0.001, 30, 1000
SLOW = ("vowpalwabbit",)


class Goal(NamedTuple):
    """What a part must show, what it has shown, and whether that will do (None: not measured)."""

    what: str
    measured: str
    met: bool | None


Score = Callable[[int], float]


def scored(name: str, score: Score, seeds: Iterable[int]) -> Floats:
    """The score of each seed, with a word on how long it takes."""
    found, begun = [], time.process_time()
    for seed in seeds:
        found.append(score(seed))
        spent = time.process_time() - begun
        print(f"  {name}: {len(found)} seeds, {spent:.0f} s", end="\r", file=sys.stderr, flush=True)
    return np.array(found)


def table(title: str, ours: str, scores: Mapping[str, Score], seeds: range) -> dict[str, Floats]:
    """Print a line per learner; the scores of each by seed."""
    print(f"\n{title}; seeds {seeds.start} to {seeds.stop - 1}")
    print(f"{'learner':<30}{'mean':>9}{'+-':>8}{'ours minus this':>32}{'s/seed':>8}", flush=True)
    rows: dict[str, Floats] = {}
    for name in (ours, *(n for n in scores if n != ours)):
        begun = time.process_time()
        rows[name] = scored(name, scores[name], seeds)
        seconds = (time.process_time() - begun) / len(seeds)
        mean, d = paired_interval(rows[name]), paired_interval(rows[ours] - rows[name])
        against = "" if name == ours else f"{d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}]"
        half = mean.high - mean.value
        print(f"{name:<30}{mean.value:>9.4f}{half:>8.4f}{against:>32}{seconds:>8.1f}", flush=True)
    return rows


def ahead(part: str, rows: Mapping[str, Floats], ours: str, rival: str) -> Goal:
    """Ours is ahead of a rival, by the whole interval of the difference paired by seed."""
    found = paired_interval(rows[ours] - rows[rival])
    return Goal(f"{part}: {ours} ahead of {rival}", shown(found), found.low > 0)


def shown(found: Interval) -> str:
    """A difference with its interval."""
    return f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def simulated(name: str, seeds: range, peers: Mapping[str, Callable[..., Learner]]) -> list[Goal]:
    """One campaign of known truth."""
    of = np.mean([bounds(CAMPAIGNS[name](s)).mean(axis=0) for s in seeds], axis=0)
    lifts = [f"{100 * (v / of[0] - 1):+.0f} %" for v in of[1:]]
    title = f"{name}: base {of[0]:.3f}, best variant {lifts[0]}, oracle {lifts[1]}"
    kinds = ("weighted_thompson", DEFAULT, FACTORED)
    makers: dict[str, Callable[[Campaign, int], Learner]] = {
        kind: partial(lambda kind, campaign, _: Engine(campaign, kind), kind) for kind in kinds
    }
    if OURS[name] == HALVED:
        makers[HALVED] = lambda campaign, _: Engine(campaign, DEFAULT, campaign.half_life_days)
    scores = {n: partial(_gap_share, name, make) for n, make in (makers | dict(peers)).items()}
    ours = OURS[name]
    rows = table(f"{title}. Share of the gap", ours, scores, seeds)
    goals = [ahead(name, rows, ours, max(peers, key=lambda p: rows[p].mean()))]
    if name == "email":
        share = float(rows[ours].mean())
        what = f"{name}: {ours} captures {LEAST_EMAIL} of the gap"
        goals.insert(0, Goal(what, f"{share:.4f}", share >= LEAST_EMAIL))
    return goals


def _gap_share(name: str, make: Callable[[Campaign, int], Learner], seed: int) -> float:
    campaign = CAMPAIGNS[name](seed)
    return gap_share(campaign, run(campaign, make(campaign, seed), seed))


def replayed(path: Path, seeds: range, peers: Mapping[str, hillstrom.Maker]) -> list[Goal]:
    """The real e-mail test."""
    campaign = hillstrom.read(path)
    makers = hillstrom.OURS | dict(peers)
    scores = {n: partial(hillstrom.visits, campaign, make) for n, make in makers.items()}
    arms = ", ".join(
        f"{arm} {value:.4f}"
        for arm, value in zip(campaign.arms, hillstrom.truth(campaign), strict=True)
    )
    rows = table(f"hillstrom: {arms}. Visits per customer", DEFAULT, scores, seeds)
    best = max(peers, key=lambda p: rows[p].mean())
    found = paired_interval(rows[DEFAULT] - rows[best])
    what = f"hillstrom: {DEFAULT} not more than {BELOW_BEST} below {best}"
    return [Goal(what, shown(found), found.value >= -BELOW_BEST)]


def in_sequence(seeds: range) -> list[Goal]:
    """The market of journeys."""
    of: dict[str, Score] = {
        "linear_thompson, credit 0.9": partial(_agent, 0.9),
        "linear_thompson, no credit": partial(_agent, 0.0),
        "what earns most at once": partial(_rule, sequences.at_once),
        "a lesson, then an offer": partial(_rule, sequences.in_turn),
        "uniform": partial(_rule, sequences.evenly),
        "the best plan": partial(_rule, sequences.best_plan),
    }
    first = next(iter(of))
    rows = table("sequences: orders per journey", first, of, seeds)
    rivals = ("linear_thompson, no credit", "what earns most at once")
    return [ahead("sequences", rows, first, rival) for rival in rivals]


def _agent(credit: float, seed: int) -> float:
    market = sequences.Market(seed, WEEKS, A_WEEK)
    agent = sequences.Agent(market, credit)
    return float(sequences.run(market, agent.choose, agent.learn)[0].mean())


def _rule(rule: sequences.Chooser, seed: int) -> float:
    market = sequences.Market(seed, WEEKS, A_WEEK)
    return float(sequences.run(market, rule, sequences.nothing)[0].mean())


def goals_of(part: str, seeds: range, slow: tuple[str, ...], file: str | None) -> list[Goal]:
    """Run one part."""
    if part == "sequences":
        return in_sequence(seeds)
    if part != "hillstrom":
        return simulated(part, seeds, {n: m for n, m in PEERS.items() if not n.startswith(slow)})
    if file is None:
        return [Goal("hillstrom", "no file was given (--hillstrom FILE)", None)]
    peers = {n: m for n, m in hillstrom.THEIRS.items() if not n.startswith(slow)}
    return replayed(Path(file), seeds, peers)


def main() -> None:
    """All parts, or those that are named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(SEEDS)}; else all")
    parser.add_argument("--hillstrom", default=os.environ.get("HILLSTROM"), help="path of the file")
    parser.add_argument("--quick", action="store_true", help="few seeds and no vowpalwabbit")
    options = parser.parse_args()
    goals: list[Goal] = []
    begun = time.process_time()
    for part in options.parts or SEEDS:
        count = (QUICK if options.quick else SEEDS)[part]
        seeds = range(FIRST_SEED, FIRST_SEED + count)
        goals += goals_of(part, seeds, SLOW if options.quick else (), options.hillstrom)
        print(f"  {time.process_time() - begun:.0f} s so far")
    print(f"\n{'goal':<78}{'measured':<30}met")
    words = {True: "yes", False: "NO", None: "not measured"}
    for goal in goals:
        print(f"{goal.what:<78}{goal.measured:<30}{words[goal.met]}")
    sys.exit(any(goal.met is False for goal in goals))


if __name__ == "__main__":
    main()
