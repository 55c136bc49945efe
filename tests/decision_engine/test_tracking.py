"""Bytes of a tracking call in, events out: every outside text is hostile."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Template

from decision_engine import identifiers
from decision_engine.service.records import Event, frame, records
from decision_engine.service.tracking import (
    KINDS,
    MAX_DEPTH,
    MAX_ITEM,
    MAX_ITEMS,
    RefusedError,
    Taken,
    parse,
)

NOW = datetime(2026, 3, 2, 10, 0, 0)
SENT = "2026-03-02T09:59:58Z"
PAGES: Any = {"product": ("/p/",), "price": ("/pricing", "/p/prices"), "home": ("/",)}
MACROS = Path(__file__).parents[2] / "dbt_project" / "macros"
FIELDS = sorted(
    {
        *("userId", "anonymousId", "previousId", "messageId", "type", "event", "properties"),
        *("traits", "context", "timestamp", "sentAt", "batch", "email", "phone", "path", "url"),
        *("page_class", "ticket_id", "kind", "sentiment", "library", "name", "page", "writeKey"),
    }
)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def take(kind: str, body: Any) -> Taken:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse(kind, data).events(NOW, PAGES)


def one(kind: str, **item: Any) -> Event:
    taken = take(kind, {"userId": "u", "messageId": "m", **item})
    assert taken.refused == {}
    assert len(taken.events) == 1
    return taken.events[0]


def refusal(kind: str, **item: Any) -> tuple[str, str]:
    taken = take(kind, item)
    assert taken.events == []
    return taken.refused[0].code, str(taken.refused[0])


def noted(kind: str, **item: Any) -> tuple[Event, dict[str, str]]:
    taken = take(kind, {"userId": "u", "messageId": "m", **item})
    return taken.events[0], taken.notes.get(0, {})


class TestMapping:
    def test_track(self) -> None:
        event = one("track", event=" Product Added ", properties={"sku": "é", "n": 1.5})
        assert event == Event(
            message_id="m",
            type="track",
            occurred_at=NOW.isoformat(),
            received_at=NOW.isoformat(),
            event="Product Added",
            user_id="u",
            properties='{"sku":"é","n":1.5}',
        )

    def test_identify(self) -> None:
        traits = {"email": " Ann@X.Example ", "phone": "+49 (0) 30-1", "plan": "pro"}
        event = one("identify", anonymousId=7, traits=traits)
        assert (event.email, event.phone, event.anonymous_id) == (
            "ann@x.example",
            "+490301",
            "7",
        )
        assert json.loads(event.properties or "") == traits

    @pytest.mark.parametrize(
        ("properties", "context", "path", "page_class"),
        [
            ({"path": "/p/1?email=a#b"}, {}, "/p/1", "product"),
            ({"url": "https://x.example/p/prices/2?q=1"}, {}, "/p/prices/2", "price"),
            ({}, {"page": {"path": "/cart"}}, "/cart", "home"),
            ({"path": "/p/1", "page_class": "cart"}, {}, "/p/1", "cart"),
            ({"path": "/p/1", "page_class": "nonsense"}, {}, "/p/1", "product"),
            ({"url": "https://[x"}, {}, None, None),
            ({"path": 5}, {}, None, None),
        ],
    )
    def test_page(
        self, properties: Any, context: Any, path: str | None, page_class: str | None
    ) -> None:
        event = one("page", properties=properties, context=context)
        assert (event.page_path, event.page_class, event.event) == (path, page_class, None)

    def test_a_screen_without_a_path_goes_by_its_name(self) -> None:
        assert one("screen", name="Checkout").page_path == "Checkout"

    @pytest.mark.parametrize(
        ("kind", "context", "platform"),
        [
            ("track", {"library": {"name": "analytics.js"}}, "web"),
            ("track", {"library": {"name": "analytics-kotlin"}}, "app"),
            ("track", {"library": {"name": "analytics-python"}}, None),
            ("track", {"device": {"type": "ios"}}, "app"),
            ("page", {}, "web"),
            ("screen", {}, "app"),
            ("track", [], None),
        ],
    )
    def test_platform(self, kind: str, context: Any, platform: str | None) -> None:
        assert one(kind, event="e", context=context).platform == platform

    def test_session(self) -> None:
        assert one("page", context={"sessionId": 1714}).session_id == "1714"
        assert one("page", properties={"session_id": "s"}).session_id == "s"

    def test_ticket(self) -> None:
        properties = {"ticket_id": 17, "kind": "complaint", "sentiment": -1, "email": "A@x.example"}
        opened = one("track", event="Support Ticket Opened", properties=properties)
        assert (opened.ticket_id, opened.ticket_kind, opened.sentiment, opened.email) == (
            "17",
            "complaint",
            -1.0,
            "a@x.example",
        )
        solved = one("track", event="Support Ticket Solved", properties={"ticket_id": "17"})
        assert (solved.ticket_id, solved.ticket_kind) == ("17", None)

    def test_an_address_in_the_properties_of_another_event_is_somebody_elses(self) -> None:
        event = one("track", event="Friend Invited", properties={"email": "f@x.example"})
        assert event.email is None

    def test_alias_links_a_visitor_and_a_user(self) -> None:
        event = one("alias", previousId="anon-1")
        assert (event.type, event.user_id, event.anonymous_id) == ("identify", "u", "anon-1")

    def test_group_is_taken_and_not_used(self) -> None:
        taken = take("group", {"userId": "u", "groupId": "g"})
        assert (taken.events, taken.ignored, taken.refused) == ([], 1, {})

    def test_the_context_of_a_batch_is_that_of_its_items(self) -> None:
        items: list[Any] = [{"type": "track", "event": "e", "userId": "u"}]
        items += [{**items[0], "context": {"library": {"name": "analytics-ios"}}}]
        taken = take("batch", {"batch": items, "context": {"library": {"name": "analytics.js"}}})
        assert [e.platform for e in taken.events] == ["web", "app"]

    def test_libraries_that_write_an_empty_object_as_a_list(self) -> None:
        assert one("track", event="e", properties=[], context=[], traits=[]).properties is None


class TestTime:
    @pytest.mark.parametrize("ahead", [-86_400 * 400, -90, 0, 90, 86_400 * 400])
    def test_the_senders_clock_does_not_matter(self, ahead: int) -> None:
        clock = datetime(2026, 3, 2, 9, 59, 58) + timedelta(seconds=ahead)
        stamp = (clock - timedelta(seconds=30)).isoformat() + "Z"
        event, notes = noted("page", timestamp=stamp, sentAt=clock.isoformat() + "Z")
        assert event.occurred_at == (NOW - timedelta(seconds=30)).isoformat()
        assert notes == {}

    def test_an_import_is_taken_at_its_word(self) -> None:
        item = {"type": "page", "userId": "u", "timestamp": "2020-01-01T00:00:00+02:00"}
        taken = take("import", {"batch": [item], "sentAt": "2019-01-01T00:00:00Z"})
        assert taken.events[0].occurred_at == "2019-12-31T22:00:00"

    def test_the_future_becomes_now_and_that_is_said(self) -> None:
        event, notes = noted("page", timestamp="2027-01-01T00:00:00Z")
        assert event.occurred_at == NOW.isoformat()
        assert notes == {"timestamp": "in the future: taken as the time of receipt"}
        event, notes = noted("page", timestamp="2026-03-02T10:00:30Z")
        assert (event.occurred_at, notes) == (NOW.isoformat(), {})

    @pytest.mark.parametrize(
        "stamp", ["yesterday", 1714, {}, True, "0001-01-01T00:00:00+14:00", "1999-12-31T23:59:59Z"]
    )
    def test_a_time_that_is_none(self, stamp: Any) -> None:
        assert refusal("page", userId="u", timestamp=stamp)[0] == "timestamp"

    @pytest.mark.parametrize("sent_at", ["yesterday", 5, {}, None])
    def test_without_a_readable_clock_the_time_stands(self, sent_at: Any) -> None:
        event = one("page", timestamp="2026-03-02T09:00:00.5Z", sentAt=sent_at)
        assert event.occurred_at == "2026-03-02T09:00:00.500000"

    def test_a_skew_out_of_range(self) -> None:
        item = {"timestamp": "9999-12-31T00:00:00Z", "sentAt": "0001-01-01T00:00:00Z"}
        assert refusal("page", userId="u", **item)[0] == "timestamp"


class TestIdentity:
    def test_without_an_id_the_content_is_the_id(self) -> None:
        item = {"event": "e", "userId": "u", "timestamp": SENT}
        first = take("track", {**item, "sentAt": SENT, "writeKey": "k"}).events[0]
        again = take("track", {**item, "sentAt": NOW.isoformat()}).events[0]
        batched = take("batch", {"batch": [{"type": "track", **item}]}).events[0]
        assert first.message_id == again.message_id == batched.message_id
        assert len(first.message_id) == 64
        assert take("track", {**item, "event": "f"}).events[0].message_id != first.message_id

    @pytest.mark.parametrize(
        ("item", "code"),
        [
            ({}, "nobody"),
            ({"userId": " ", "anonymousId": "\u3000"}, "nobody"),
            ({"userId": "x" * 257}, "userId"),
            ({"userId": "a\u0000b"}, "userId"),
            ({"anonymousId": "a\nb"}, "anonymousId"),
            ({"userId": "u", "messageId": "m" * 257}, "messageId"),
            ({"userId": True}, "shape"),
            ({"userId": 1.5}, "shape"),
            ({"userId": {"a": 1}}, "shape"),
            ({"userId": "u", "event": "x" * 257}, "event"),
            ({"userId": "u", "event": "a\u0007b"}, "event"),
            ({"userId": "u", "event": ""}, "event"),
            ({"userId": "u", "event": None}, "event"),
            ({"userId": "u", "properties": "text"}, "properties"),
        ],
    )
    def test_refused(self, item: dict[str, Any], code: str) -> None:
        assert refusal("track", **{"event": "e", **item})[0] == code

    def test_alias_needs_both(self) -> None:
        assert refusal("alias", userId="u")[0] == "nobody"
        assert refusal("alias", previousId="p")[0] == "nobody"

    @pytest.mark.parametrize(
        ("properties", "code"),
        [
            ({"kind": "complaint"}, "ticket_id"),
            ({"ticket_id": [], "kind": "complaint"}, "ticket_id"),
            ({"ticket_id": "1"}, "kind"),
            ({"ticket_id": "1", "kind": {}}, "kind"),
        ],
    )
    def test_a_ticket_that_could_not_be_followed(self, properties: Any, code: str) -> None:
        assert (
            refusal("track", userId="u", event="Support Ticket Opened", properties=properties)[0]
            == code
        )

    @pytest.mark.parametrize(
        "email", ["x" * 321, 7, 5.5, "none", ["a@x.example"], "a\u0000@x.example"]
    )
    def test_a_field_it_can_do_without(self, email: Any) -> None:
        event, notes = noted("identify", traits={"email": email})
        assert event.email is None
        assert list(notes) == ["email"]

    @pytest.mark.parametrize("sentiment", [2, "bad", True, 1e300])
    def test_a_sentiment_that_is_none(self, sentiment: Any) -> None:
        properties = {"ticket_id": "1", "kind": "question", "sentiment": sentiment}
        event, notes = noted("track", event="Support Ticket Opened", properties=properties)
        assert (event.sentiment, list(notes)) == (None, ["sentiment"])


class TestHostile:
    def test_the_good_items_of_a_batch_are_taken(self) -> None:
        items = [
            {"type": "track", "event": "e", "userId": "u"},
            {"type": "teapot", "userId": "u"},
            "text",
            {"type": "track", "event": "e", "userId": "u", "properties": {"x": "y" * MAX_ITEM}},
            {"type": "page", "userId": "v"},
        ]
        taken = take("batch", {"batch": items})
        assert [e.user_id for e in taken.events] == ["u", "v"]
        assert {i: e.code for i, e in taken.refused.items()} == {1: "type", 2: "shape", 3: "size"}

    @pytest.mark.parametrize(
        ("kind", "body", "status"),
        [
            ("track", b"", 400),
            ("track", b"{", 400),
            ("track", b"[]", 400),
            ("track", b'{"userId":"\xff"}', 400),
            ("track", b'{"writeKey":1}', 400),
            ("track", b'{"userId":NaN,"x":"\\ud83d"}', 400),
            ("track", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
            ("track", b'{"b":"\\ud83d","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
            ("batch", b"{}", 400),
            ("batch", b'{"batch":{}}', 400),
            ("batch", b'{"batch":[' + b",".join([b"{}"] * (MAX_ITEMS + 1)) + b"]}", 413),
        ],
    )
    def test_a_call_that_is_none(self, kind: str, body: bytes, status: int) -> None:
        with pytest.raises(RefusedError) as caught:
            parse(kind, body)
        assert caught.value.status == status

    def test_depth(self) -> None:
        for levels, is_fine in ((MAX_DEPTH - 3, True), (MAX_DEPTH + 1, False), (500, False)):
            nested = '{"a":' * levels + "1" + "}" * levels
            body = f'{{"event":"e","userId":"u","properties":{nested}}}'.encode()
            taken = take("track", body)
            assert (taken.refused == {}) is is_fine, levels
        broad: dict[str, Any] = {f"k{i}": [] for i in range(100)}
        assert one("track", event="e", properties=broad).properties

    def test_a_name_that_is_there_twice(self) -> None:
        fine = '{"type":"track","event":"e","userId":"u"}'
        twice = '{"type":"track","event":"e","userId":"u","properties":{"a":1,"a":2}}'
        taken = take("batch", f'{{"batch":[{fine},{twice},{fine}]}}'.encode())
        assert {place: error.code for place, error in taken.refused.items()} == {1: "repeated"}
        assert len(taken.events) == 2
        for body in (
            f'{{"batch":[{fine}],"batch":[{fine}]}}',
            f'{{"batch":[{twice}],"context":{{}},"context":{{}}}}',
            f'{{"batch":[{twice}],"x":"\\ud83d"}}',
        ):
            with pytest.raises(RefusedError) as caught:
                parse("batch", body.encode())
            assert (caught.value.status, caught.value.code) == (400, "repeated")
        assert take("track", twice.encode()).refused[0].code == "repeated"

    def test_half_of_an_emoji(self) -> None:
        body = rb'{"userId":"u","event":"e","properties":{"a":"x\ud83d","b":"\\ud83d"}}'
        event = take("track", body).events[0]
        assert json.loads(event.properties or "") == {"a": "x?", "b": "\\ud83d"}
        whole = rb'{"userId":"u","event":"\ud83d\ude00"}'
        assert take("track", whole).events[0].event == "😀"

    def test_a_nul_in_the_properties(self) -> None:
        event = one("track", event="e", properties={"a\x00": ["b\x00", {"c": "\\u0000"}]})
        assert json.loads(event.properties or "") == {"a": ["b", {"c": "\\u0000"}]}

    @given(
        body=st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(
                    st.sampled_from(FIELDS) | st.text(max_size=3),
                    inner,
                    max_size=8,
                )
            ),
            max_leaves=25,
        ),
        kind=st.sampled_from([*KINDS, "batch", "import"]),
    )
    @settings(max_examples=150, deadline=None)
    def test_whatever_comes(self, kind: str, body: Any) -> None:
        if isinstance(body, dict):
            body = {"userId": "u", "event": "e", "batch": [body], **body}
        try:
            taken = take(kind, json.dumps(body).encode())
        except RefusedError:
            return
        for event in taken.events:
            assert list(records(frame([event]))) == [event]
            assert datetime(2000, 1, 1) <= datetime.fromisoformat(event.occurred_at) <= NOW
            for name in event.__struct_fields__:
                value = getattr(event, name)
                if isinstance(value, str) and name != "properties":
                    assert len(value) <= 1024
                    assert not CONTROL.search(value)
            json.loads(event.properties or "{}")

    @given(st.binary(max_size=200))
    @settings(max_examples=100, deadline=None)
    def test_any_bytes(self, body: bytes) -> None:
        try:
            take("batch", body)
        except RefusedError as error:
            assert error.status == 400  # noqa: PT017


class TestParityWithDbt:
    """The cleaning of identifiers is defined twice; these are the same functions."""

    NASTY = (
        "",
        " ",
        "a",
        " A b ",
        "\t\nAnn@X.EXAMPLE\r\n",
        "\u00a0a\u3000",
        "\ufeffA\u200b",
        "ÄÖß@X.DE",
        "ΑΣ",
        "İI",
        "ǅ",
        "+49 (0)30/1-2",
        "٣٤",
        "\uff0b\uff11",
        "++",
        "a'b\"c",
        "x\u0301",
        "😀",
        "%_\\",
    )

    def sql(self, name: str) -> str:
        """The body of a macro, applied to a parameter."""
        text = (MACROS / f"{name}.sql").read_text()
        blanks = re.findall(r'return\("(.*)"\)', (MACROS / "blanks.sql").read_text())[0]
        literal = Template(f'{{{{ "{blanks}" }}}}', keep_trailing_newline=True).render()
        body = re.findall(rf"macro \w*{name}\(column\) -%}}\n(.*?)\n{{%-", text, re.DOTALL)[-1]
        if name == "clean_phone":
            body = re.findall(r"default__clean_phone\(column\) -%}\n(.*?)\n{%-", text, re.DOTALL)[0]
        body = body.replace("{{ nextmove.trimmed(column) }}", f"trim(text, '{literal}')")
        return f"select {body.replace('{{ column }}', 'text')} from (select unnest($1) as text)"

    @pytest.mark.parametrize("name", ["clean_id", "clean_email", "clean_phone"])
    def test_nasty_texts(self, name: str) -> None:
        clean = getattr(identifiers, name)
        around = [chr(c) + middle + chr(c) for c in range(1, 0x3100) for middle in ("a", "A@b")]
        texts = [*self.NASTY, *(f"{text}@{text}" for text in self.NASTY), "@", " @ ", *around]
        with duckdb.connect() as database:
            found = database.execute(self.sql(name), [texts]).fetchall()
        assert found == [(clean(text),) for text in texts]
        assert clean(None) is None
