"""Replay of a randomised log by rejection: what a policy that learns would have earned on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from decision_engine.evaluate import Log
from decision_engine.types import Bools, Floats, Ints


class Learner(Protocol):
    """A policy that learns while it is replayed; rows are indices into the log."""

    def choose(self, rows: Ints) -> Ints:
        """The action (m,) for each of m offered rows, from what was learned so far."""

    def learn(self, rows: Ints) -> None:
        """Learn from the accepted rows, whose logged action is the chosen one."""


@dataclass(frozen=True)
class Replay:
    """A replayed run: `mean` reward of the accepted rows, and of the second half of the offers.

    `shares` (k,) are the arm shares among the rows accepted in the second half.
    """

    offered: int
    accepted: int
    mean: float
    second_half: float
    shares: tuple[float, ...]


def replay(log: Log, order: Ints, learner: Learner, k: int, batch: int = 500) -> Replay:
    """Rejection-sampling replay of a log with uniform propensities (Li et al. 2011).

    Rows are offered in `order`, `batch` at a time; a row counts, and is learned from, when the
    learner chooses its logged action. The mean is unbiased for the learner run live on the
    accepted rows. Rows of a log with other propensities first go through `uniform_rows`.
    """
    kept = [_offer(log, order[i : i + batch], learner) for i in range(0, len(order), batch)]
    late = np.concatenate(kept[len(kept) // 2 :])
    rows = np.concatenate(kept)
    counts = np.bincount(log.action[late], minlength=k)
    return Replay(
        offered=len(order),
        accepted=len(rows),
        mean=_mean(log.reward[rows]),
        second_half=_mean(log.reward[late]),
        shares=tuple(float(c) / max(len(late), 1) for c in counts),
    )


def uniform_rows(propensity: Floats, rng: np.random.Generator) -> Bools:
    """Rows (n,) to keep so that the kept log is uniform: each with probability min(p) / p.

    Needs the smallest propensity of any action to be among the logged ones.
    """
    keep: Bools = rng.random(len(propensity)) * propensity < propensity.min()
    return keep


def _offer(log: Log, rows: Ints, learner: Learner) -> Ints:
    accepted: Ints = rows[learner.choose(rows) == log.action[rows]]
    learner.learn(accepted)
    return accepted


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")
