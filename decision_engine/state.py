"""What a policy has learned: sums that add, and the frozen settings they are read with.

D = d + 1: every raw feature vector is led by a 1 for the intercept.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from decision_engine.factors import Precisions, Units
from decision_engine.types import Floats

FORMAT = 1
CONTEXT_FREE = 1e9
"""A context precision so high that the features have no influence left."""
DEFAULT_PRECISION = 100.0
"""Weak enough that differences between customers show before there is evidence to choose by."""

_THETA_ARRAYS = ("feature_mean", "feature_scale", "common")
_OPTIONAL = {"precisions": None, "usual_from": 0.0}


@dataclass(frozen=True, eq=False)
class Sums:
    """Additive evidence per action, in the raw feature basis.

    `count` (k,) decisions · `square` (k,) sum w r^2 · `gram` (k, D, D) sum w x x' ·
    `moment` (k, D) sum w r x. The sum of w is gram[:, 0, 0], of w r moment[:, 0].
    """

    count: Floats
    square: Floats
    gram: Floats
    moment: Floats

    @classmethod
    def zeros(cls, k: int, d: int) -> Sums:
        """No evidence for k actions and d features."""
        return cls(np.zeros(k), np.zeros(k), np.zeros((k, d + 1, d + 1)), np.zeros((k, d + 1)))

    @property
    def weight(self) -> Floats:
        """Sum of w per action (k,)."""
        return self.gram[:, 0, 0]

    @property
    def reward(self) -> Floats:
        """Sum of w r per action (k,)."""
        return self.moment[:, 0]

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(getattr(self, f) + getattr(other, f) for f in _SUMS))

    def __sub__(self, other: Sums) -> Sums:
        return Sums(*(getattr(self, f) - getattr(other, f) for f in _SUMS))

    def scaled(self, factor: float) -> Sums:
        """The evidence with every weight multiplied by `factor`; counts stay."""
        return Sums(self.count, *(getattr(self, f) * factor for f in _SUMS[1:]))

    def take(self, rows: list[int]) -> Sums:
        """The sums of the given actions; -1 stands for an action without evidence."""
        out = Sums.zeros(len(rows), self.moment.shape[1] - 1)
        known = [(to, row) for to, row in enumerate(rows) if row >= 0]
        for name in _SUMS:
            for to, row in known:
                getattr(out, name)[to] = getattr(self, name)[row]
        return out


_SUMS = tuple(f.name for f in fields(Sums))


@dataclass(frozen=True, eq=False)
class Theta:
    """The settings a posterior is computed with; only `learn` refits them.

    `feature_mean`, `feature_scale` (d,) standardise the raw features · `common` (D,) the weights
    of a model of all actions together, where every action's prior is centred · `noise` the sd of
    one reward · `low`, `high` the rewards that are 0 and 1 for a Beta policy ·
    `context_precision` the prior precision of an action's own weights of the standardised
    features (the intercept's is 1), both in units of 1 / noise^2 · `precisions` those of the
    blocks of a factored policy, None before there is evidence to choose them by · `usual` (D,)
    the weights in raw features of what a customer's reward usually is, in units of the mean
    reward; None when it counts as the same for all. Sums made under one are of no use under
    another · `usual_from` the closed decisions that it was fitted to.
    """

    feature_mean: Floats
    feature_scale: Floats
    common: Floats
    noise: float = 1.0
    low: float = 0.0
    high: float = 1.0
    context_precision: float = DEFAULT_PRECISION
    half_life_days: float | None = None
    precisions: Precisions | None = None
    usual: Floats | None = None
    usual_from: float = 0.0

    @classmethod
    def initial(cls, d: int, context_precision: float, half_life_days: float | None) -> Theta:
        """Before any reward was seen: features as they are, noise 1."""
        return cls(
            np.zeros(d),
            np.ones(d),
            np.zeros(d + 1),
            context_precision=context_precision,
            half_life_days=half_life_days,
        )


@dataclass(frozen=True, eq=False)
class PolicyState:
    """The learned state of one agent's policy at `as_of` (Unix seconds, UTC).

    `units` say what actions share, for policies that learn by it (`factors`).
    `closed` sums over decisions whose outcome window is closed, decayed to `as_of`; `open` over
    the others, made anew by every learn. `actions` and `features` name the axes of the sums.
    """

    agent: str
    policy: str
    actions: tuple[str, ...]
    features: tuple[str, ...]
    as_of: float
    closed: Sums
    open: Sums
    theta: Theta
    units: Units = field(default_factory=dict)

    @classmethod
    def initial(
        cls,
        agent: str,
        policy: str,
        actions: tuple[str, ...],
        features: tuple[str, ...],
        as_of: float = 0.0,
        context_precision: float = DEFAULT_PRECISION,
        half_life_days: float | None = None,
    ) -> PolicyState:
        """The prior: no evidence for any action; `as_of` 0, so every decision is still to learn."""
        k, d = len(actions), len(features)
        theta = Theta.initial(d, context_precision, half_life_days)
        zeros = Sums.zeros(k, d)
        return cls(agent, policy, actions, features, as_of, zeros, zeros, theta)

    @cached_property
    def version(self) -> str:
        """The first 16 hex digits of the SHA-256 of the content."""
        digest = hashlib.sha256(json.dumps(_header(self), sort_keys=True).encode())
        for name, array in _arrays(self).items():
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    @property
    def decisions(self) -> int:
        """How many it has learned from, open ones too."""
        return int(self.closed.count.sum() + self.open.count.sum())

    def evidence(self, actions: tuple[str, ...]) -> Sums:
        """Closed and open sums of the given actions, in their order.

        An action the state does not know has none and starts from the prior; actions that are
        not asked for stay in the state.
        """
        return (self.closed + self.open).take(self.rows_of(actions))

    def rows_of(self, actions: tuple[str, ...]) -> list[int]:
        """The row of each action in the sums, -1 for an unknown one."""
        known = {a: i for i, a in enumerate(self.actions)}
        return [known.get(a, -1) for a in actions]

    def with_units(self, units: Units) -> PolicyState:
        """The same state with the given actions sharing what `units` say."""
        union = {**self.units, **units}
        return self if union == self.units else replace(self, units=union)

    def with_actions(self, actions: tuple[str, ...]) -> PolicyState:
        """The same state with rows of zeros for the actions it did not know yet."""
        union = self.actions + tuple(a for a in actions if a not in set(self.actions))
        rows = self.rows_of(union)
        return replace(
            self, actions=union, closed=self.closed.take(rows), open=self.open.take(rows)
        )


def save(state: PolicyState) -> bytes:
    """The state as bytes: an uncompressed npz without pickles, with a JSON header."""
    out = io.BytesIO()
    header = json.dumps(_header(state), sort_keys=True)
    np.savez(out, allow_pickle=False, header=np.array(header), **_arrays(state))
    return out.getvalue()


def load(data: bytes) -> PolicyState:
    """The state that `save` wrote. Raises ValueError when the bytes are anything else."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(str(arrays.pop("header")))
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError("the policy state is damaged: it cannot be read") from error
    if header.pop("format", None) != FORMAT:
        raise ValueError(f"the policy state is not of format {FORMAT}")
    return _build(header, arrays)


def _build(header: dict[str, Any], arrays: dict[str, Any]) -> PolicyState:
    settings = {**_settings(header.pop("theta")), "usual": arrays.get("usual")}
    theta = Theta(*(arrays[name] for name in _THETA_ARRAYS), **settings)
    header["units"] = {a: tuple(blocks) for a, blocks in header.get("units", {}).items()}
    header["actions"], header["features"] = tuple(header["actions"]), tuple(header["features"])
    closed, not_closed = (
        Sums(*(arrays[f"{part}_{f}"] for f in _SUMS)) for part in ("closed", "open")
    )
    return PolicyState(closed=closed, open=not_closed, theta=theta, **header)


def _settings(header: dict[str, Any]) -> dict[str, Any]:
    """The settings as `Theta` takes them, from what `_header` wrote."""
    if "precisions" in header:
        own, shared = header["precisions"]
        header = {**header, "precisions": Precisions(tuple(own), tuple(shared))}
    return header


def _header(state: PolicyState) -> dict[str, Any]:
    arrays = (*_THETA_ARRAYS, "usual")
    theta = {f.name: getattr(state.theta, f.name) for f in fields(Theta) if f.name not in arrays}
    theta = {n: value for n, value in theta.items() if value != _OPTIONAL.get(n, ...)}
    return {
        "format": FORMAT,
        "agent": state.agent,
        "policy": state.policy,
        "actions": list(state.actions),
        "features": list(state.features),
        "as_of": state.as_of,
        "theta": theta,
        **({"units": dict(state.units)} if state.units else {}),
    }


def _arrays(state: PolicyState) -> dict[str, Floats]:
    return {
        **{name: getattr(state.theta, name) for name in _THETA_ARRAYS},
        **({"usual": state.theta.usual} if state.theta.usual is not None else {}),
        **{f"closed_{f}": getattr(state.closed, f) for f in _SUMS},
        **{f"open_{f}": getattr(state.open, f) for f in _SUMS},
    }
