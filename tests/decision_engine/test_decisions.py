"""Decisions on request, from the running service."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
import yaml

from decision_engine.agent_in_epoch import initial_state
from decision_engine.scaffold import init
from decision_engine.state import save
from decision_engine.workspace import Workspace
from tests.decision_engine.test_hot import CUSTOMER, PROFILE
from tests.sandbox_process import running_server

KEY = "api-key-of-the-test"
ENVIRONMENT = dict.fromkeys(
    ("NEXTMOVE_API_KEY", "NEXTMOVE_WRITE_KEY", "BRAZE_WEBHOOK_KEY", "ITERABLE_WEBHOOK_KEY"), KEY
)


class Api:
    """The service's address and a key."""

    def __init__(self, url: str) -> None:
        self.url = url

    def call(self, method: str, path: str, *, key: str = KEY, **more: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return requests.request(method, self.url + path, headers=headers, timeout=10, **more)

    def decide(self, **ask: Any) -> requests.Response:
        return self.call("POST", "/v1/decide", json=ask)

    def content(self, agent: str = "price_page", **query: str) -> requests.Response:
        return self.call("GET", f"/v1/content/{agent}", params=query)

    def put(self, path: str, body: Any) -> dict[str, Any]:
        reply = self.call("PUT", f"/v1/hot_store{path}", json=body)
        reply.raise_for_status()
        answer: dict[str, Any] = reply.json()
        return answer


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("shop") / "shop"
    init(folder, "api", salt="api-salt-0123456789")
    config = yaml.safe_load((folder / "nextmove.yml").read_text())
    # Everybody is treated, at any hour: the answers are to be the same at any time of day.
    config["groups"] = [{"name": "treatment", "share": 1.0}]
    config["quiet_hours"] = {"start": 0, "end": 24}
    config["service"] = {}
    config["channels"]["rep"] = "hubspot"
    (folder / "nextmove.yml").write_text(yaml.safe_dump(config))
    (folder / "creatives" / "call_back.yml").write_text(
        "- {creative: call_back, channel: rep, campaign_id: calls, subject: Call them back}"
    )
    return Workspace.open(folder)


@pytest.fixture(scope="module")
def empty(workspace: Workspace) -> Iterator[Api]:
    """A service whose store has not been filled."""
    command = ["serve", "--project", str(workspace.root), "--port", "0"]
    with running_server("decision_engine.cli", command, ENVIRONMENT) as (url, _):
        yield Api(url)


@pytest.fixture(scope="module")
def api(empty: Api, workspace: Workspace) -> Api:
    """The service with one customer and every agent's prior."""
    assert empty.call("GET", "/ready", key="").status_code == 503
    assert empty.decide(user_id="u1").status_code == 503
    instance = empty.put("", {})["instance"]
    rows = []
    for name, agent in workspace.agents.items():
        state = initial_state(agent, workspace.catalog(name))
        text = b64encode(save(state)).decode()
        rows.append({"key": name, "version": state.version, "state": text})
    empty.put("/policies", {"instance": instance, "rows": rows})
    profile = {**PROFILE, "as_of": time.time_ns() // 1000}
    answer = empty.put("/profiles", {"instance": instance, "rows": [profile]})
    assert [row["status"] for row in answer["rows"]] == ["accepted"]
    assert empty.call("GET", "/ready", key="").status_code == 200
    return empty


def test_a_decision_is_made_once_and_can_be_read_again(api: Api) -> None:
    first = api.decide(user_id="u1", agent="price_page", id="checkout-1").json()
    again = api.decide(email=" Ann@Example.com", agent="price_page", id="checkout-1").json()
    other = api.decide(customer_id=CUSTOMER, agent="price_page", id="checkout-2").json()
    assert first == again
    assert first["decision_id"] != other["decision_id"]
    assert first["agent"] == "price_page"
    told = api.call("GET", f"/v1/decisions/{first['decision_id']}").json()
    assert told["decision"]["action"] == first["action"]
    assert told["decision"]["expires_at"] == first["expires_at"]
    assert datetime.fromisoformat(first["expires_at"]).tzinfo == UTC
    assert told["decision"]["carried_out_by"] == "caller"
    assert 0 < told["decision"]["propensity"] <= 1
    assert told["explanation"].startswith("Price page chose")


def test_one_channel_only(api: Api, workspace: Workspace) -> None:
    for n in range(20):
        answer = api.decide(user_id="u1", agent="price_page", channel="push", id=f"push-{n}").json()
        assert answer["action"] == "no_action"  # there is no consent for push
        answer = api.decide(user_id="u1", agent="price_page", channel="email", id=f"e-{n}").json()
        assert answer["channel"] in (None, "email")


def test_who_is_not_known_and_who_is_in_no_audience(api: Api) -> None:
    assert api.decide(user_id="nobody").json()["why"] == "the person is not known"
    answer = api.decide(user_id="u1", agent="onboarding_activation").json()
    assert answer["decision_id"] is None
    assert answer["why"] == "in nobody's audience"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not a request"),
        (b'{"user_id": 7}', "$.user_id"),
        (b'{"user": "u1"}', "unknown field `user`"),
        (b'{"user_id": "u1", "id": "a\\u001fb"}', "U+001F"),
        (b'{"user_id": "u1", "id": "a\\u0000b"}', "control characters"),
        (b'{"user_id": "u1", "channel": "fax"}', "$.channel"),
        (b'{"agent": "price_page"}', "name a customer_id"),
    ],
)
def test_what_is_wrong_with_a_request(api: Api, body: bytes, says: str) -> None:
    reply = api.call("POST", "/v1/decide", data=body)
    assert reply.status_code == 400
    assert says in reply.json()["error"]


def test_a_name_that_is_there_twice(api: Api) -> None:
    decide = b'{"user_id": "u1", "user_id": "u2"}'
    stop = b'{"decision_id": "%b", "why": "no", "by": "me", "why": "yes"}' % (b"a" * 64)
    for path, body in (("/v1/decide", decide), ("/v1/stop", stop)):
        reply = api.call("POST", path, data=body)
        assert (reply.status_code, reply.json()["error"]) == (400, "a name is there twice")


def test_requests_that_are_refused(api: Api) -> None:
    assert api.call("POST", "/v1/decide", key="wrong", json={"user_id": "u1"}).status_code == 401
    assert api.call("POST", "/v1/decide", key="", json={"user_id": "u1"}).status_code == 401
    assert api.call("POST", "/v1/decide", data=b"x" * 40_000).status_code == 413
    assert api.decide(user_id="u1", agent="nobody").status_code == 404
    assert api.call("GET", "/v1/decisions/abc").status_code == 404
    made = api.decide(user_id="u1", agent="price_page").json()["decision_id"]
    epoch = api.call("GET", f"/v1/decisions/{made}").json()["decision"]["epoch_id"]
    assert api.call("GET", "/v1/content/price_page", key="").status_code == 401
    assert api.call("GET", f"/v1/decisions/epoch:{epoch}").status_code == 404
    assert api.content(user_id="u1").status_code == 400
    assert api.content(user_id="u1", message="m\x1fm", send="s").status_code == 400
    assert api.content(user_id="u1", message="m", send="s", default="nothing").status_code == 400
    for asked in ({"channel": "rep"}, {"default": "call_back"}):
        refused = api.content(user_id="u1", message="m", send="s", **asked)
        assert (refused.status_code, "a rep is told" in refused.text) == (400, True)


def test_one_decision_however_many_renders(api: Api) -> None:
    call = {"user_id": "u1", "message": "welcome", "channel": "email"}
    renders = [api.content(send="s1", **call).json() for _ in range(5)]
    assert renders == [renders[0]] * 5
    assert renders[0]["is_default"] is False
    sends = {api.content(send=f"s{n}", **call).json()["decision_id"] for n in range(10)}
    assert len(sends) == 10
    one, other = {**call, "message": "a:b"}, {**call, "message": "a"}
    assert api.content(send="c", **one).json()["decision_id"] not in {
        api.content(send="b:c", **other).json()["decision_id"],
        None,
    }
    words = {
        r["creative"] for n in range(30) if (r := api.content(send=f"s{n}", **call).json())["send"]
    }
    assert words <= {"what_it_includes", "ask_us_anything"}
    assert words


def test_the_safe_default(api: Api) -> None:
    unknown = api.content(user_id="nobody", message="m", send="s").json()
    assert (unknown["send"], unknown["is_default"], unknown["decision_id"]) == (False, True, None)
    fallback = api.content(
        user_id="nobody", message="m", send="s", default="ask_us_anything"
    ).json()
    assert (fallback["send"], fallback["creative"]) == (True, "ask_us_anything")
    assert fallback["subject"]


def test_the_api_is_described(api: Api) -> None:
    described = requests.get(f"{api.url}/openapi.json", timeout=10).json()
    for path in ("/v1/decide", "/v1/content/{agent}", "/v1/batch", "/webhooks/{vendor}"):
        assert path in described["paths"]
    decide = described["paths"]["/v1/decide"]["post"]
    body = decide["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    fields = described["components"]["schemas"][body.rsplit("/", 1)[1]]["properties"]
    assert {"user_id", "agent", "channel", "id", "deliver"} <= set(fields)


def test_basic_authentication_for_esps(api: Api) -> None:
    credentials = b64encode(f"braze:{KEY}".encode()).decode()
    reply = requests.get(
        f"{api.url}/v1/content/price_page",
        params={"user_id": "u1", "message": "m", "send": "s"},
        headers={"Authorization": f"Basic {credentials}"},
        timeout=10,
    )
    assert reply.status_code == 200


def test_who_says_that_a_decision_is_wrong_stops_it(api: Api, workspace: Workspace) -> None:
    made = api.decide(user_id="u1", agent="price_page", id="wrong-1").json()["decision_id"]
    said = {"decision_id": made, "why": "they are\nabout to renew", "by": "rep@example.com"}
    stopped = api.call("POST", "/v1/stop", json=said)
    assert stopped.status_code == 200
    assert api.call("POST", "/v1/stop", json={**said, "why": "again"}).json() == stopped.json()
    override = workspace.overrides().decisions[made]
    assert (override.kind, override.why) == ("stop", "they are about to renew")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"decision_id": "3f2a9c"}, 400),
        ({"why": " \n"}, 400),
        ({"by": "a\u0000b"}, 400),
        ({"agent": "price_page"}, 400),
        ({"why": "x" * 20_000}, 413),
    ],
)
def test_an_objection_that_is_written_wrongly_stops_nothing(
    api: Api, workspace: Workspace, change: dict[str, str], status: int
) -> None:
    said = {"decision_id": "a" * 64, "why": "no", "by": "me"} | change
    assert api.call("POST", "/v1/stop", json=said).status_code == status
    assert api.call("POST", "/v1/stop", json=said, key="wrong").status_code == 401
    assert not workspace.overrides().decisions.keys() & {"a" * 64, "3f2a9c"}
