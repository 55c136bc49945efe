"""make bench-engine: how fast linear Thompson sampling decides, and how exactly, beside its peers.

32 features, everybody with a draw of their own, one thread, CPU time, medians, in turns. All
decide about the same people and predict only: we as the batch does, 65,536 at a time, peers in
the parts that suit them best. Peers do what their libraries offer: bayesianbandits draws once for
a part, mabwiser gives all actions the same noise, vowpalwabbit has no posterior (it gets the first
part alone, and its text is built outside the timer).
How exactly: one context, 20,000 draws; the largest difference between how often an action is
drawn and its probability by adaptive quadrature.
One choice: a busy machine adds to its 99th percentile most, so beside it stands that of the calmest
thousand calls in a row. Fails when a goal is missed; `--json` prints the figures as JSON.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.integrate import quad
from scipy.stats import norm

from decision_engine.choose import choose
from decision_engine.keys import decision_keys, draw_streams
from decision_engine.learn import learn
from decision_engine.policies import linear_thompson
from decision_engine.propensity import propensities
from decision_engine.state import PolicyState
from decision_engine.types import Bools, Floats, Ints, Keys
from tests.decision_engine.campaign_peers import PEERS, VowpalWabbit
from tests.goals import Cost, Goal, judge, measure, table_to
from tests.rewards import closed

D, TAUGHT, REPEATS, DRAWS, FLOOR = 32, 20_000, 11, 20_000, 0.0
ROWS = {10: 65_536, 100: 20_000}
PARTS = {10: 4_096, 100: 600}
ALONE, CALLS, PEER_CALLS = 500, 100_000, 200
"""The number of actions at which one choice is timed besides, and how often it is."""
ONE = f"{'one: us':>10}{'p99 us':>10}{'calm p99':>10}"
OURS, WITH_P = "nextmove", "nextmove, with propensities"
WHO = (
    "mabwiser LinTS 1", "bayesianbandits Normal", "contextualbandits LogisticTS",
    "vowpalwabbit squarecb",
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """What everybody has learned from, and who is to be decided about; all actions are possible."""

    k: int
    x: Floats
    action: Ints
    reward: Floats
    people: Floats
    keys: Keys
    state: PolicyState
    every: Bools


def make(k: int) -> World:
    """Rewards that depend on the first features, differently for each action."""
    rng = np.random.default_rng(k)
    x, action = rng.normal(size=(TAUGHT, D)), rng.integers(0, k, TAUGHT)
    effect = rng.normal(0, 0.05, size=(k, D))
    p = np.clip(0.1 + np.einsum("nd,nd->n", x, effect[action]), 0.01, 0.9)
    reward = (rng.random(TAUGHT) < p).astype(float)
    state = learn(
        None,
        [closed(x, action, reward)],
        agent="bench", policy="linear_thompson", actions=tuple(f"a{i}" for i in range(k)),
        features=tuple(f"x{i}" for i in range(D)), as_of=86_400.0,
    )  # fmt: skip
    n = ROWS.get(k, 1_000)
    keys, _ = decision_keys("salt", "bench", "slot", [str(i) for i in range(n)])
    every = np.ones((n, k), dtype=bool)
    return World(k, x, action, reward, rng.normal(size=(n, D)), keys, state, every)


def ours(world: World, rows: slice, hashes: Keys, *, with_p: bool = False) -> Ints:
    """The batch's own functions."""
    every = world.every[rows]
    mean, sd = linear_thompson.posterior(world.state, world.state.actions, world.people[rows])
    if with_p:
        propensities(mean, sd, every, FLOOR, "gaussian")
    return choose(world.keys[rows], mean, sd, every, FLOOR, "gaussian", hashes)


def taught(world: World, name: str) -> Any:
    """A peer that knows the same rewards."""
    attributes = np.arange(world.k)[:, None]
    peer: Any = PEERS[name](SimpleNamespace(k=world.k, attributes=attributes), 1)  # type: ignore[arg-type]
    # Text learners are slow, and do not decide quicker for having learned more.
    some = slice(2_000 if isinstance(peer, VowpalWabbit) else TAUGHT)
    peer.fit(world.x[some], world.action[some], world.reward[some])
    peer.begun = True
    return peer


def theirs(peer: Any, people: Floats, part: int) -> None:
    """A peer's predictions, part by part."""
    for start in range(0, len(people), part):
        peer.predict(people[start : start + part])


def in_turns(calls: Mapping[str, Callable[[], object]]) -> dict[str, Floats]:
    """CPU seconds of each call in several rounds, so that all meet the same noise."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(REPEATS + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            spent[name].append(time.process_time() - start)
    return {name: np.array(seconds[1:]) for name, seconds in spent.items()}


def by_quadrature(mean: Floats, sd: Floats) -> Floats:
    """(k,): the probability that each normal draw is the largest."""
    low, high = float((mean - 9 * sd).min()), float((mean + 9 * sd).max())

    def density(t: float, a: int) -> float:
        others = np.delete(norm.cdf((t - mean) / sd), a).prod()
        return float(norm.pdf((t - mean[a]) / sd[a]) / sd[a] * others)

    found = [
        quad(density, low, high, args=(a,), points=mean, limit=500)[0] for a in range(len(mean))
    ]
    return np.array(found)


def inexactness(world: World, predict: Callable[[Floats, Keys], Ints], exact: Floats) -> float:
    """The largest difference between shares drawn for one context and their probabilities."""
    keys, _ = decision_keys("other", "bench", "slot", [str(i) for i in range(DRAWS)])
    drawn = predict(np.repeat(world.people[:1], DRAWS, axis=0), keys)
    return float(np.abs(np.bincount(drawn, minlength=world.k) / DRAWS - exact).max())


@dataclass(frozen=True)
class Found:
    """By name: rows a second, how many times that ours is, what one person's choice costs, and
    inexactness.

    Medians; a machine may be slower for some rounds, so it is rounds that are compared.
    """

    rate: dict[str, float]
    times: dict[str, float]
    alone: dict[str, Cost]
    apart: dict[str, float]


def bench(k: int) -> Found:
    """Everybody at k actions."""
    world, part = make(k), PARTS[k]
    mean, sd = linear_thompson.posterior(world.state, world.state.actions, world.people[:1])
    exact = by_quadrature(mean[0], sd[0])
    everybody, hashes = slice(0, len(world.people)), draw_streams(world.state.actions)
    peers = {name: taught(world, name) for name in WHO}
    texts = {name for name, peer in peers.items() if isinstance(peer, VowpalWabbit)}
    people = {n: world.people[:part] if n in texts else world.people for n in WHO}

    def draw(x: Floats, keys: Keys) -> Ints:
        m, s = linear_thompson.posterior(world.state, world.state.actions, x)
        return choose(keys, m, s, np.ones((len(x), k), dtype=bool), FLOOR, "gaussian", hashes)

    seconds = in_turns(
        {
            OURS: lambda: ours(world, everybody, hashes),
            WITH_P: lambda: ours(world, everybody, hashes, with_p=True),
            **{n: lambda n=n: theirs(peers[n], people[n], part) for n in WHO},  # type: ignore[misc]
        }
    )
    alone = {OURS: choice(world, hashes)}
    apart = {OURS: inexactness(world, draw, exact)}
    for name, peer in peers.items():
        alone[name] = measure(lambda i, p=peer: p.predict(world.people[i : i + 1]), PEER_CALLS)  # type: ignore[misc]
        if k == min(ROWS):
            apart[name] = inexactness(world, lambda x, _, p=peer: p.predict(x), exact)  # type: ignore[misc]
    rates = {name: len(people.get(name, world.people)) / s for name, s in seconds.items()}
    rate = {name: float(np.median(each)) for name, each in rates.items()}
    times = {name: float(np.median(rates[OURS] / each)) for name, each in rates.items()}
    return Found(rate, times, alone, apart)


def choice(world: World, hashes: Keys) -> Cost:
    """One person's choice, from features to action."""
    n = len(world.people)
    return measure(lambda i: ours(world, slice(i % n, i % n + 1), hashes), CALLS)


def shown(k: int, found: Found) -> str:
    """A table."""
    lines = [f"\nk = {k:<27}{'rows/s':>10}{'ours is':>9}{ONE}{'inexact':>9}"]
    for name, rate in found.rate.items():
        one = found.alone.get(name, "")
        apart = f"{found.apart[name]:9.3f}" if name in found.apart else ""
        lines.append(f"{name:<31}{rate:10,.0f}{found.times[name]:8.1f}x{one!s:30}{apart}")
    return "\n".join(lines)


def goals(k: int, found: Found) -> list[Goal]:
    """What has to hold."""
    rate, times = found.rate, found.times
    common = [
        Goal(f"rows/s, k = {k}", rate[OURS], {10: 700_000, 100: 80_000}[k], is_least=True),
        Goal(f"times mabwiser, k = {k}", times["mabwiser LinTS 1"], 5, is_least=True),
        Goal(f"times vowpalwabbit, k = {k}", times["vowpalwabbit squarecb"], 50, True),
        Goal(f"shares off the exact ones, k = {k}", found.apart[OURS], 0.012),
    ]
    if k == min(ROWS):
        common += [
            Goal("a row with propensities, us, k = 10", 1e6 / rate[WITH_P], 14),
            Goal("one choice, p99 us when calm, k = 10", found.alone[OURS].calm_p99, 60),
        ]
    return common


def main() -> None:
    """Print the tables and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    as_json = parser.parse_args().json
    found = {}
    for k in ROWS:
        found[k] = bench(k)
        print(shown(k, found[k]), file=table_to(as_json), flush=True)
    many = make(ALONE)
    alone = choice(many, draw_streams(many.state.actions))
    print(f"\nk = {ALONE:<46}{ONE}\n{OURS:<50}{alone}", file=table_to(as_json))
    all_goals = [goal for k, f in found.items() for goal in goals(k, f)]
    all_goals.append(Goal(f"one choice, p99 us when calm, k = {ALONE}", alone.calm_p99, 350))
    figures = {str(k): asdict(f) for k, f in found.items()}
    judge(all_goals, as_json, found=figures, alone_at_500=asdict(alone))


if __name__ == "__main__":
    main()
