"""A delivery to vendors that echo all they get, headers too: what is kept and said shows nobody.

The rows are of people, and the keys are keys, that are found again in any text.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner

from connectors.limits import Limiter
from decision_engine.cli import main
from tests.end_to_end.storm_outbox import make_project, set_outbox

KEYS = {"BRAZE_API_KEY": "canary-key-of-braze-01", "ITERABLE_API_KEY": "canary-key-of-iter-02"}
ALERTS = """  ops: {kind: webhook, url: 'URL/ops', api_key_env: OPS_KEY}
alerts: {destination: ops}
"""


@pytest.fixture
def echo() -> Iterator[tuple[str, list[str]]]:
    """A server that quotes the whole call in its answers, in turn with each status; the calls."""
    calls: list[str] = []
    turn = count()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            calls.append(f"{self.path} {self.headers} {body}")
            text = json.dumps({"message": calls[-1], "msg": calls[-1], "code": calls[-1]}).encode()
            self.send_response(204 if self.path == "/ops" else (400, 500, 422, 200)[next(turn) % 4])
            self.send_header("Content-Length", "0" if self.path == "/ops" else str(len(text)))
            self.end_headers()
            if self.path != "/ops":
                self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", calls
        server.shutdown()
        thread.join()


def test_nobody_and_no_key_is_in_what_a_delivery_says_and_keeps(
    tmp_path: Path,
    echo: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url, calls = echo
    for variable, key in KEYS.items():
        monkeypatch.setenv(variable, key)
    monkeypatch.setenv("OPS_KEY", "whsec_Y2FuYXJ5LWtleS1vZi1vcHMtMDMtMDEyMzQ1")
    monkeypatch.setattr(Limiter, "pause", lambda *_: None)
    workspace = make_project(tmp_path / "p", url, ALERTS.replace("URL", url))
    people = {f"canary{i}": (f"Canarytier {i}", f"Canary Ville {i}") for i in range(3)}
    with workspace.warehouse() as warehouse:
        ids = ("customer_id", "external_id", "contact_id", "account_id", "rep_id")
        columns = dict.fromkeys((*ids, "time_zone"), pa.string())
        warehouse.ensure(workspace.model("dim_customers"), pa.schema(columns))
        merges = dict.fromkeys(("old_customer_id", "customer_id"), pa.string())
        warehouse.ensure(workspace.model("int_identity__merges"), pa.schema(merges))
        for stream in ("users", "events"):
            name = "braze" if stream == "users" else "iterable"
            model = workspace.model(f"outbox_{name}__{stream}")
            set_outbox(warehouse, model, stream, people, "canary-")

    caplog.set_level(logging.DEBUG)
    done = CliRunner().invoke(main, ["deliver", "--project", str(workspace.root), "--json"])
    assert done.exit_code == 3, done.output
    shown = CliRunner().invoke(main, ["syncs", "rejected", "--project", str(workspace.root)])
    quoted = [call for call in calls if "canary-key-of" in call and "Canarytier" in call]
    assert len(quoted) >= 2, "the vendors were told"
    alerts = [call for call in calls if call.startswith("/ops")]
    assert alerts, "and somebody was alarmed"
    with workspace.warehouse() as warehouse:
        kept = [
            warehouse.rows(f"select * from {workspace.engine(table)}")
            for table in ("receipts", "sync_runs")
        ]
    assert all(kept)
    said = f"{done.output} {shown.output} {caplog.text} {kept} {alerts}"
    assert "canary" not in said.lower()
