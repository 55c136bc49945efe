"""The estimate of a change against a known truth, and the days of a journey by hand."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from decision_engine.batch import decide_all
from decision_engine.epochs import FEATURES
from decision_engine.plan.compare import plan
from decision_engine.plan.estimate import Pair, parts_of
from decision_engine.plan.journey import COLUMNS, DAY, Journey
from decision_engine.plan.sides import CODES, Made, Moves, side_of
from decision_engine.plan.tally import Tally
from decision_engine.types import Contexts, column_of, seconds_of
from decision_engine.workspace import Workspace
from tests.decision_engine.test_plan import FILES, replacing
from tests.end_to_end.bench_decide import AS_OF, PROFILES

LIKED = "email.miss_you.none.h09"
LIFT = 0.5


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6,000 customers decided for; the one message earns `LIFT` more than everything else."""
    folder = tmp_path_factory.mktemp("closed") / "shop"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    workspace = Workspace.open(folder)
    with workspace.warehouse() as warehouse:
        warehouse.rows("create schema nextmove")
        warehouse.rows(PROFILES.format(n=6000))
        warehouse.rows(f"update {workspace.model(FEATURES)} set sends_1d = 0, sends_7d = 0")
    decide_all(workspace, AS_OF)
    with workspace.warehouse() as warehouse:
        rows = warehouse.rows(
            f"select decision_id, customer_id, action from {workspace.engine('decisions')}"
            " order by decision_id"
        )
        noise = np.random.default_rng(5).normal(0.2, 0.3, len(rows))
        rewards = pa.table(
            {
                "decision_id": [row[0] for row in rows],
                "customer_id": [row[1] for row in rows],
                "reward": [LIFT * (r[2] == LIKED) + e for r, e in zip(rows, noise, strict=True)],
                "is_closed": [True] * len(rows),
            }
        )
        warehouse.ensure(workspace.model("fct_decision_rewards"), rewards.schema)
        warehouse.append(workspace.model("fct_decision_rewards"), rewards)
    return folder


@pytest.fixture
def closed(once: Path, tmp_path: Path) -> Workspace:
    """A copy of that project."""
    return Workspace.open(shutil.copytree(once, tmp_path / "shop"))


def test_the_estimate_holds_the_truth(closed: Workspace) -> None:
    replacing(
        "agents/later.yml", "actions:\n", f"policy: {{kind: fixed, actions: [{LIKED}]}}\nactions:\n"
    )(closed.root)
    workspace = Workspace.open(closed.root)
    with workspace.warehouse_to_read() as warehouse:
        logged = warehouse.rows(
            "select list_contains([0], reasons[2]), n_eligible"
            f" from {workspace.engine('decisions')}"
            " where agent = 'later' and policy <> 'fixed'"
        )
    # Without anything learned every possible action is as likely as any other.
    gains = [LIFT * (possible * (1 - 1 / n)) for possible, n in logged]
    found = plan(workspace).agents["later"].expected
    assert found is not None
    change = found.change
    assert change.verdict == "estimated", change.reason
    assert change.low < np.mean(gains) < change.high
    assert change.low > 0
    assert change.n == len(logged)


def test_the_log_is_made_again_as_it_was(closed: Workspace) -> None:
    """What was in force gives each logged action the chance that was logged with it."""
    with closed.warehouse_to_read() as warehouse:
        side = side_of(closed, warehouse, is_stopped=False)
        for agent in ("later", "second"):
            (part,) = parts_of(closed, warehouse, Pair.of(side, side, agent))
            group = dict(
                warehouse.rows(f"select customer_id, policy from {closed.engine('decisions')}")
            )
            drawn = np.array([group[c] == "linear_thompson" for c in part.customers])
            row = np.arange(len(part.log))
            p = part.before[row, part.log.action][drawn]
            assert drawn.sum() > 100
            np.testing.assert_allclose(p, part.log.propensity[drawn], rtol=1e-12)
            np.testing.assert_array_equal(part.before, part.after)


def test_what_was_not_touched_has_no_estimate(closed: Workspace) -> None:
    assert all(agent.expected is None for agent in plan(closed).agents.values())


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("BETWEEN 1 AND 2", "= 1", "audience"),
        ("[{column: email_click_rate}]", "[]", "features"),
        ("ideas, incentives: [none, credit]", "other", "expected"),
        ("send_hours: [19]}", "send_hours: [19], eligible_if: step < 1}", "does not hold step"),
    ],
)
def test_what_cannot_be_told_is_refused(closed: Workspace, old: str, new: str, reason: str) -> None:
    replacing("agents/second.yml", old, new)(closed.root)
    found = plan(Workspace.open(closed.root)).agents["second"].expected
    assert found is not None
    assert found.change.verdict == "refused"
    assert reason in found.change.reason


# --- the days ---

NOTHING, MAIL, TEXT = 0, 1, 2
MOVES = Moves(
    agents=np.array(["", "a", "a"], dtype=object),
    actions=np.array(["", "email.x.none.h09", "sms.y.none.h19"], dtype=object),
    channels=np.array(["", "email", "sms"], dtype=object),
    incentives=np.array(["", "none", "none"], dtype=object),
    costs=np.zeros((2, 3), dtype=np.int64),
    edited=np.zeros(3, dtype=bool),
    places=({}, {}),
)


def people(**columns: list[object]) -> Contexts:
    n = len(next(iter(columns.values())))
    counters = {name: [0] * n for name in COLUMNS} | columns
    found = {name: column_of(values) for name, values in counters.items()}
    return Contexts(np.array([f"c{i}" for i in range(n)], dtype=object), found)


def day(moves: list[int], hours: list[float], at: float) -> Made:
    n = len(moves)
    return Made(
        move=np.array(moves),
        send_at=np.array([at + 3600 * h for h in hours]),
        group=np.full(n, "treatment", dtype=object),
        ruled=np.zeros((n, len(CODES)), dtype=bool),
        reachable=np.ones(n, dtype=bool),
        reasons={},
    )


def test_a_day_passes() -> None:
    start = seconds_of(AS_OF)
    journey = Journey(
        people(
            turn=[5, 0],
            days_since_last_order=[3.5, None],
            days_since_last_send=[None, 2.0],
            days_since_last_decision=[None, 9.0],
            last_action=[None, "old"],
            page_views_24h=[4, 0],
        ),
        MOVES,
    )
    journey.sleep(day([MAIL, NOTHING], [3, np.nan], start), start + DAY)
    found = {
        name: (c.values.tolist(), c.valid.tolist()) for name, c in journey.today().columns.items()
    }
    assert found["turn"][0] == [0, 1]
    assert found["days_since_last_order"][0][0] == 4.5
    assert found["days_since_last_order"][1] == [True, False]
    assert found["days_since_last_send"] == ([21 / 24, 3.0], [True, True])
    assert found["days_since_last_decision"] == ([1.0, 10.0], [True, True])
    assert found["last_action"] == (["email.x.none.h09", "old"], [True, True])
    assert found["page_views_24h"][0] == [4, 0]
    assert found["sends_1d"][0] == found["email_sends_7d"][0] == [1, 0]
    assert found["sms_sends_7d"][0] == [0, 0]


def test_what_leaves_the_next_day_is_counted_then() -> None:
    start = seconds_of(AS_OF)
    journey = Journey(people(turn=[0]), MOVES)
    counts = []
    for i in range(4):
        now = start + i * DAY
        journey.sleep(
            day([TEXT if i == 0 else NOTHING], [30 if i == 0 else np.nan], now), now + DAY
        )
        today = journey.today().columns
        counts.append([today[c].values[0] for c in ("sends_1d", "sms_sends_7d")])
    assert counts == [[0, 0], [1, 1], [0, 1], [0, 1]]


def test_what_waits_is_known_until_it_leaves_and_counted_on_that_day() -> None:
    start = seconds_of(AS_OF)
    journey, tally = Journey(people(messages_waiting=["1 push"]), MOVES), Tally(MOVES, start)
    seen = []
    for i in range(4):
        now = start + i * DAY
        made = day([MAIL if i == 0 else NOTHING], [51 if i == 0 else np.nan], now)
        tally.add(i, journey.today(), day([NOTHING], [np.nan], now), made)
        journey.sleep(made, now + DAY)
        today = journey.today().columns
        seen.append((today["messages_waiting"].values[0], today["sends_1d"].values[0]))
    later = f"1 push,{int(start + 51 * 3600)}000000 email"
    assert seen == [(later, 0), (later, 0), ("1 push", 1), ("1 push", 0)]
    assert tally.daily == [[0, 0], [0, 0], [0, 1]]


def test_earlier_sends_leave_their_windows_one_after_the_other() -> None:
    start = seconds_of(AS_OF)
    journey = Journey(people(sends_1d=[1, 0], sends_7d=[3, 6], sends_30d=[3, 6]), MOVES)
    weeks = []
    for i in range(8):
        now = start + i * DAY
        journey.sleep(day([NOTHING] * 2, [np.nan] * 2, now), now + DAY)
        weeks.append(journey.today().columns["sends_7d"].values.tolist())
    assert [w[1] for w in weeks] == [5, 4, 3, 2, 1, 0, 0, 0]
    assert weeks[0][0] == 3
    assert weeks[-1][0] == 0
    assert all(a[0] >= b[0] for a, b in pairwise(weeks))
    assert journey.today().columns["sends_1d"].values.tolist() == [0, 0]


def test_a_cap_bites_on_later_days(closed: Workspace) -> None:
    """A second message within the week is what a cap of one a week takes away."""
    replacing("nextmove.yml", "{max: 3, days: 7}", "{max: 1, days: 7}")(closed.root)
    workspace = Workspace.open(closed.root)
    assert plan(workspace).different == 0
    found = plan(workspace, days=3)
    assert len(found.daily) == 3
    assert found.daily[0].before == found.daily[0].after > 0
    assert found.daily[2].after < found.daily[2].before / 4
    assert sum(found.kinds.values()) == sum(a.decisions.after for a in found.agents.values())
