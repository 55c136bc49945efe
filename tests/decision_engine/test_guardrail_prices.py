"""Guardrails that are waived for a few: for whom, at the send boundary too, and their price."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.errors import ConfigurationError
from decision_engine.batch import decide_all
from decision_engine.cli import main
from decision_engine.config import Blackout, Project
from decision_engine.epochs import FEATURES
from decision_engine.evaluation import AgentEvaluation
from decision_engine.evaluation_report import price_lines
from decision_engine.guardrail_prices import Bitten, price, prices_of
from decision_engine.guardrails import at_send, reasons
from decision_engine.types import Reason
from decision_engine.waivers import is_waived
from decision_engine.workspace import Workspace
from tests.decision_engine.test_guardrails import (
    CATALOG,
    INTENT,
    NOON,
    PERSON,
    epoch,
    people,
    project,
)
from tests.decision_engine.test_plan import FILES, replacing
from tests.end_to_end.bench_decide import AS_OF, PROFILES

WAIVED = {"frequency_cap": 0.1, "quiet_hours": 0.1, "blackout": 0.1}
OURS = {Reason.FREQUENCY_CAP, Reason.QUIET_HOURS, Reason.BLACKOUT}


def waiving(**shares: float) -> Project:
    return msgspec.structs.replace(
        project(),
        waived=shares,
        blackouts=(Blackout(date(2026, 1, 15), date(2026, 1, 15), "rest"),),
    )


CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "is_suppressed": st.sampled_from([True, None]),
        "consent_email": st.sampled_from([False, None]),
        "has_open_complaint": st.sampled_from([True, None]),
        "sends_1d": st.sampled_from([1, None]),
        "sends_7d": st.sampled_from([3, None]),
        "sms_sends_1d": st.sampled_from([3, None]),
        "time_zone": st.sampled_from([None, "Asia/Tokyo", "America/New_York"]),
        "country": st.sampled_from(["US", None]),
        "region": st.sampled_from(["FL", "TX"]),
    },
)


@settings(max_examples=60, deadline=None)
@given(st.lists(CHANGES, min_size=1, max_size=8), st.sampled_from([0, 11, 17]))
def test_only_ours_give_way_and_only_for_the_few(changes: list[dict[str, Any]], hour: int) -> None:
    everybody, few = waiving(), waiving(**WAIVED)
    rows = people(*(changes * 20))
    moment = epoch(NOON.replace(hour=hour))
    before = reasons(rows, CATALOG, everybody, moment)
    after = reasons(rows, CATALOG, few, moment)
    drawn = np.stack([is_waived(few, g, rows.customer_ids) for g in few.waived]).any(axis=0)
    different = before != after
    assert not different[~drawn].any()
    assert {Reason(code) for code in before[different].tolist()} <= OURS
    assert not (before[different] == Reason.ELIGIBLE).any()


def test_unknown_counts_and_the_law_are_never_waived() -> None:
    few = waiving(frequency_cap=0.1)
    law = {"country": "US", "region": "FL", "sms_sends_1d": 3, "time_zone": "America/New_York"}
    rows = people(*([{"sends_1d": None}] * 200 + [law] * 200))
    moment = epoch(NOON.replace(hour=17))
    assert (reasons(rows, CATALOG, few, moment)[:200, 1:] != Reason.ELIGIBLE).all()
    sms = CATALOG.keys.index("sms")
    assert (reasons(rows, CATALOG, few, moment)[200:, sms] == Reason.FREQUENCY_CAP).all()
    assert is_waived(few, "frequency_cap", rows.customer_ids)[200:].any()


def test_the_send_boundary_waives_for_the_same_people() -> None:
    few = msgspec.structs.replace(project(), waived={"frequency_cap": 0.1})
    ids = [f"c{i}" for i in range(300)]
    fresh = {**PERSON, "sends_1d": 1}
    sent = [at_send(INTENT | {"customer_id": i}, fresh, few, NOON, kill_switch=False) for i in ids]
    waived = is_waived(few, "frequency_cap", ids)
    assert [reason is None for reason in sent] == waived.tolist()
    assert 15 <= waived.sum() <= 45
    assert set(sent) == {None, "frequency_cap"}


@pytest.mark.parametrize("line", ["{no_consent: 0.01}", "{legal_window: 0.01}", "{blackout: 0.5}"])
def test_nothing_else_can_be_waived(tmp_path: Path, line: str) -> None:
    folder = written(tmp_path)
    replacing("nextmove.yml", "arbiter_explore", f"waived: {line}\narbiter_explore")(folder)
    with pytest.raises(ConfigurationError, match="waived"):
        Workspace.open(folder)


# --- the price ---


def bitten(rng: np.random.Generator, effect: float, n: int = 2000) -> Bitten:
    """Five decisions each; the guardrail bites from a random one on, and costs `effect` a time."""
    customer, round_ = np.tile(np.arange(n), 5), np.repeat(np.arange(5), n)
    waived, since = rng.random(n) < 0.2, rng.integers(0, 7, n)
    nature = rng.normal(size=n)
    bites = round_ >= since[customer]
    reward = nature[customer] + rng.normal(size=5 * n) + effect * (bites & waived[customer])
    return Bitten(customer, reward, nature[customer][:, None], bites, waived[customer])


def test_the_price_is_what_it_costs_from_the_first_bite_on() -> None:
    truth = np.mean([5, 4, 3, 2, 1]) * 0.3  # bites from each round on are equally likely
    found = [price(bitten(np.random.default_rng(seed), 0.3)) for seed in range(40)]
    values = [p.difference for p in found if p is not None]
    assert len(values) == 40
    assert sum(v.low < truth < v.high for v in values) >= 35
    assert (
        abs(np.mean([v.value for v in values]) - truth) < 4 * np.std([v.value for v in values]) / 6
    )


def test_what_was_earned_before_the_first_bite_is_no_part_of_it() -> None:
    found = bitten(np.random.default_rng(1), 0.3)
    bites = np.zeros_like(found.bites)
    bites[len(bites) // 2 :] = found.bites[len(bites) // 2 :]
    since = replace(found, bites=bites)
    richer = found.reward + 9.0 * found.waived * (np.arange(len(bites)) < len(bites) // 2)
    known, same = price(since), price(replace(since, reward=richer))
    assert known is not None
    assert same is not None
    assert same.difference == known.difference


def test_without_a_price_none_is_found() -> None:
    found = [price(bitten(np.random.default_rng(seed), 0.0)) for seed in range(40)]
    assert sum(p is not None and p.always_valid.excludes_zero for p in found) <= 3


def test_without_a_bite_there_is_no_price() -> None:
    found = bitten(np.random.default_rng(1), 0.0)
    never = Bitten(found.customer, found.reward, found.x, np.zeros_like(found.bites), found.waived)
    assert price(never) is None


def written(folder: Path) -> Path:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_from_the_record_to_the_sentence(tmp_path: Path) -> None:
    """Everybody has had a message today; one more is worth 0.5."""
    folder = written(tmp_path)
    replacing("nextmove.yml", "arbiter_explore", "waived: {frequency_cap: 0.1}\narbiter_explore")(
        folder
    )
    workspace = Workspace.open(folder)
    with workspace.warehouse() as warehouse:
        warehouse.rows("create schema nextmove")
        warehouse.rows(PROFILES.format(n=10_000))
        warehouse.rows(f"update {workspace.model(FEATURES)} set sends_1d = 1, sends_7d = 1")
    decide_all(workspace, AS_OF)
    with workspace.warehouse() as warehouse:
        rows = warehouse.rows(
            "select decision_id, customer_id, channel, agent, group_name, facts, n_eligible"
            f" from {workspace.engine('decisions')} order by 1"
        )
        rewards = pa.table(
            {
                "decision_id": [r[0] for r in rows],
                "customer_id": [r[1] for r in rows],
                "reward": 0.5 * np.array([r[2] != "" for r in rows])
                + np.random.default_rng(3).normal(0, 0.3, len(rows)),
                "is_closed": [True] * len(rows),
            }
        )
        warehouse.ensure(workspace.model("fct_decision_rewards"), rewards.schema)
        warehouse.append(workspace.model("fct_decision_rewards"), rewards)
        prices = {agent: prices_of(workspace, warehouse, agent) for agent in workspace.agents}
    for agent, found in prices.items():
        sent = [
            r[2] != ""
            for r in rows
            if '"waived":"frequency_cap"' in r[5] and r[3:5] == (agent, "treatment") and r[6] > 1
        ]
        cap = found["frequency_cap"]
        assert cap.verdict == "estimated"
        assert cap.always_valid.low < 0.5 * np.mean(sent) < cap.always_valid.high
        assert cap.always_valid.low > 0
    assert {r[2] != "" for r in rows if '"waived":""' in r[5]} == {False}
    one = next(r[0] for r in rows if r[2])
    told = CliRunner().invoke(main, ["explain", one, "--project", str(folder)])
    assert "Not applied: frequency cap" in told.output
    evaluation = AgentEvaluation(0, 0, {}, None, {}, (), prices["later"], 0, ())
    assert "The frequency cap costs +" in price_lines(evaluation)[0]
    replacing("nextmove.yml", "{max: 1, days: 1}", "{max: 2, days: 1}")(folder)
    changed = Workspace.open(folder)
    with changed.warehouse_to_read() as warehouse:
        assert prices_of(changed, warehouse, "later") == {}
