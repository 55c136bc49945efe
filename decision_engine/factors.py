"""Effects that actions share, and the linear algebra of learning them together.

An action has one block of weights of its own creative, and one for each value it shares with other
actions (its channel, hour, incentive, the attributes of its creative, pairs of these). Everything
comes from the sums per action, so what is shared can be changed without learning anew.

Symbols: k actions, D = d + 1 features led by a 1, C own blocks, S shared ones, M samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from decision_engine.types import NO_ACTION, Action, Floats, Ints

Units = Mapping[str, tuple[str, ...]]
"""Action key -> its own block, then its shared ones; an action that is not there has only its own,
named like the action."""

DIMENSIONS = ("channel", "incentive", "send_hour")


def units_of(actions: Iterable[Action], pairs: Sequence[tuple[str, str]]) -> Units:
    """The blocks of each action but `no_action`; `pairs` name dimensions or attributes."""
    return {a.key: _units(a, pairs) for a in actions if a.key != NO_ACTION}


def _units(action: Action, pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    hour = "now" if action.send_hour is None else str(action.send_hour)
    values = dict(zip(DIMENSIONS, (action.channel, action.incentive, hour), strict=True))
    values |= dict(action.attributes)
    both = [
        f"{a}={values[a]}&{b}={values[b]}" for a, b in pairs if a in values and b in values
    ]
    return (f"creative={action.creative}", *(f"{n}={v}" for n, v in values.items()), *both)


class Precisions(NamedTuple):
    """Prior precisions of a block's intercept and context weights, in units of 1 / noise^2."""

    own: tuple[float, float] = (100.0, 300.0)
    shared: tuple[float, float] = (100.0, 300.0)


@dataclass(frozen=True, eq=False)
class Design:
    """Which blocks each of k actions has: `own` (k,) in 0..C-1, `has` (k, S) of 0 and 1."""

    own_names: tuple[str, ...]
    shared_names: tuple[str, ...]
    own: Ints
    has: Floats

    @classmethod
    def of(cls, units: Units, actions: Sequence[str]) -> Design:
        """The design of the given actions, blocks in the order of their first mention."""
        blocks = [units.get(a) or (a,) for a in actions]
        own = {name: i for i, name in enumerate(dict.fromkeys(b[0] for b in blocks))}
        shared = {name: i for i, name in enumerate(dict.fromkeys(n for b in blocks for n in b[1:]))}
        has = np.zeros((len(actions), len(shared)))
        for row, block in enumerate(blocks):
            has[row, [shared[name] for name in block[1:]]] = 1.0
        rows = np.array([own[b[0]] for b in blocks], dtype=np.int64)
        return cls(tuple(own), tuple(shared), rows, has)

    def to_own(self, per_action: Floats) -> Floats:
        """Sums over the actions of each own block: (k, ...) to (C, ...)."""
        out = np.zeros((len(self.own_names), *per_action.shape[1:]))
        np.add.at(out, self.own, per_action)
        return out

    def to_shared(self, per_action: Floats) -> Floats:
        """Sums over the actions of each shared block: (k, ...) to (S, ...)."""
        flat = self.has.T @ per_action.reshape(len(per_action), -1)
        return flat.reshape(self.has.shape[1], *per_action.shape[1:])

    def weights(self, own: Floats, shared: Floats) -> Floats:
        """What the blocks of each action add up to: (C, ...), (S, ...) to (k, ...)."""
        flat = self.has @ shared.reshape(len(shared), own[0].size)
        out: Floats = own[self.own] + flat.reshape(-1, *own.shape[1:])
        return out


@dataclass(frozen=True, eq=False)
class Equations:
    """The normal equations of all blocks, from those of the actions, without the prior.

    `gram` (k, D, D) and `moment` (k, D) per action. Own blocks do not overlap, so they are
    eliminated one by one (Schur complement) and only the shared system (S D, S D) is dense.
    """

    design: Design
    gram: Floats
    moment: Floats

    @cached_property
    def own(self) -> Floats:
        """The grams of the own blocks (C, D, D)."""
        return self.design.to_own(self.gram)

    @cached_property
    def shared(self) -> Floats:
        """The gram of the shared blocks (S D, S D)."""
        has, size = self.design.has, self.gram.shape[1]
        flat = self.gram.reshape(len(self.gram), -1)
        rows = [(column[:, None] * has).T @ flat for column in has.T]
        blocks = np.array(rows).reshape(has.shape[1], has.shape[1], size, size)
        return blocks.transpose(0, 2, 1, 3).reshape(has.shape[1] * size, has.shape[1] * size)

    @cached_property
    def cross(self) -> Floats:
        """The products of shared and own blocks: (C, S D, D)."""
        has, size = self.design.has, self.gram.shape[1]
        blocks = np.zeros((len(self.design.own_names), has.shape[1], size, size))
        for u, column in enumerate(has.T):
            rows = np.flatnonzero(column)
            np.add.at(blocks[:, u], self.design.own[rows], self.gram[rows])
        return blocks.reshape(len(blocks), has.shape[1] * size, size)

    def solver(self, precisions: Precisions) -> Solver:
        """The factors of the whole system under a prior."""
        return Solver(self, precisions)


class Solver:
    """(C + S) blocks of weights from right-hand sides, and the log marginal likelihood."""

    def __init__(self, equations: Equations, precisions: Precisions) -> None:
        size = equations.gram.shape[1]
        self._own_prior, self._shared_prior = (
            prior(size, *p) for p in (precisions.own, precisions.shared)
        )
        self._factor = np.linalg.cholesky(equations.own + np.diag(self._own_prior))
        self._inverse = np.linalg.inv(self._factor)
        half = equations.cross @ self._inverse.transpose(0, 2, 1)
        own, side, _ = half.shape
        self._half = half.transpose(1, 0, 2).reshape(side, own * size)
        count = equations.design.has.shape[1]
        system = equations.shared + np.diag(np.tile(self._shared_prior, count))
        system -= self._half @ self._half.T
        self._shared = np.linalg.cholesky(system)

    def solve(self, own: Floats, shared: Floats) -> tuple[Floats, Floats]:
        """The blocks (C, D, m), (S, D, m) that solve for the sides (C, D, m), (S, D, m)."""
        reduced_own = self._inverse @ own
        m = own.shape[-1]
        side = shared.reshape(len(self._shared), m) - self._half @ reduced_own.reshape(-1, m)
        found = np.linalg.solve(self._shared.T, np.linalg.solve(self._shared, side))
        rest = reduced_own - (self._half.T @ found).reshape(own.shape)
        return self._inverse.transpose(0, 2, 1) @ rest, found.reshape(shared.shape)

    def log_evidence(self, own: Floats, shared: Floats, noise: float) -> float:
        """log p(rewards) up to a constant, for the moments (C, D) and (S, D)."""
        reduced = (self._inverse @ own[:, :, None]).reshape(-1)
        side = np.linalg.solve(self._shared, shared.reshape(-1) - self._half @ reduced)
        explained = (reduced @ reduced + side @ side) / noise**2
        log_det = np.log(np.diagonal(self._factor, axis1=1, axis2=2)).sum()
        log_det += np.log(np.diagonal(self._shared)).sum()
        log_prior = len(own) * np.log(self._own_prior).sum()
        log_prior += len(shared) * np.log(self._shared_prior).sum()
        return float(log_prior / 2 - log_det + explained / 2)


def prior(size: int, intercept: float, context: float) -> Floats:
    """The diagonal (D,) of a block's prior precision."""
    return np.concatenate([[intercept], np.full(size - 1, context)])


GRID = tuple(float(10 ** (e / 2)) for e in range(1, 9))
"""Precisions to choose from, 3 to 10,000."""


def credible_precisions(equations: Equations, noise: float) -> Precisions:
    """The most credible prior precisions by marginal likelihood: uphill, one at a time."""
    own, shared = (
        part(equations.moment) for part in (equations.design.to_own, equations.design.to_shared)
    )
    seen: dict[tuple[int, ...], float] = {}

    def value(place: tuple[int, ...]) -> float:
        if place not in seen:
            seen[place] = equations.solver(_at(place)).log_evidence(own, shared, noise)
        return seen[place]

    place: tuple[int, ...] = (3, 4, 3, 4)
    moving = True
    while moving:
        moving = False
        for i in range(4 if len(shared) else 2):
            for step in (1, -1):
                while 0 <= place[i] + step < len(_SCALE[i % 2]):
                    there = (*place[:i], place[i] + step, *place[i + 1 :])
                    if value(there) <= value(place) + 1e-9:
                        break
                    place, moving = there, True
    return _at(place)


_SCALE = (GRID, (*GRID[2:], 1e9))


def _at(place: tuple[int, ...]) -> Precisions:
    values = [_SCALE[i % 2][p] for i, p in enumerate(place)]
    return Precisions((values[0], values[1]), (values[2], values[3]))
