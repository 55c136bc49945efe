"""The policies: one module each, all with the same two functions.

Adding one is a file here, a line in `POLICIES` and its settings in `config.py`; the laws in
`decision_engine.testing` then apply to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from decision_engine import config
from decision_engine.policies import fixed, linear_thompson, uniform, weighted_thompson
from decision_engine.state import PolicyState
from decision_engine.types import Family, Floats


class PolicyModule(Protocol):
    """What a policy module offers. `FAMILY` is the law its (mean, sd) are drawn by."""

    @property
    def FAMILY(self) -> Family:  # noqa: N802 - a module constant
        """The law of the draws."""

    def posterior(
        self, state: PolicyState, actions: tuple[str, ...], x: Floats
    ) -> tuple[Floats, Floats]:
        """Mean and sd (n, k) of each action for raw features x (n, d); (n, 0) without a law."""

    def in_rewards(self, state: PolicyState, mean: Floats) -> Floats:
        """The posterior means (n, k) in units of the reward."""


POLICIES: Mapping[str, PolicyModule] = {
    "uniform": uniform,
    "fixed": fixed,
    "weighted_thompson": weighted_thompson,
    "linear_thompson": linear_thompson,
}


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
