"""For whom a guardrail that is ours to choose does not hold, so that its price can be measured.

A small share of customers, fixed by a hash of their own for each guardrail. Law, consent and
what protects a person are never waived: `config.Waivable` does not name them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from decision_engine.config import Project, Waivable
from decision_engine.keys import customer_keys, uniforms
from decision_engine.types import Bools, Column

FACT = "waived"
"""The fact in a decision's record that names what was waived, by comma; '' for nothing."""


def is_waived(project: Project, guardrail: Waivable, customer_ids: Iterable[str]) -> Bools:
    """(n,): the customers for whom the guardrail does not hold."""
    own = customer_keys(project.salt, f"waived\x1f{guardrail}", customer_ids)
    waived: Bools = uniforms(own, "waived")[:, 0] < project.waived.get(guardrail, 0.0)
    return waived


def waived_facts(project: Project, customer_ids: Any) -> dict[str, Column]:
    """What goes into the record of n decisions; nothing when the project waives nothing."""
    if not project.waived:
        return {}
    names = np.full(len(customer_ids), "", dtype=object)
    for guardrail in sorted(project.waived):
        names = names + np.where(is_waived(project, guardrail, customer_ids), f",{guardrail}", "")
    texts = np.array([name.lstrip(",") for name in names], dtype=object)
    return {FACT: Column(texts, np.ones(len(texts), dtype=bool))}


def names_of(fact: object) -> list[str]:
    """The guardrails that a logged fact names."""
    return [name for name in str(fact or "").split(",") if name]
