"""The policies: one module each, all with the same two functions.

Adding one is a file here, a line in `POLICIES` and its settings in `config.py`; the laws in
`decision_engine.testing` then apply to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from decision_engine import config
from decision_engine.factors import Units, units_of
from decision_engine.policies import (
    factored_linear_thompson,
    fixed,
    linear_thompson,
    uniform,
    weighted_thompson,
)
from decision_engine.state import PolicyState
from decision_engine.types import Action, Bools, Family, Floats


class PolicyModule(Protocol):
    """What a policy module offers. `FAMILY` is the law its (mean, sd) are drawn by."""

    @property
    def FAMILY(self) -> Family:  # noqa: N802 - a module constant
        """The law of the draws."""

    def posterior(
        self, state: PolicyState, actions: tuple[str, ...], x: Floats
    ) -> tuple[Floats, Floats]:
        """Mean and sd (n, k) of each action for raw features x (n, d); (n, 0) without a law."""

    def weights(self, state: PolicyState, actions: tuple[str, ...]) -> Floats:
        """The weights (k, D) whose product with the standardised features is the mean.

        These are led by a 1. (0, D) without a law.
        """

    def in_rewards(self, state: PolicyState, mean: Floats) -> Floats:
        """The posterior means (n, k) in units of the reward."""


class SampledPolicy(Protocol):
    """What a policy module of the family `samples` offers besides."""

    def shares(
        self, state: PolicyState, actions: tuple[str, ...], x: Floats, eligible: Bools
    ) -> Floats:
        """The share (n, k) of its frozen samples that each eligible action wins; rows sum to 1."""


POLICIES: Mapping[str, PolicyModule] = {
    "uniform": uniform,
    "fixed": fixed,
    "weighted_thompson": weighted_thompson,
    "linear_thompson": linear_thompson,
    "factored_linear_thompson": factored_linear_thompson,
}
SAMPLED: Mapping[str, SampledPolicy] = {"factored_linear_thompson": factored_linear_thompson}


def shares(
    kind: str, state: PolicyState, actions: tuple[str, ...], x: Floats, eligible: Bools
) -> Floats | None:
    """The shares (n, k) by which a policy of the family `samples` draws; None for the others."""
    return SAMPLED[kind].shares(state, actions, x, eligible) if kind in SAMPLED else None


def shared_units(policy: config.Policy, actions: Iterable[Action]) -> Units:
    """What the actions share by this policy; nothing by those that learn each action alone."""
    if not isinstance(policy, config.FactoredLinearThompson):
        return {}
    return units_of(actions, policy.pairs)


def kind_of(policy: config.Policy) -> str:
    """The name of a configured policy, a key of `POLICIES`."""
    return str(policy.__struct_config__.tag)


def floor_of(policy: config.Policy) -> float:
    """The floor of a configured policy; 0 for those that have none."""
    return float(getattr(policy, "floor", 0.0))


def preference_of(policy: config.Policy, actions: tuple[str, ...]) -> tuple[int, ...]:
    """The action indices a fixed policy prefers, best first; no_action for all others."""
    wanted = policy.actions if isinstance(policy, config.FixedPolicy) else ()
    return tuple(actions.index(a) for a in wanted if a in actions) or (0,)
