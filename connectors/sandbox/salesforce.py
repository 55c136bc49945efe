"""Salesforce as documented: upsert by sObject Collections, and Bulk API 2.0."""

from __future__ import annotations

import csv
import io
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from connectors.sandbox.ledger import Entry
from connectors.sandbox.limits import Limit, Pool, Usage
from connectors.sandbox.state import State
from connectors.sandbox.vendor import Answer, Endpoint, answer, carries

NAME = "salesforce"
DAILY = Limit("api-usage", 15_000, 86_400)
MAX_RECORDS = 200
MAX_BODY = 6 * 1024 * 1024  # a guess
MAX_CSV = 150 * 1024 * 1024
ROOT = "/services/data/v62.0"
CLIENT = "sandbox-salesforce-client"
KEYS = {"Contact": "nextmove_id__c", "Task": "nextmove_key__c"}
"""The external id fields that the imitated org has."""
_CSV = {"content-type": "text/csv"}


@dataclass
class _Job:
    object: str
    key: str
    state: str = "Open"
    rows: list[dict[str, str]] = field(default_factory=list)
    written: list[dict[str, str]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    asked: int = 0


class Salesforce:
    """One org. A new contact needs a LastName, and addresses have an @."""

    name = NAME

    def __init__(self, state: State, key: str, limit_divisor: float = 1.0) -> None:
        self._state = state
        self._key = key
        self._jobs: dict[str, _Job] = {}
        self._token = ""
        pool = Pool([DAILY], limit_divisor)
        jobs = f"{ROOT}/jobs/ingest"
        self.endpoints: Mapping[str, Endpoint] = {
            f"PATCH {ROOT}/composite/sobjects/{{object}}/{{field}}": Endpoint(
                self._upsert, pool, MAX_BODY
            ),
            "POST /services/oauth2/token": Endpoint(
                self._log_in, pool, MAX_BODY, is_raw=True, is_open=True
            ),
            f"POST {jobs}": Endpoint(self._create, pool, MAX_BODY),
            f"PUT {jobs}/{{id}}/batches": Endpoint(self._upload, pool, MAX_CSV, is_raw=True),
            f"PATCH {jobs}/{{id}}": Endpoint(self._close, pool, MAX_BODY),
            f"GET {jobs}/{{id}}": Endpoint(self._ask, pool, MAX_BODY),
            f"GET {jobs}/{{id}}/successfulResults/": Endpoint(self._written, pool, MAX_BODY),
            f"GET {jobs}/{{id}}/failedResults/": Endpoint(self._failed, pool, MAX_BODY),
        }
        self.errors: Mapping[str, Answer] = {
            "unauthorized": _error(401, "INVALID_SESSION_ID", "Session expired or invalid"),
            "not_found": _error(404, "NOT_FOUND", "The requested resource does not exist"),
            "too_large": _error(413, "REQUEST_TOO_LARGE", "Request entity too large"),
            "bad_json": _error(400, "JSON_PARSER_ERROR", "Unexpected character"),
            "server_error": _error(500, "UNKNOWN_EXCEPTION", "An unexpected error occurred"),
        }

    def is_authentic(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Bearer token: the key, or the one that was given last; it ends the one before."""
        tokens = (self._key, self._token) if self._token else (self._key,)
        return any(carries(headers, "authorization", f"Bearer {t}") for t in tokens)

    def rate_headers(self, usages: Sequence[Usage]) -> Mapping[str, str]:
        """How much of the day's calls is used."""
        (usage,) = usages
        used = usage.limit.calls - usage.remaining
        return {"sforce-limit-info": f"api-usage={used}/{usage.limit.calls}"}

    def limited(self, path: str, usages: Sequence[Usage]) -> Answer:
        """403 when the day's calls are used up."""
        return _error(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")

    def _log_in(self, body: bytes) -> Answer:
        """Client credentials: one client, whose secret is the key."""
        asked = dict(parse_qsl(body.decode("latin-1")))
        if asked.get("grant_type") != "client_credentials":
            return _oauth_error("unsupported_grant_type", "grant type not supported")
        if (asked.get("client_id"), asked.get("client_secret")) != (CLIENT, self._key):
            return _oauth_error("invalid_client", "invalid client credentials")
        self._token = secrets.token_hex(24)
        return answer(200, {"access_token": self._token, "token_type": "Bearer"})

    # ---- collections ----

    def _upsert(self, payload: Any, kind: str, key: str) -> Answer:
        if KEYS.get(kind) != key:
            return _error(404, "NOT_FOUND", "Provided external ID field does not exist")
        records = payload.get("records") if isinstance(payload, dict) else None
        if not isinstance(records, list) or not 0 < len(records) <= MAX_RECORDS:
            return _error(400, "INVALID_INPUT", f"1 to {MAX_RECORDS} records expected")
        types = {(record.get("attributes") or {}).get("type") for record in records}
        if types != {kind} or any("Id" in record for record in records):
            return _error(400, "INVALID_INPUT", "records must have one type and no Id")
        return answer(200, [self._one(kind, key, record) for record in records])

    def _one(self, kind: str, key: str, record: Any) -> dict[str, Any]:
        fields = {name: value for name, value in record.items() if name != "attributes"}
        code, message = self._fault(kind, key, fields)
        if code:
            errors = [{"statusCode": code, "message": message, "fields": []}]
            return {"success": False, "errors": errors}
        return {"id": self._write(kind, key, fields), "success": True, "errors": []}

    def _fault(self, kind: str, key: str, fields: Mapping[str, Any]) -> tuple[str, str]:
        if not fields.get(key):
            return "MISSING_ARGUMENT", f"{key} not specified"
        if fields.get("Email") and "@" not in str(fields["Email"]):
            return "INVALID_EMAIL_ADDRESS", "Email: invalid email address"
        known = fields[key] in self._state.accounts[NAME].profiles
        if kind == "Contact" and not known and not fields.get("LastName"):
            return "REQUIRED_FIELD_MISSING", "Required fields are missing: [LastName]"
        if self._state.refuses(NAME):
            return "FIELD_CUSTOM_VALIDATION_EXCEPTION", "refused"
        return "", ""

    def _write(self, kind: str, key: str, fields: Mapping[str, Any]) -> str:
        """The record's id, which is a function of its external id."""
        self._state.record(
            Entry(
                vendor=NAME,
                kind="contact" if kind == "Contact" else "task",
                external_id=str(fields[key]),
                email=str(fields.get("Email") or ""),
                properties={name: v for name, v in fields.items() if name != key},
            )
        )
        prefix = "003" if kind == "Contact" else "00T"
        return prefix + uuid.uuid5(uuid.NAMESPACE_OID, str(fields[key])).hex[:15]

    # ---- bulk ----

    def _create(self, payload: Any) -> Answer:
        payload = payload if isinstance(payload, dict) else {}
        kind, key = payload.get("object"), payload.get("externalIdFieldName")
        if payload.get("operation") != "upsert" or KEYS.get(str(kind)) != key:
            return _error(400, "INVALIDJOB", "the operation or its external id is not valid")
        job = uuid.uuid4().hex[:18]
        self._jobs[job] = _Job(str(kind), str(key))
        return answer(200, {"id": job, "state": "Open", "object": kind})

    def _upload(self, payload: bytes, job: str) -> Answer:
        found = self._jobs.get(job)
        if found is None or found.state != "Open" or found.rows:
            return _error(400, "INVALIDJOBSTATE", "this job takes no data")
        found.rows = list(csv.DictReader(io.StringIO(payload.decode())))
        return Answer(201, b"", {})

    def _close(self, payload: Any, job: str) -> Answer:
        found, state = self._jobs.get(job), (payload or {}).get("state")
        if found is None or found.state != "Open" or state not in ("UploadComplete", "Aborted"):
            return _error(400, "INVALIDJOBSTATE", "the job cannot go to that state")
        found.state = state
        return answer(200, {"id": job, "state": state})

    def _ask(self, _: Any, job: str) -> Answer:
        """A job is seen at work once before it is complete."""
        found = self._jobs.get(job)
        if found is None:
            return self.errors["not_found"]
        found.asked += 1
        if found.state == "UploadComplete":
            found.state = "InProgress"
        elif found.state == "InProgress":
            self._work(found)
        return answer(200, {"id": job, "state": found.state})

    def _work(self, job: _Job) -> None:
        for row in job.rows:
            given = {name: value for name, value in row.items() if value != ""}
            code, message = self._fault(job.object, job.key, given)
            if code:
                job.failed.append({"sf__Id": "", "sf__Error": f"{code}:{message}:--", **row})
            else:
                sf_id = self._write(job.object, job.key, given)
                job.written.append({"sf__Id": sf_id, "sf__Created": "false", **row})
        job.state = "JobComplete"

    def _written(self, _: Any, job: str) -> Answer:
        found = self._jobs.get(job)
        return self._results(found, "sf__Created", found.written if found else [])

    def _failed(self, _: Any, job: str) -> Answer:
        found = self._jobs.get(job)
        return self._results(found, "sf__Error", found.failed if found else [])

    def _results(self, job: _Job | None, column: str, rows: list[dict[str, str]]) -> Answer:
        if job is None:
            return self.errors["not_found"]
        text = io.StringIO()
        columns = ["sf__Id", column, *(job.rows[0] if job.rows else [job.key])]
        writer = csv.DictWriter(text, columns, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return Answer(200, text.getvalue().encode(), _CSV)


def _oauth_error(code: str, message: str) -> Answer:
    return answer(400, {"error": code, "error_description": message})


def _error(status: int, code: str, message: str) -> Answer:
    return answer(status, [{"errorCode": code, "message": message}])
