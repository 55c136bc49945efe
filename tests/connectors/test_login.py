"""A Salesforce client that gets its own access tokens, at the sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from connectors.base import Receipt, Status
from connectors.calls import Target, connected
from connectors.destinations import OURS
from connectors.limits import Limiter
from connectors.sandbox.salesforce import CLIENT
from connectors.sync import ProfileSync
from tests.connectors.test_sandbox_streams import records
from tests.sandbox_process import Sandbox, running_sandbox

KEY = "sandbox-salesforce-key"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


def client(sandbox: Sandbox, key: str = KEY) -> AbstractContextManager[Target]:
    return connected(OURS["salesforce"], f"{sandbox.url}/salesforce", f"{CLIENT}:{key}")


def upsert(target: Target, count: int) -> list[Receipt]:
    rows = records("salesforce", "contacts", count)
    return list(ProfileSync(target, "contacts", rows, Limiter(), in_flight=1))


def test_a_client_gets_its_token_and_another_when_it_ends(sandbox: Sandbox) -> None:
    before = len(sandbox.ledger("salesforce"))
    with client(sandbox) as first:
        assert {r.status for r in upsert(first, 2)} == {Status.ACCEPTED}
        with client(sandbox) as second:  # the sandbox ends the token before
            assert {r.status for r in upsert(second, 1)} == {Status.ACCEPTED}
        assert {r.status for r in upsert(first, 3)} == {Status.ACCEPTED}
    assert len(sandbox.ledger("salesforce")) == before + 6


def test_a_client_that_is_refused_sends_nothing(sandbox: Sandbox) -> None:
    before = len(sandbox.ledger("salesforce"))
    with client(sandbox, "a-wrong-secret") as target:
        receipts = upsert(target, 2)
    assert {r.status for r in receipts} == {Status.SKIPPED}
    assert "key" in receipts[0].reason
    assert len(sandbox.ledger("salesforce")) == before
