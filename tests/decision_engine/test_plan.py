"""What plan says would change is what two real rounds of decide make different."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from connectors.destinations import DESTINATIONS
from decision_engine.batch import decide_all
from decision_engine.cli import main
from decision_engine.epochs import FEATURES
from decision_engine.guardrails import REASON_NAMES
from decision_engine.plan.compare import plan
from decision_engine.plan.pace import seconds_needed
from decision_engine.plan.page import page
from decision_engine.plan.report import APPROVALS, NO_CHANGE, render
from decision_engine.plan.result import Plan
from decision_engine.plan.sides import moves_of, side_of
from decision_engine.plan.tally import Change, Tally
from decision_engine.types import Reason, seconds_of
from decision_engine.workspace import Workspace
from tests.end_to_end.bench_decide import AS_OF, PROFILES

CUSTOMERS = 400
GOLDEN = Path(__file__).parent / "golden" / "plan.txt"

PROJECT = """
project: small
salt: small-shop-salt-01234
warehouse: {kind: duckdb}
sources: [orders, consents, crm_contacts]
channels: {email: mail, sms: texts}
destinations:
  mail: {kind: iterable, url: 'http://127.0.0.1:8800/iterable', api_key_env: MAIL}
  texts: {kind: braze, url: 'http://127.0.0.1:8800/braze', api_key_env: TEXTS}
groups:
  - {name: treatment, share: 0.7}
  - {name: holdout, share: 0.1, policy: {kind: fixed}}
  - {name: random, share: 0.2, policy: {kind: uniform}}
incentives:
  - {incentive: credit, description: Five dollars, cost_cents: 500}
caps:
  - {max: 1, days: 1}
  - {max: 3, days: 7}
arbiter_explore: 0.05
"""
AGENT = """
agent: %s
goal: One more order
audience: %s
outcomes: [{event: order, weight: 1.0, window: 72h}]
context: [{column: email_click_rate}]
actions:
"""
SECOND = """  - {creative: ideas, incentives: [none, credit], send_hours: [9, 19]}
  - {creative: a_text, send_hours: [19]}
"""
LATER = """  - {creative: miss_you, incentives: [none, credit], send_hours: [9]}
  - {creative: question, send_hours: [13], eligible_if: orders_90d > 0}
"""
CREATIVES = """
- {creative: ideas, channel: email, campaign_id: c1, subject: Ideas}
- {creative: a_text, channel: sms, campaign_id: c2, subject: Text}
- {creative: miss_you, channel: email, campaign_id: c3, subject: Come back}
- {creative: question, channel: email, campaign_id: c4, subject: Why}
- {creative: other, channel: email, campaign_id: c5, subject: Not yet used}
"""
FILES = {
    "nextmove.yml": PROJECT,
    "agents/second.yml": AGENT % ("second", "orders_count BETWEEN 1 AND 2") + SECOND,
    "agents/later.yml": AGENT % ("later", "orders_count >= 2") + LATER,
    "creatives/all.yml": CREATIVES,
}

Edit = Callable[[Path], None]


def replacing(file: str, old: str, new: str) -> Edit:
    def edit(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new))

    return edit


def other_shares(folder: Path) -> None:
    replacing("nextmove.yml", "share: 0.7", "share: 0.6")(folder)
    replacing("nextmove.yml", "share: 0.2", "share: 0.3")(folder)


def overriding(folder: Path, **fields: str) -> None:
    Workspace.open(folder).override_log.add(by="test", why="a test", **fields)


EDITS: dict[str, Edit] = {
    "a cap": replacing("nextmove.yml", "max: 1, days: 1", "max: 2, days: 1"),
    "the arbiter": replacing("nextmove.yml", "arbiter_explore: 0.05", "arbiter_explore: 0.9"),
    "an audience": replacing("agents/later.yml", ">= 2", ">= 1"),
    "a rule": replacing("agents/later.yml", "orders_90d > 0", "orders_90d > 9"),
    "an hour": replacing("agents/later.yml", "send_hours: [9]", "send_hours: [10]"),
    "the groups": other_shares,
    "a subject": replacing("creatives/all.yml", "Come back", "Do <b>come</b> back"),
    "an agent": lambda folder: (folder / "agents/later.yml").unlink(),
    "an override": lambda folder: overriding(folder, kind="pause", agent="later"),
    "a pin": lambda folder: overriding(folder, kind="pin", agent="second", action="ideas"),
    "a list": replacing(
        "agents/second.yml",
        "actions:",
        "lists: [{name: few, members: orders_90d > 1, actions: [email.ideas.none.h09]}]\nactions:",
    ),
    "a limit": replacing(
        "nextmove.yml",
        "arbiter_explore",
        "limits: [{limit: texts, max: 2, channels: [sms]}]\narbiter_explore",
    ),
    "the kill switch": lambda folder: (folder / "STOP").touch(),
}


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has decided once; not to be changed."""
    folder = tmp_path_factory.mktemp("plan") / "shop"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    workspace = Workspace.open(folder)
    with workspace.warehouse() as warehouse:
        warehouse.rows("create schema nextmove")
        warehouse.rows(PROFILES.format(n=CUSTOMERS))
        table = workspace.model(FEATURES)
        # As they come, the counters depend on what the audiences do.
        warehouse.rows(f"update {table} set sends_1d = 0, sends_7d = hash(customer_id, 1) % 4")
        warehouse.rows(f"update {table} set sends_1d = 1 where hash(customer_id, 2) % 3 = 0")
        warehouse.rows(f"update {table} set consent_sms = true where hash(customer_id, 3) % 2 = 0")
    decide_all(workspace, AS_OF)
    return folder


@pytest.fixture
def shop(decided: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(decided, tmp_path / "shop")


def edited(folder: Path, what: str) -> Workspace:
    EDITS[what](folder)
    return Workspace.open(folder)


def really_decided(folder: Path) -> dict[str, dict[str, Any]]:
    """Customer to decision, as it is in the warehouse."""
    workspace = Workspace.open(folder)
    with workspace.warehouse() as warehouse:
        rows = warehouse.rows(
            "select customer_id, agent, action, channel, group_name, n_eligible, reasons"
            f" from {workspace.engine('decisions')}"
        )
    names = ("agent", "action", "channel", "group", "n_eligible", "reasons")
    return {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows}


def decided_anew(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """What decide makes of the edited project, as if the date had not been decided."""
    with workspace.warehouse() as warehouse:
        for table in ("decisions", "epochs"):
            warehouse.rows(f"delete from {workspace.engine(table)}")
    decide_all(workspace, AS_OF)
    return really_decided(workspace.root)


def kind(before: dict[str, Any] | None, after: dict[str, Any] | None, is_edited: bool) -> str:
    if before is None or after is None:
        return "comes in" if before is None else "falls out"
    if before["agent"] != after["agent"]:
        return "other agent"
    if before["action"] != after["action"]:
        return "other action"
    return "edited message" if is_edited else "same"


@pytest.mark.parametrize("what", EDITS)
def test_it_says_what_two_rounds_of_decide_make_different(shop: Path, what: str) -> None:
    before = really_decided(shop)
    workspace = edited(shop, what)
    found = plan(workspace)
    after = decided_anew(workspace)

    def touched(decision: dict[str, Any] | None) -> bool:
        return what == "a subject" and decision is not None and "miss_you" in decision["action"]

    everybody = before.keys() | after.keys()
    kinds = Counter(kind(before.get(c), after.get(c), touched(after.get(c))) for c in everybody)
    assert {name: n for name, n in found.kinds.items() if n} == dict(kinds)
    assert found.different > 0
    assert found.has_changes
    for i, decisions in enumerate((before, after)):
        sends = Counter(d["channel"] for d in decisions.values() if d["channel"])
        assert {name: n[i] for name, n in found.sends.items() if n[i]} == dict(sends)
        agents = Counter(d["agent"] for d in decisions.values())
        assert {
            name: a.decisions[i] for name, a in found.agents.items() if a.decisions[i]
        } == agents
        ruled = Counter(
            REASON_NAMES[code]
            for d in decisions.values()
            for code in set(d["reasons"]) - {Reason.ELIGIBLE}
        )
        assert {name: n[i] for name, n in found.guardrails.items() if n[i]} == dict(ruled)
    both = [(before[c], after[c]) for c in before.keys() & after.keys()]
    assert found.moved == sum(a["group"] != b["group"] for a, b in both)
    reached = [tuple(Reason.ELIGIBLE in d["reasons"][1:] for d in pair) for pair in both]
    assert found.gained == reached.count((False, True))
    assert sum(found.lost.values()) == reached.count((True, False))
    for values in found.segments.values():
        assert sum(s.decisions for s in values.values()) == len(everybody)
        assert sum(s.different for s in values.values()) == found.different


def test_nothing_changes_without_an_edit_and_nothing_is_written(shop: Path) -> None:
    before = hashlib.sha256((shop / "warehouse.duckdb").read_bytes()).hexdigest()
    files = sorted(shop.rglob("*"))
    found = plan(Workspace.open(shop))
    assert found.kinds["same"] == sum(found.kinds.values()) > 100
    assert not found.has_changes
    assert found.warnings == ()
    assert hashlib.sha256((shop / "warehouse.duckdb").read_bytes()).hexdigest() == before
    assert sorted(shop.rglob("*")) == files


def test_a_plan_of_what_nobody_touched_is_what_decide_then_does(shop: Path) -> None:
    """With limits of which something is used up, and an override, on both sides."""
    workspace = edited(shop, "a limit")
    overriding(shop, kind="freeze", agent="second", action="email.ideas.credit.h09")
    first = decided_anew(workspace)
    texts = [c for c, d in first.items() if d["channel"] == "sms"]
    assert len(texts) == 2
    with workspace.warehouse() as warehouse:
        warehouse.rows(
            f'insert into {workspace.engine("receipts")} (decision_id, status, "at")'
            f" select decision_id, 'accepted', timestamp '{AS_OF}' - interval 1 hour"
            f" from {workspace.engine('decisions')} where channel = 'sms' order by 1 limit 1"
        )
        # Decisions of an hour ago, so that receipts have something to belong to.
        warehouse.rows(
            f"update {workspace.engine('decisions')} set slot = 'earlier',"
            " decided_at = decided_at - interval 1 hour, expires_at = decided_at"
        )
        warehouse.rows(f"update {workspace.engine('epochs')} set slot = 'earlier', epoch_id = 'e'")
    found = plan(workspace)
    assert found.kinds["same"] == sum(found.kinds.values())
    assert found.sends["sms"] == (1, 1)
    decide_all(workspace, AS_OF)
    with workspace.warehouse() as warehouse:
        rows = warehouse.rows(
            f"select agent || ' · ' || action, count(*) from {workspace.engine('decisions')}"
            " where slot <> 'earlier' group by 1"
        )
    assert {name: n[1] for name, n in found.actions.items()} == dict(rows)


def test_what_a_person_stopped_counts_neither_here_nor_in_decide(shop: Path) -> None:
    """Everybody has a message waiting for the evening; a cap lets nobody get another one."""
    at = round(seconds_of(AS_OF + timedelta(hours=20)) * 1e6)
    workspace = Workspace.open(shop)
    with workspace.warehouse() as warehouse:
        entry = f"'{at} email d-' || customer_id"
        warehouse.rows(f"update {workspace.model(FEATURES)} set messages_waiting = {entry}")
    sent = {c for c, d in really_decided(shop).items() if d["channel"]}
    assert sum(n.after for n in plan(workspace).sends.values()) == 0
    some = sorted(sent)[:9]
    for customer in some:
        overriding(shop, kind="stop", agent="second", decision_id=f"d-{customer}")
    found = plan(workspace)
    assert not found.has_changes, "what somebody stopped is no edit"
    after = {c: d for c, d in decided_anew(workspace).items() if d["channel"]}
    assert after.keys() <= set(some)
    assert sum(n.after for n in found.sends.values()) == len(after) > 0


def test_a_limit_counts_what_the_days_before_have_used(shop: Path) -> None:
    """Within a week there are four of them, whatever the number of days."""
    limit = "limits: [{limit: texts, max: 4, channels: [sms], days: 7}]\narbiter_explore"
    text = FILES["nextmove.yml"].replace("arbiter_explore", limit)
    (shop / "nextmove.yml").write_text(text)
    found = plan(Workspace.open(shop), days=2)
    assert found.sends["sms"].after == 4
    assert found.sends["sms"].before > 4


def test_before_the_first_decision_everything_comes_in(shop: Path) -> None:
    workspace = Workspace.open(shop)
    with workspace.warehouse() as warehouse:
        warehouse.rows(f"delete from {workspace.engine('epochs')}")
    found = plan(workspace)
    assert found.kinds["comes in"] == sum(found.kinds.values()) == len(really_decided(shop))
    assert "no date was decided yet" in found.against
    assert {edit.path for edit in found.edits} >= {"agents.later"}


def test_messages_that_wait_for_a_person_are_told_apart(shop: Path) -> None:
    """Asking for approval changes no decision; which of the messages wait is told all the same."""
    plain = plan(edited(shop, "a cap"))
    assert plain.approvals == {}
    assert "approval" not in terminal(plain) + page(plain)
    replacing("agents/later.yml", "goal:", "owner: Ada\napproval: each\ngoal:")(shop)
    workspace = Workspace.open(shop)
    found = plan(workspace)
    decisions = decided_anew(workspace).values()
    waiting = [d for d in decisions if d["agent"] == "later" and d["channel"]]
    assert found.approvals == {"later": (0, len(waiting))}
    assert len(waiting) == found.agents["later"].sends.after > 20
    assert ["later", "0", f"{len(waiting)}"] in [
        line.split()[:3] for line in terminal(found).split(APPROVALS)[1].splitlines()
    ]
    assert APPROVALS.replace("'", "&#x27;") in page(found)
    in_force = json.loads(nextmove(shop, "--json").stdout)
    assert in_force["approvals"] == {"later": [len(waiting), len(waiting)]}


def test_only_approval_asked_for_is_told_though_no_decision_changes(shop: Path) -> None:
    replacing("agents/later.yml", "goal:", "significant_effect: true\ngoal:")(shop)
    found = plan(Workspace.open(shop))
    assert found.different == 0
    assert found.approvals["later"].after > 20
    assert APPROVALS in terminal(found)
    assert APPROVALS.replace("'", "&#x27;") in page(found)


# --- what it is compared with ---


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


def test_a_folder_and_a_git_revision_say_the_same(shop: Path, tmp_path: Path) -> None:
    git(shop, "init", "-q")
    git(shop, "add", "nextmove.yml", "agents", "creatives")
    git(shop, "commit", "-qm", "as it was")
    other = tmp_path / "other"
    for name in ("agents", "creatives"):
        shutil.copytree(shop / name, other / name)
    shutil.copy(shop / "nextmove.yml", other)
    workspace = edited(shop, "an audience")
    by_epoch, by_folder, by_revision = (
        plan(workspace, against) for against in (None, str(other), "HEAD")
    )
    assert by_folder.different == by_revision.different == by_epoch.different > 0
    assert by_folder.edits == by_revision.edits == by_epoch.edits
    assert by_revision.against == "the git revision HEAD"


@pytest.mark.parametrize("against", ["no-such-revision", "--output=x", ""])
def test_what_cannot_be_compared_with_is_named(shop: Path, against: str) -> None:
    done = nextmove(shop, f"--against={against}")
    assert done.exit_code == 2
    assert "--against" in done.output


def test_the_configuration_in_force_is_kept_without_its_salt(shop: Path) -> None:
    workspace = Workspace.open(shop)
    with workspace.warehouse() as warehouse:
        ((digest, content),) = warehouse.rows(
            f"select config_digest, content from {workspace.engine('configurations')}"
        )
        assert digest == workspace.digest
        assert workspace.project.salt not in content
        assert "127.0.0.1" not in content
        warehouse.rows(f"delete from {workspace.engine('configurations')}")
    assert "--against" in nextmove(shop).output


def test_another_salt_is_told_and_not_shown(shop: Path) -> None:
    replacing("nextmove.yml", "small-shop-salt-01234", "other-shop-salt-01234")(shop)
    done = nextmove(shop)
    assert "salt is another one" in " ".join(done.output.split())
    assert "salt-01234" not in done.output


# --- risks ---


@pytest.mark.parametrize(
    ("what", "warning"),
    [
        ("an audience", "later: 228 decisions instead of 98"),
        ("the groups", "change groups"),
        ("an agent", "later is gone"),
        ("the kill switch", "kill switch is on"),
    ],
)
def test_it_warns(shop: Path, what: str, warning: str) -> None:
    assert any(warning in text for text in plan(edited(shop, what)).warnings)


LIKELY_MISTAKES: tuple[tuple[str, str, str], ...] = (
    (">= 2", ">= 2000", "no customer is in its audience"),
    ("window: 72h", "window: 48h", "outcomes count otherwise"),
    ("[{column: email_click_rate}]", "[]", "begins to learn from nothing"),
    (
        LATER,
        LATER + "  - {creative: other, eligible_if: orders_90d < 0}\n",
        "nobody gets email.other",
    ),
)


@pytest.mark.parametrize(("old", "new", "warning"), LIKELY_MISTAKES)
def test_it_warns_of_what_is_likely_a_mistake(shop: Path, old: str, new: str, warning: str) -> None:
    replacing("agents/later.yml", old, new)(shop)
    assert any(warning in text for text in plan(Workspace.open(shop)).warnings)


# --- how it is told ---


def nextmove(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["plan", "--project", str(folder), *options])


def terminal(found: Plan, width: int = 100) -> str:
    console = Console(width=width, file=StringIO(), record=True)
    console.print(render(found))
    return console.export_text()


def test_exit_codes(shop: Path) -> None:
    assert nextmove(shop, "--exit-code").exit_code == 0
    assert NO_CHANGE in nextmove(shop).output
    edited(shop, "a cap")
    assert nextmove(shop).exit_code == 0
    assert nextmove(shop, "--exit-code").exit_code == 4
    (shop / "nextmove.yml").write_text("project: [")
    assert nextmove(shop, "--exit-code").exit_code == 2


def test_json_has_everything(shop: Path) -> None:
    edited(shop, "a cap")
    found = json.loads(nextmove(shop, "--json").stdout)
    assert found["has_changes"] is True
    assert found["edits"] == [["project.caps[0].max", "1", "2"]]
    assert found["sends"].keys() == {"email", "sms"}


def test_the_terminal(shop: Path) -> None:
    """The golden file is what this prints; look at the difference, then copy it there."""
    edited(shop, "an audience")
    edited(shop, "a subject")
    lines = [line.rstrip() for line in terminal(plan(Workspace.open(shop))).splitlines()]
    assert lines == GOLDEN.read_text().splitlines()


class Tags(HTMLParser):
    """Which elements a page has, and whether all are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen[tag] += 1
        if tag not in ("meta",):
            self.open.append(tag)
        assert not {name for name, _ in attrs} & {"src", "href", "onload"}

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.seen[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone(shop: Path, tmp_path: Path) -> None:
    edited(shop, "an audience")
    edited(shop, "a subject")
    assert nextmove(shop, "--html", str(tmp_path / "plan.html"), "--days", "2").exit_code == 0
    text = (tmp_path / "plan.html").read_text()
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert tags.seen["svg"] >= 4
    assert "script" not in tags.seen
    assert "http" not in text
    assert "Do &lt;b&gt;come&lt;/b&gt; back" in text


def test_who_cannot_be_reached_any_more_and_why(shop: Path) -> None:
    replacing("nextmove.yml", "max: 3, days: 7", "max: 0, days: 7")(shop)
    found = plan(Workspace.open(shop))
    assert found.gained == 0
    assert found.lost == {"frequency_cap": sum(found.lost.values())}
    assert found.lost["frequency_cap"] > 50


def test_who_is_pinned_to_a_message_is_still_reached(shop: Path) -> None:
    edited(shop, "a pin")
    found = plan(Workspace.open(shop))
    assert found.guardrails["pinned"].after > 20
    assert found.lost == {}


def test_an_override_that_has_ended_is_no_edit(shop: Path) -> None:
    overriding(shop, kind="pause", agent="later", until="2020-01-01T00:00:00")
    assert not plan(Workspace.open(shop)).has_changes


def test_an_override_is_told_with_what_it_does_and_why(shop: Path) -> None:
    overriding(shop, kind="freeze", agent="second", action="ideas")
    overriding(shop, kind="exclude", rule="country = 'PT'")
    told = {edit.path: edit.after for edit in plan(Workspace.open(shop)).edits}
    assert told == {
        "override.freeze.second": "ideas: a test",
        "override.exclude.all agents": "where country = 'PT': a test",
    }


def test_an_override_of_an_agent_with_triggers_is_no_edit(shop: Path) -> None:
    agent = AGENT % ("at_once", "has_email") + SECOND + "triggers: [{on: type = 'page'}]"
    (shop / "agents/at_once.yml").write_text(agent)
    overriding(shop, kind="pause", agent="at_once")
    assert [edit.path for edit in plan(Workspace.open(shop)).edits] == ["agents.at_once"]


def test_names_are_shown_whole_and_differences_are_of_what_is_shown(shop: Path) -> None:
    found = plan(edited(shop, "an audience"))
    given = {"email": Change(24_849, 24_150), "sms": Change(0, 49)}
    text = terminal(replace(found, incentive_cents=given), width=80)
    assert "…" not in text
    assert ["email", "248", "242", "-6"] in [line.split() for line in text.splitlines()]
    assert ["sms", "0", "0", "0"] in [line.split() for line in text.splitlines()]


def test_the_minutes_that_a_vendors_limits_ask_for(shop: Path) -> None:
    """Two full windows of calls and one more wait for the end of the second window."""
    workspace = Workspace.open(shop)
    with workspace.warehouse_to_read() as warehouse:
        side = side_of(workspace, warehouse, is_stopped=False)
    moves = moves_of(side, side)
    text = moves.actions.tolist().index("sms.a_text.none.h19")
    braze = DESTINATIONS["braze"].streams["messages"]
    calls = braze.windows[0].calls * 2 + 1
    tally = Tally(moves, 0.0)
    tally.pairs[text, text] = calls * braze.batch_size
    tally.pairs[text, 0] = 1
    found = seconds_needed(workspace.project, tally)
    assert found["texts"].after >= 2 * braze.windows[0].seconds
    assert found["texts"].before >= found["texts"].after
    assert found["mail"] == (0, 0)


def test_a_column_that_only_the_baseline_reads_is_named(shop: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(shop, other)
    replacing("agents/later.yml", ">= 2", ">= 2 AND no_such_column > 1")(other)
    done = nextmove(shop, f"--against={other}")
    assert done.exit_code == 1
    assert "no_such_column" in done.output
