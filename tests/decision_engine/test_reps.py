"""Reps have little time: it goes to those for whom a call pays, weighed with all else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from decision_engine import epochs
from decision_engine.across_agents import decide_batch
from decision_engine.agent_in_epoch import AgentInEpoch, at_prices, in_epoch
from decision_engine.arrow import contexts_of
from decision_engine.batch import needed
from decision_engine.config import Limit, QuietHours
from decision_engine.learn import Rewards, learn
from decision_engine.pricing import prices_of
from decision_engine.scaffold import init
from decision_engine.testing import sample_rewards
from decision_engine.types import Floats, Reason
from decision_engine.workspace import Workspace
from tests.decision_engine.test_batch import EPOCH
from tests.end_to_end.bench_decide import PROFILES

CUSTOMERS, CAPACITY = 800, 60
NOTE, CALL = 1, 2
AGENT = """
agent: renewals
goal: Keep the customers whose contract ends soon.
audience: orders_count >= 0
outcomes: [{event: order, weight: 1.0}]
context: [{column: sms_click_rate}]
actions: [{creative: a_note}, {creative: call_back}]
policy: {kind: linear_thompson, floor: 0}
groups: [{name: treatment, share: 1.0}]
"""
CREATIVES = """
- {creative: a_note, channel: email, campaign_id: note, subject: A note}
- {creative: call_back, channel: rep, campaign_id: calls, subject: Call them back}
"""


def worth(u: Floats) -> Floats:
    """(n, 3): a note helps everybody a little; a call those with a high u, and annoys the rest."""
    return np.stack([np.zeros_like(u), np.full_like(u, 0.2), 3 * (u - 0.5)], axis=1)


def history(rng: np.random.Generator, n: int = 4_000) -> Rewards:
    """What came of moves that were drawn evenly."""
    u, row = rng.random(n), np.arange(n)
    drawn = replace(sample_rewards(rng, n, 3), x=u[:, None] / 5, weight=np.ones(n))
    reward = worth(u)[row, drawn.action] + rng.normal(0, 0.5, n)
    return replace(drawn, reward=reward, is_closed=np.ones(n, dtype=np.bool_))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, AgentInEpoch]:
    """A project with a rep's few hours, and an agent that has seen what a call is worth."""
    folder: Path = tmp_path_factory.mktemp("reps") / "shop"
    init(folder, "shop", salt="salt-of-the-reps-0123")
    for path in (folder / "agents").iterdir():
        path.unlink()
    (folder / "agents" / "renewals.yml").write_text(AGENT)
    (folder / "creatives" / "renewals.yml").write_text(CREATIVES)
    text = (folder / "nextmove.yml").read_text().replace("sms: braze", "sms: braze\n  rep: hubspot")
    text = text[: text.index("groups:")] + "groups: [{name: treatment, share: 1.0}]\n"
    (folder / "nextmove.yml").write_text(text)
    workspace = Workspace.open(folder)
    limit = Limit("calls", "rep_capacity", channels=("rep",))
    rules = msgspec.structs.replace(
        workspace.project, limits=(limit,), quiet_hours=QuietHours(0, 24)
    )
    workspace = replace(workspace, project=rules)
    table, reps = workspace.model(epochs.FEATURES), workspace.model("stg_crm__reps")
    with workspace.warehouse() as warehouse:
        warehouse.rows("create schema nextmove")
        warehouse.rows(PROFILES.format(n=CUSTOMERS))
        for column in ("has_rep", "consent_rep", "service_consent_rep"):
            # It is not known of one in nine.
            known = f"nullif(hash(customer_id, {len(column)}) % 9 > 0, false)"
            warehouse.rows(f"alter table {table} add column {column} boolean")
            warehouse.rows(f"update {table} set {column} = {known}")
        warehouse.rows(
            f"create table {reps} as select * from"
            f" (values ({CAPACITY // 2}, true), ({CAPACITY - CAPACITY // 2}, true), (500, false))"
            " t(capacity_per_day, is_available)"
        )
    catalog = workspace.catalog("renewals")
    assert [a.channel for a in catalog.actions] == ["", "email", "rep"]
    state = learn(
        None, [history(np.random.default_rng(4))], agent="renewals", policy="linear_thompson",
        actions=catalog.keys, features=("sms_click_rate",), as_of=10 * 86_400.0,
    )  # fmt: skip
    return workspace, in_epoch(workspace, "renewals", state)


def test_scarce_reps_go_to_those_for_whom_they_pay(shop: tuple[Workspace, AgentInEpoch]) -> None:
    workspace, agent = shop
    columns = needed(workspace.project, [agent])
    with workspace.warehouse() as warehouse:
        prices = prices_of(workspace, warehouse, [agent], EPOCH, columns)
        table = workspace.model(epochs.FEATURES)
        names = ", ".join(["customer_id", *columns])
        (batch,) = warehouse.query(f"select {names} from {table} order by customer_id")
    contexts = contexts_of(batch)
    (priced,) = at_prices(workspace, [agent], prices)
    assert priced.costs is not None
    # The reps' time alone has a price.
    assert (priced.costs > 0).tolist() == [False, False, True]

    (_, wished), *_ = decide_batch(contexts, [agent], EPOCH, workspace.project)
    (_, made), *_ = decide_batch(contexts, [priced], EPOCH, workspace.project)
    assert (made.customer_ids == wished.customer_ids).all()
    rows = np.isin(contexts.customer_ids, made.customer_ids)
    u = 5 * contexts.columns["sms_click_rate"].values[rows]
    called, wanted = made.action == CALL, wished.action == CALL
    assert 0.85 * CAPACITY <= called.sum() <= CAPACITY < wanted.sum() / 2

    may = wished.reasons[:, CALL] == Reason.ELIGIBLE
    for name in ("has_rep", "consent_rep"):
        known = contexts.columns[name].valid[rows]
        assert not (may & ~known).any()
        assert not known.all()
    gain = worth(u)[:, CALL]
    best = np.sort(gain[may])[-called.sum() :]
    assert gain[called].sum() > 0.97 * best.sum()
    # Whom the reps have no time for gets the next best.
    left_out = wanted & ~called & (wished.reasons[:, NOTE] == Reason.ELIGIBLE)
    assert left_out.sum() > CAPACITY
    assert (made.action[left_out] == NOTE).mean() > 0.95
