"""Reading a project: every problem is found, with its file, line, field and fix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import yaml

from connectors.errors import ConfigurationError
from decision_engine.catalog import catalog_of
from decision_engine.features import needed_columns
from decision_engine.load import config_digest, load_project
from decision_engine.rules import compile_rule
from decision_engine.scaffold import init
from decision_engine.schema import schemas

ROOT = Path(__file__).resolve().parents[2]
MARTS = yaml.safe_load((ROOT / "dbt_project/models/marts/_marts__models.yml").read_text())
COLUMNS = {
    column["name"]: column["data_type"]
    for model in MARTS["models"]
    if model["name"] == "dim_customer_features"
    for column in model["columns"]
}
"""The contract that dbt enforces on the profiles."""

AGENT = """\
agent: hello
goal: Say hello
audience: orders_count = 1
outcomes:
  - {event: order, weight: 1}
context:
  - {column: orders_count}
actions:
  - creative: note
    incentives: [none, ten_percent]
    send_hours: [9, 19]
"""
CREATIVES = """\
- {creative: note, channel: email, campaign_id: "1", subject: A note}
- {creative: sorry, channel: email, campaign_id: "2", subject: S, resolution: yes, promotional: no}
"""
PROJECT = """\
project: shop
salt: "0123456789abcdef"
warehouse: {kind: duckdb}
sources: [orders]
channels: {email: mailer}
destinations:
  mailer: {kind: braze, url: "http://127.0.0.1:1", api_key_env: KEY}
groups:
  - {name: treatment, share: 0.9}
  - name: holdout
    share: 0.1
    policy: {kind: fixed, actions: [no_action]}
incentives:
  - {incentive: ten_percent, description: Ten percent}
"""
FILES = {"nextmove.yml": PROJECT, "agents/hello.yml": AGENT, "creatives/all.yml": CREATIVES}

Edit = tuple[str, str, str]


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    def write(*edits: Edit, **more: str) -> Path:
        files = dict(FILES)
        for name, old, new in edits:
            assert old in files[name]
            files[name] = files[name].replace(old, new)
        for name, text in {**files, **more}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return write


def problems_of(folder: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        load_project(folder, COLUMNS)
    return str(refused.value).splitlines()


def test_a_whole_project_is_read(folder: Callable[..., Path]) -> None:
    project, agents, creatives = load_project(folder(), COLUMNS)
    assert project.project == "shop"
    assert list(agents) == ["hello"]
    assert list(creatives) == ["note", "sorry"]


FACTORED = "policy: {kind: factored_linear_thompson"
HELLO, ALL, MAIN = "agents/hello.yml", "creatives/all.yml", "nextmove.yml"


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        (HELLO, "ten_percent]", "ten_off]",
         "hello.yml:10: actions[0].incentives[1]: unknown incentive 'ten_off'; known: none, ten_p"),
        (HELLO, "[none, ten_percent]", "[]", "hello.yml:10: actions[0].incentives: is empty"),
        (HELLO, "creative: note", "creative: notes",
         "actions[0].creative: unknown creative 'notes'; known: note, sorry; did you mean 'note'?"),
        (HELLO, "[9, 19]", "[9, 22]",
         "agents/hello.yml:11: actions[0].send_hours[1]: 22 is never sendable"),
        (HELLO, "[9, 19]", "[9, 24]", "hello.yml:11: actions[0].send_hours[1]: 24: Exp"),
        (HELLO, "[9, 19]", "[9, 9]",
         "agents/hello.yml:9: actions[0]: email.note.none.h09 is there already"),
        (HELLO, "[9, 19]", "[9, 19]\n    wait_days: [0, 15]",
         "hello.yml:12: actions[0].wait_days[1]: 15: Expected 'int' <= 14 (0 to 14 days)"),
        (HELLO, "[9, 19]", "[9, 19]\n    wait_days: [-1]",
         "hello.yml:12: actions[0].wait_days[0]: -1: Expected 'int' >= 0 (0 to 14 days)"),
        (HELLO, "[9, 19]", "[9, 19]\n    wait_days: []",
         "hello.yml:12: actions[0].wait_days: is empty; write [0]"),
        (HELLO, "[9, 19]", "[9]\n    wait_days: [2, 2]",
         "agents/hello.yml:9: actions[0]: email.note.none.h09.d2 is there already"),
        (HELLO, "orders_count = 1", "order_count = 1",
         "agents/hello.yml:3: audience: character 1: unknown column 'order_count'"),
        (HELLO, "orders_count = 1", "orders_count", "audience: must be true or false"),
        (HELLO, "orders_count = 1", "orders_count = 1; DROP TABLE x", "';' is not allowed"),
        (HELLO, "    send_hours", "    eligible_if: tier > 1\n    send_hours",
         "agents/hello.yml:11: actions[0].eligible_if: character 1: tier is a text"),
        (HELLO, "{column: orders_count}", "{column: orders}",
         "agents/hello.yml:7: context[0].column: unknown column 'orders'"),
        (HELLO, "{column: orders_count}", "{column: tier}",
         "context[0].column: identity needs a number or boolean column, this is text"),
        (HELLO, "{column: orders_count}", "{column: as_of}", "this is time"),
        (HELLO, "{column: orders_count}", "{column: tier, one_of: [gold]}",
         "context[0]: `transform: one_of` and the list `one_of` belong together"),
        (HELLO, "{column: orders_count}", "{column: tier, transform: one_of}", "belong together"),
        (HELLO, "{column: orders_count}", "{column: tier, transform: one_of, one_of: [a, a]}",
         "context[0].one_of: 'a' is there twice"),
        (HELLO, "{column: orders_count}", "{column: tier, transform: one_of, one_of: [a, no]}",
         "context[0].one_of[1]: Expected 'str', got 'bool'; put it in quotes"),
        (HELLO, "  - {column: orders_count}", "  - {column: orders_count}\n" * 2,
         "context: orders_count as identity is there twice"),
        (HELLO, "event: order", "event: orders",
         "agents/hello.yml:5: outcomes[0].event: unknown event 'orders'"),
        (HELLO, "weight: 1}", "weight: 1}\n  - {event: order, weight: 2}",
         "outcomes[1]: event 'order' is there twice"),
        (HELLO, "event: order, weight: 1", "event: click, per: dollar, weight: 1",
         "outcomes[0].per: only these have a value in dollars: order, incentive, message"),
        (HELLO, "weight: 1}", "weight: 1}\n  - {event: message, weight: 0.1}",
         "outcomes[1].weight: must be below 0: it is what we spend"),
        (HELLO, "event: order, weight: 1", "event: incentive, weight: -1",
         "outcomes[0]: counts when an order follows; name the event order too"),
        (HELLO, "weight: 1", "weight: one", "outcomes[0].weight: 'one': Expected 'float'"),
        (HELLO, "weight: 1", "weight: .nan", "'.nan' is not a finite number"),
        (HELLO, "weight: 1", "weight: 1, window: 3w", "outcomes[0].window: '3w': Expected"),
        (HELLO, "weight: 1", "weight: 1, window: 0h", "outcomes[0].window: must be at least 1h"),
        (HELLO, "goal: Say hello\n", "", "agents/hello.yml:1: field 'goal' is missing"),
        (HELLO, "goal: Say", "gaol: Say",
         "agents/hello.yml:2: gaol: unknown field 'gaol'; known: actions, agent, approval,"),
        (HELLO, "goal: Say", "gaol: Say", "owner, ...; did you mean 'goal'?"),
        (HELLO, "goal: Say hello", "goal: Say hello\ntime_to_live: 0d",
         "agents/hello.yml:3: time_to_live: must be at least 1h"),
        (HELLO, "goal: Say hello", "goal: a\ngoal: b",
         "agents/hello.yml:3: goal: is there twice, first on line 2"),
        (HELLO, "goal: Say hello", "goal: a\npolicy: {kind: linear}",
         "agents/hello.yml:3: policy.kind: unknown kind 'linear'; known: factored_"),
        (HELLO, "goal: Say hello", "goal: a\npolicy: {floor: 0.1}",
         "agents/hello.yml:3: policy: field 'kind' is missing; one of uniform, fixed"),
        (HELLO, "goal: Say hello", "goal: a\npolicy: {kind: linear_thompson, floor: 0.5}",
         "agents/hello.yml:3: policy.floor: 0.5: Expected 'float' <= 0.2"),
        (HELLO, "goal: Say hello", "goal: a\npolicy: {kind: fixed, actions: [email.note.none.h10]}",
         "agents/hello.yml:3: policy.actions[0]: unknown action 'email.note.none.h10'; known:"),
        (HELLO, "goal: Say hello", "goal: a\ngroups: [{name: treatment, share: 0.5}]",
         "agents/hello.yml:3: groups: shares sum to 0.5; they must sum to 1"),
        (HELLO, "goal: Say hello", "goal: a\ntriggers: [{on: \"page = 'price'\"}]",
         "agents/hello.yml:3: triggers[0].on: character 1: unknown column 'page'; known: event,"),
        (HELLO, "goal: Say hello", "goal: a\ntriggers:\n  - {on: type}",
         "agents/hello.yml:4: triggers[0].on: must be true or false, but this is a text"),
        (HELLO, "goal: Say hello", "goal: a\ntriggers:\n  - {on: event = 'A', when: order > 1}",
         "agents/hello.yml:4: triggers[0].when: character"),
        (HELLO, "goal: Say hello", "goal: a\ntriggers:\n  - on: event = 'A'\n    when: tier > 1",
         "agents/hello.yml:5: triggers[0].when: character 1: tier is a text and 1 is a number"),
        (HELLO, "agent: hello", "agent: Hello",
         "agents/hello.yml:1: agent: 'Hello': Expected 'str' matching regex"),
        (HELLO, "agent: hello", "agent: Hello", "(lower-case snake case)"),
        (HELLO, "agent: hello", "agent: no_action", "agent: 'no_action' is reserved"),
        (HELLO, "goal: Say hello", "goal: [", "is not valid YAML"),
        (HELLO, "goal: Say hello", "goal: !!python/name:os.system x", "is not allowed; plain YAML"),
        (HELLO, "goal: Say hello", "goal: &a [*a]", "an anchor contains itself"),
        (ALL, "channel: email", "channel: fax",
         "creatives/all.yml:1: [0].channel: unknown value 'fax'; known: email, push, rep, sms"),
        (ALL, "channel: email", "channel: sms",
         "creatives/all.yml:1: [0].channel: unknown channel 'sms'; known: email (nextmove.yml)"),
        (ALL, ", promotional: no", "", "creatives/all.yml:2: [1].promotional: a resolution is"),
        (ALL, "creative: sorry", "creative: note",
         "creatives/all.yml:2: [1].creative: 'note' is in creatives/all.yml already"),
        (ALL, 'campaign_id: "1"', "campaign_id: 1",
         "[0].campaign_id: Expected 'str', got 'int'; put it in quotes"),
        (HELLO, "goal: Say hello", f"{FACTORED}, pairs: [[channel, tune]]}}\ngoal: Say hello",
         "policy.pairs[0][1]: unknown dimension or attribute 'tune'; known: channel, incentive"),
        (HELLO, "goal: Say hello", f"{FACTORED}, pairs: [[channel, channel]]}}\ngoal: Say hello",
         "policy.pairs[0]: pairs channel with itself"),
        (ALL, "subject: A note", "subject: A note, attributes: {channel: web}",
         "attributes.channel: every action has that already"),
        (MAIN, "share: 0.9", "share: 0.8",
         "nextmove.yml:8: groups: shares sum to 0.9; they must sum to 1"),
        (MAIN, "share: 0.9", "share: 1.9", "nextmove.yml:9: groups[0].share: 1.9: Expected"),
        (MAIN, "name: holdout", "name: treatment", "groups[1]: group 'treatment' is there twice"),
        (MAIN, "name: treatment", "name: main", "yml:8: groups: group 'treatment' is missing"),
        (MAIN, "share: 0.9", "share: 0.9, policy: {kind: uniform}",
         "groups[0].policy: must be absent"),
        (MAIN, "{kind: fixed, actions: [no_action]}", "{kind: weighted_thompson}",
         "nextmove.yml:12: groups[1].policy: a group's policy is uniform or fixed"),
        (MAIN, "[no_action]", "[nothing]",
         "nextmove.yml:12: groups[1].policy.actions[0]: unknown action 'nothing'"),
        (MAIN, "email: mailer", "email: mail",
         "nextmove.yml:5: channels.email: unknown destination 'mail'; known: mailer; did you mean"),
        (MAIN, "email: mailer", "fax: mailer", "nextmove.yml:5: channels.fax: unknown value 'fax'"),
        (MAIN, "kind: braze", "kind: hubspot",
         "channels.email: hubspot cannot send email messages; braze, iterable, webhook can"),
        (MAIN, "kind: braze", "kind: slack", "channels.email: slack cannot send email messages"),
        (MAIN, "email: mailer", "email: mailer, rep: mailer",
         "channels.rep: braze cannot bring what a rep is told; hubspot, salesforce, slack,"),
        (ALL, "channel: email", "channel: rep",
         "'rep'; known: email (nextmove.yml); `channels: {rep: ...}` names who tells the reps"),
        (MAIN, "[orders]", "[order]", "nextmove.yml:4: sources[0]: unknown source 'order'"),
        (MAIN, "  - {incentive: ten_percent,", "  - {incentive: none,",
         "incentives[0]: incentive 'none' is there already"),
        (MAIN, "project: shop", "project: shop\nlimits: [{limit: calls, max: rep_capacity}]",
         "nextmove.yml:2: limits[0].max: every message would count; name channels: [rep]"),
        (MAIN, "project: shop", "project: shop\nquiet_hours: {start: 21, end: 8}",
         "nextmove.yml:2: quiet_hours: start must be before end"),
        (MAIN, "project: shop",
         "project: shop\nblackouts: [{first: 2026-12-25, last: 2026-12-24, why: x}]",
         "nextmove.yml:2: blackouts[0].last: is before `first`"),
        (MAIN, "project: shop",
         "project: shop\nblackouts: [{first: 25.12., last: 2026-12-26, why: x}]",
         "nextmove.yml:2: blackouts[0].first"),
        (HELLO, "goal: Say hello", "goal: Sell to people in financial distress",
         "agents/hello.yml:2: goal: 'distress' speaks of distress"),
        (MAIN, "project: shop", "project: shop\ncaps: [{max: 1, days: 3}]",
         "nextmove.yml:2: caps[0].days: unknown value '3'; known: 1, 30, 7"),
        (MAIN, 'salt: "0123456789abcdef"', "salt: short", "nextmove.yml:2: salt: 'short': Exp"),
        (MAIN, "project: shop", "project: shop\nlimits: [{limit: calls, max: rep_capcity}]",
         "limits[0].max: unknown value 'rep_capcity'; known: rep_capacity; did you mean"),
    ],
)  # fmt: skip
def test_each_problem_names_file_line_field_and_fix(
    folder: Callable[..., Path], file: str, old: str, new: str, problem: str
) -> None:
    found = problems_of(folder((file, old, new)))
    assert any(problem in line for line in found), "\n".join(found)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        ((HELLO, "ten_percent]", "ten_off]"), "actions[0].incentives[1]"),
        ((MAIN, "project: shop", "project: shop\nquiet_hours: {start: 21, end: 8}"), "quiet_hours"),
    ],
)
def test_one_mistake_is_one_problem(
    folder: Callable[..., Path], edit: tuple[str, str, str], told: str
) -> None:
    """Neither an action that the mistake has taken away, nor hours outside impossible ones."""
    fixed = (MAIN, "[no_action]", "[email.note.none.h09]")
    (found,) = problems_of(folder(edit, fixed))
    assert told in found


def test_all_problems_of_all_files_are_told_at_once(folder: Callable[..., Path]) -> None:
    found = problems_of(
        folder(
            (HELLO, "goal: Say hello\n", ""),
            (HELLO, "weight: 1", "weight: x"),
            (HELLO, "[9, 19]", "[nine, 19]"),
            (ALL, "channel: email", "channel: fax"),
            (MAIN, "[orders]", "[orders, clicks, pages]"),
        )
    )
    assert [line.split(": ")[0] for line in found] == [
        "nextmove.yml:4", "nextmove.yml:4", "agents/hello.yml:1", "agents/hello.yml:4",
        "agents/hello.yml:10", "creatives/all.yml:1", "creatives/all.yml:2",
    ]  # fmt: skip


def test_the_same_agent_in_two_files(folder: Callable[..., Path]) -> None:
    found = problems_of(folder(**{"agents/other.yml": AGENT}))
    assert found == ["agents/other.yml:1: agent: 'hello' is in agents/hello.yml already"]


def test_anchors_and_merges_are_read(folder: Callable[..., Path]) -> None:
    creatives = """\
- &base {creative: note, channel: email, campaign_id: "1", subject: A note}
- {<<: *base, creative: other}
"""
    _, _, found = load_project(folder(**{ALL: creatives}), COLUMNS)
    assert found["other"].subject == "A note"


def test_anchors_cannot_blow_up(folder: Callable[..., Path]) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert any("more than" in p for p in problems_of(folder(**{HELLO: "\n".join(lines)})))


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    assert "nextmove init" in problems_of(tmp_path)[0]
    (tmp_path / "nextmove.yml").write_text(PROJECT)
    assert [p.split(":")[0] for p in problems_of(tmp_path)] == ["agents/", "creatives/"]


def test_a_file_that_is_not_text(folder: Callable[..., Path]) -> None:
    project = folder()
    (project / HELLO).write_bytes(b"\xff\xfe\x00")
    assert "is not a UTF-8 text file" in problems_of(project)[0]


def test_an_empty_file(folder: Callable[..., Path]) -> None:
    assert problems_of(folder(**{HELLO: ""}))[0].startswith("agents/hello.yml:1: Expected 'object'")


def test_without_columns_only_their_names_go_unchecked(folder: Callable[..., Path]) -> None:
    edited = folder((HELLO, "orders_count = 1", "whatever = 1"))
    load_project(edited)
    with pytest.raises(ConfigurationError, match="is not a complete condition"):
        load_project(folder((HELLO, "orders_count = 1", "whatever =")))


def test_digest_sees_content_and_not_form(folder: Callable[..., Path]) -> None:
    first = config_digest(*load_project(folder()))
    moved = folder(
        (MAIN, "127.0.0.1:1", "127.0.0.1:2"), (HELLO, "goal: Say hello", "goal: 'Say hello'")
    )
    assert config_digest(*load_project(moved)) == first
    assert config_digest(*load_project(folder((HELLO, "weight: 1", "weight: 2")))) != first
    assert config_digest(*load_project(folder((MAIN, "abcdef", "abcdeg")))) != first
    assert len(first) == 64


def test_digest_ignores_the_order_of_names(folder: Callable[..., Path]) -> None:
    project, agents, creatives = load_project(folder())
    turned = dict(reversed(creatives.items()))
    assert config_digest(project, agents, creatives) == config_digest(project, agents, turned)


def test_the_template_fits_the_columns(tmp_path: Path) -> None:
    init(tmp_path, "shop", salt="a-salt-for-this-test")
    project, agents, creatives = load_project(tmp_path, COLUMNS)
    daily = {name for name, agent in agents.items() if not agent.triggers}
    assert daily == {"first_to_second_purchase", "win_back", "onboarding_activation"}
    assert set(agents) - daily == {"price_page"}
    assert len(creatives) >= 20
    assert len(project.incentives) >= 3
    for agent in agents.values():
        catalog = catalog_of(agent, creatives, project.incentives)
        assert len(catalog) <= 18
        assert set(needed_columns(agent, catalog, project)) <= set(COLUMNS)
        assert agent.triggers or any(action.is_resolution for action in catalog.actions)


def test_every_column_of_the_contract_can_be_named_in_a_rule() -> None:
    for column, type_name in COLUMNS.items():
        if type_name != "timestamp":
            assert compile_rule(f"{column} IS NULL", COLUMNS).columns == (column,)


def test_published_schemas_are_up_to_date() -> None:
    for name, text in schemas().items():
        assert (ROOT / "docs/reference" / name).read_text() == text, (
            "run python -m decision_engine.schema"
        )


def test_schemas_name_every_field_of_the_template(tmp_path: Path) -> None:
    init(tmp_path, "shop")
    for kind, pattern in (("agent", "agents/*.yml"), ("project", "nextmove.yml")):
        schema = msgspec.json.decode(schemas()[f"{kind}.schema.json"])
        known = set(schema["$defs"][kind.title()]["properties"])
        for path in tmp_path.glob(pattern):
            assert set(yaml.safe_load(path.read_text())) <= known


def test_triggers_are_read_with_what_they_need(folder: Callable[..., Path]) -> None:
    fields = ("type", "event", "page_class", "platform", "ticket_kind")
    on = " or ".join(f"{field} = 'x'" for field in fields)
    trigger = f'goal: a\ntriggers: [{{on: "{on}", when: "opens_2d > 1"}}]'
    project, agents, creatives = load_project(folder((HELLO, "goal: Say hello", trigger)), COLUMNS)
    assert agents["hello"].triggers[0].on == on
    catalog = catalog_of(agents["hello"], creatives, project.incentives)
    assert "opens_2d" in needed_columns(agents["hello"], catalog, project)
