"""One-click opt-outs: the token, the address, and the next send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from connectors import framed
from connectors.errors import ConfigurationError
from connectors.framed import FramedLog
from connectors.inbound import VENDORS, Call
from decision_engine.gate import People
from decision_engine.news import Feed
from decision_engine.opt_outs import OptOut, opened, token_of
from decision_engine.scaffold import init
from decision_engine.service.app import Receiver
from decision_engine.service.records import Webhook, frame, records
from decision_engine.service.unsubscribing import Unsubscribing
from decision_engine.workspace import Workspace

KEY = "a key of the project, long enough"
WHO = OptOut("u1", "email", "d1")


@given(st.text(), st.text(), st.text())
def test_a_token_opens_to_what_it_was_made_of(who: str, channel: str, decision: str) -> None:
    opt_out = OptOut(who, channel, decision)
    token = token_of(opt_out, KEY)
    assert opened(token, KEY) == opt_out
    assert token == token_of(opt_out, KEY), "one message, one address"
    assert opened(token, KEY + "x") is None


@given(st.data())
def test_no_change_of_a_token_opens(data: st.DataObject) -> None:
    token = token_of(WHO, KEY)
    place = data.draw(st.integers(0, len(token) - 2))
    letter = data.draw(st.characters(codec="ascii"))
    changed = token[:place] + letter + token[place + 1 :]
    assert opened(changed, KEY) is None or changed == token
    assert opened(token[:place], KEY) is None


@pytest.mark.parametrize("token", ["", "a", "\u00e9", "A" * 5_000, "....", "%00"])
def test_what_is_no_token_opens_nothing(token: str) -> None:
    assert opened(token, KEY) is None


def test_a_token_says_nothing_of_the_person() -> None:
    assert "person" not in token_of(OptOut("person@example.com", "email", "d"), KEY)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[FramedLog]:
    with FramedLog(tmp_path) as opened_log:
        yield opened_log


def answers(log: FramedLog, *calls: tuple[str, str]) -> list[tuple[int, str]]:
    """Status and page of each (method, token), by one mailbox after the other."""
    part = Unsubscribing(Receiver(log), KEY, lambda: datetime(2026, 3, 1, 9))
    app = Starlette(routes=list(part.routes()))

    async def one(method: str, token: str) -> tuple[int, str]:
        said: list[Any] = []

        async def receive() -> dict[str, Any]:
            body = b"List-Unsubscribe=One-Click" if method == "POST" else b""
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            said.append(message)

        path = f"/unsubscribe/{token}"
        scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b""}
        await app(scope, receive, send)
        assert b"set-cookie" not in dict(said[0]["headers"])
        return said[0]["status"], b"".join(m.get("body", b"") for m in said[1:]).decode()

    async def all_of_them() -> list[tuple[int, str]]:
        return [await one(*call) for call in calls]

    return asyncio.run(all_of_them())


def taken(log: FramedLog) -> list[Webhook]:
    return [r for _, payload in framed.frames(log.path) for r in records(payload, Webhook)]


def test_looking_changes_nothing_and_a_click_is_durable(log: FramedLog) -> None:
    token = token_of(WHO, KEY)
    (page, head) = answers(log, ("GET", token), ("HEAD", token))
    assert (page[0], head[0], "<form" in page[1]) == (200, 200, True)
    assert taken(log) == [], "scanners follow links"

    ((status, _),) = answers(log, ("POST", token))
    assert status == 200
    (event,) = taken(log)
    assert (event.event_type, event.external_id, event.channel) == ("unsubscribe", "u1", "email")
    assert event.decision_id == "d1"
    answers(log, ("POST", token))
    assert len({e.event_id for e in taken(log)}) == 1, "clicked twice is left once"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_forged_address_does_nothing(method: str, log: FramedLog) -> None:
    forged = token_of(WHO, "another key of another project")
    assert answers(log, (method, forged))[0][0] == 404
    assert taken(log) == []


def test_a_short_key_is_refused(log: FramedLog) -> None:
    with pytest.raises(ConfigurationError, match="shorter than 16"):
        Unsubscribing(Receiver(log), "short", datetime.now)


# ---- what binds the next send ----


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    init(tmp_path / "p", "p", salt="salt-of-the-opt-outs")
    opened_workspace = Workspace.open(tmp_path / "p")
    text = pa.string()
    tables: dict[str, list[dict[str, str]]] = {
        "int_identity__map": [
            {"identifier_kind": "email", "identifier_value": "p@example.com", "customer_id": "c1"}
        ],
        "stg_crm__contacts": [{"contact_id": "77", "email": "p@example.com"}],
    }
    with opened_workspace.warehouse() as warehouse:
        for name, rows in tables.items():
            schema = pa.schema(dict.fromkeys(rows[0], text))
            warehouse.ensure(opened_workspace.model(name), schema)
            table = pa.Table.from_pylist(rows, schema=schema)
            warehouse.append(opened_workspace.model(name), table)
    return opened_workspace


def refused(workspace: Workspace, *hooks: dict[str, object]) -> set[str]:
    """The channels that the customer has left, by what stands in the log that is not loaded."""
    with FramedLog(workspace.inbound_log) as written:
        for number, hook in enumerate(hooks):
            row: dict[str, Any] = dict.fromkeys(Webhook.__struct_fields__) | {
                "event_id": f"e{number}",
                "vendor": "v",
                "event_type": "unsubscribe",
                "is_machine": False,
                "occurred_at": "2026-03-01T09:00:00",
                "received_at": "2026-03-01T09:00:00",
            }
            written.append([frame([Webhook(**{**row, **hook})])])
        written.sync()
    with workspace.warehouse() as warehouse:
        news = Feed(workspace, warehouse, datetime(2026, 1, 1)).read()
        return People(workspace, warehouse).channels(news.refusals).get("c1", set())


@pytest.mark.parametrize("who", [{"email": "P@Example.com "}, {"external_id": "contact:77"}])
@pytest.mark.parametrize("channel", ["email", "push", "sms"])
def test_an_opt_out_of_any_channel_binds_before_it_is_loaded(
    who: dict[str, object], channel: str, workspace: Workspace
) -> None:
    assert refused(workspace, {**who, "channel": channel}) == {channel}


def test_who_does_not_say_what_they_leave_leaves_email(workspace: Workspace) -> None:
    assert refused(workspace, {"email": "p@example.com"}) == {"email"}


def test_an_opt_out_from_everything_is_one_from_every_channel(workspace: Workspace) -> None:
    said = {
        "type": "message.unsubscribe",
        "timestamp": "2026-03-01T09:00:00Z",
        "data": {"email": "p@example.com"},
    }
    call = Call(json.dumps(said).encode(), {"webhook-id": "w"}, datetime(2026, 3, 1, 9, tzinfo=UTC))
    hooks = [
        {"email": e["email"], "channel": e["channel"]} for e in VENDORS["standard"].parse(call)
    ]
    assert refused(workspace, *hooks) == {"email", "push", "sms", "rep"}
