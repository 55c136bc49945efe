"""Effects that actions share, and the linear algebra of learning them together.

An action has one block of weights of its own creative, and one for each value it shares with other
actions: its channel, hour and incentive, the attributes of its creative, and pairs of these.
Everything comes from the sums per action, so what is shared can change without learning anew.

Symbols: k actions, D = d + 1 features led by a 1, C own blocks, S shared ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from decision_engine.types import NO_ACTION, Action, Floats, Ints

Units = Mapping[str, tuple[str, ...]]
"""Action key -> its own block, then its shared ones. An action that is not there has one block,
named like the action."""

WAIT = "wait_days"
DIMENSIONS = ("channel", "incentive", "send_hour", WAIT)
"""What actions have, besides the attributes of their creatives; waits only if they differ."""

_STEPS = tuple(10.0 ** (e / 2) for e in range(1, 9))
_GRIDS = (_STEPS, (*_STEPS[2:], 1e9))
"""Precisions to choose from, of intercepts and of context weights: half powers of ten."""


def units_of(actions: Iterable[Action], pairs: Sequence[tuple[str, str]]) -> Units:
    """The blocks of each action but `no_action`; `pairs` name dimensions or attributes.

    A pair is left out for actions that lack one of the two, and so are waits that are all alike.
    """
    messages = [a for a in actions if a.key != NO_ACTION]
    left_out = {WAIT} if len({a.wait_days for a in messages}) == 1 else set()
    return {a.key: _units(a, pairs, left_out) for a in messages}


def _units(action: Action, pairs: Sequence[tuple[str, str]], left_out: Set[str]) -> tuple[str, ...]:
    hour = "now" if action.send_hour is None else str(action.send_hour)
    its = (action.channel, action.incentive, hour, str(action.wait_days))
    values = {n: v for n, v in zip(DIMENSIONS, its, strict=True) if n not in left_out}
    values |= dict(action.attributes)
    both = [f"{a}={values[a]}&{b}={values[b]}" for a, b in pairs if {a, b} <= values.keys()]
    return (f"creative={action.creative}", *(f"{n}={v}" for n, v in values.items()), *both)


class Precisions(NamedTuple):
    """Prior precisions (intercept, context weights) of own and of shared blocks.

    In units of 1 / noise^2, of standardised features.
    """

    own: tuple[float, float] = (100.0, 1000.0)
    shared: tuple[float, float] = (100.0, 1000.0)


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
        own = _numbered(b[0] for b in blocks)
        shared = _numbered(name for b in blocks for name in b[1:])
        has = np.zeros((len(actions), len(shared)))
        for row, block in enumerate(blocks):
            has[row, [shared[name] for name in block[1:]]] = 1.0
        return cls(tuple(own), tuple(shared), np.array([own[b[0]] for b in blocks]), has)

    def to_own(self, per_action: Floats) -> Floats:
        """Sums over the actions of each own block: (k, ...) to (C, ...)."""
        out = np.zeros((len(self.own_names), *per_action.shape[1:]))
        np.add.at(out, self.own, per_action)
        return out

    def to_shared(self, per_action: Floats) -> Floats:
        """Sums over the actions of each shared block: (k, ...) to (S, ...)."""
        flat = self.has.T @ per_action.reshape(len(per_action), -1)
        return flat.reshape(len(self.shared_names), *per_action.shape[1:])

    def weights(self, own: Floats, shared: Floats) -> Floats:
        """What the blocks of each action add up to: (C, ...) and (S, ...) to (k, ...)."""
        flat = self.has @ shared.reshape(len(shared), own[0].size)
        out: Floats = own[self.own] + flat.reshape(-1, *own.shape[1:])
        return out


@dataclass(frozen=True, eq=False)
class Equations:
    """The normal equations of all blocks, from those per action, without the prior.

    `gram` (k, D, D) and `moment` (k, D) are per action. Own blocks do not overlap, so each is
    eliminated by itself (Schur complement), and only the shared system (S D, S D) is dense.
    """

    design: Design
    gram: Floats
    moment: Floats

    @property
    def size(self) -> int:
        """D."""
        return int(self.gram.shape[1])

    @cached_property
    def own(self) -> Floats:
        """The grams of the own blocks (C, D, D)."""
        return self.design.to_own(self.gram)

    @cached_property
    def shared(self) -> Floats:
        """The gram of the shared blocks (S D, S D)."""
        has, size = self.design.has, self.size
        count = has.shape[1]
        flat = self.gram.reshape(len(self.gram), -1)
        rows = [(column[:, None] * has).T @ flat for column in has.T]
        blocks = np.array(rows).reshape(count, count, size, size)
        return blocks.transpose(0, 2, 1, 3).reshape(count * size, count * size)

    @cached_property
    def cross(self) -> Floats:
        """The products of shared and own blocks (C, S D, D)."""
        has, size = self.design.has, self.size
        blocks = np.zeros((len(self.design.own_names), has.shape[1], size, size))
        for u, column in enumerate(has.T):
            rows = np.flatnonzero(column)
            np.add.at(blocks[:, u], self.design.own[rows], self.gram[rows])
        return blocks.reshape(len(blocks), has.shape[1] * size, size)

    @cached_property
    def moments(self) -> tuple[Floats, Floats]:
        """The right-hand sides of the own (C, D) and the shared blocks (S, D)."""
        return self.design.to_own(self.moment), self.design.to_shared(self.moment)


class Solver:
    """The whole system under a prior, factored: blocks from right-hand sides, and its evidence."""

    def __init__(self, equations: Equations, own_prior: Floats, shared_prior: Floats) -> None:
        """The priors are diagonals (D,) of precisions."""
        own, count = equations.own, len(equations.design.shared_names)
        self._factor = np.linalg.cholesky(own + np.diag(own_prior))
        self._inverse = np.linalg.inv(self._factor)
        half = equations.cross @ self._inverse.transpose(0, 2, 1)
        self._half = half.transpose(1, 0, 2).reshape(half.shape[1], own.shape[0] * own.shape[1])
        system = equations.shared + np.diag(np.tile(shared_prior, count))
        self._shared = np.linalg.cholesky(system - self._half @ self._half.T)
        log_prior = len(own) * np.log(own_prior).sum() + count * np.log(shared_prior).sum()
        self._log_ratio = log_prior / 2 - self._log_root()

    def _log_root(self) -> float:
        own = np.log(np.diagonal(self._factor, axis1=1, axis2=2)).sum()
        return float(own + np.log(np.diagonal(self._shared)).sum())

    def solve(self, own: Floats, shared: Floats) -> tuple[Floats, Floats]:
        """The blocks (C, D, m), (S, D, m) that solve for the sides (C, D, m), (S, D, m)."""
        reduced, side = self._reduced(own, shared)
        found = np.linalg.solve(self._shared.T, side)
        rest = reduced - (self._half.T @ found).reshape(own.shape)
        return self._inverse.transpose(0, 2, 1) @ rest, found.reshape(shared.shape)

    def log_evidence(self, own: Floats, shared: Floats, noise: float) -> float:
        """The log marginal likelihood, up to a constant, for the moments (C, D) and (S, D)."""
        reduced, side = self._reduced(own[:, :, None], shared[:, :, None])
        explained = float(np.square(reduced).sum() + np.square(side).sum())
        return float(self._log_ratio + explained / (2 * noise**2))

    def _reduced(self, own: Floats, shared: Floats) -> tuple[Floats, Floats]:
        m = own.shape[-1]
        reduced = self._inverse @ own
        side = shared.reshape(len(self._shared), m) - self._half @ reduced.reshape(-1, m)
        return reduced, np.linalg.solve(self._shared, side)


def solver(equations: Equations, precisions: Precisions) -> Solver:
    """The system under the prior of these precisions."""
    return Solver(equations, *(diagonal(equations.size, p) for p in precisions))


def diagonal(size: int, precisions: tuple[float, float]) -> Floats:
    """The prior precisions (D,) of one block."""
    return np.array([precisions[0], *[precisions[1]] * (size - 1)])


def credible_precisions(equations: Equations, noise: float) -> Precisions:
    """The precisions of highest marginal likelihood: uphill from the default, one at a time."""
    seen: dict[tuple[int, ...], float] = {}

    def value(place: tuple[int, ...]) -> float:
        if place not in seen:
            solved = solver(equations, _precisions(place))
            seen[place] = solved.log_evidence(*equations.moments, noise)
        return seen[place]

    place: tuple[int, ...] = (3, 3, 3, 3)
    while True:
        higher = [p for p in _neighbours(place, equations) if value(p) > value(place)]
        if not higher:
            return _precisions(place)
        place = max(higher, key=value)


def _neighbours(place: tuple[int, ...], equations: Equations) -> Iterable[tuple[int, ...]]:
    moved = range(4 if equations.design.shared_names else 2)
    steps = [(i, place[i] + step) for i in moved for step in (-1, 1)]
    ok = [(i, to) for i, to in steps if 0 <= to < len(_GRIDS[i % 2])]
    return [(*place[:i], to, *place[i + 1 :]) for i, to in ok]


def _precisions(place: tuple[int, ...]) -> Precisions:
    values = [_GRIDS[i % 2][p] for i, p in enumerate(place)]
    return Precisions((values[0], values[1]), (values[2], values[3]))


def _numbered(names: Iterable[str]) -> dict[str, int]:
    return {name: i for i, name in enumerate(dict.fromkeys(names))}
