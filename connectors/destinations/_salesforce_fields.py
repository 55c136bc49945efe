"""Which Salesforce objects we write, and what our columns are called there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from connectors.base import Record
from connectors.destinations import _replies as replies

ROOT = "/services/data/v62.0"


@dataclass(frozen=True)
class Kind:
    """One object. `key` is its external id field, `standard` the columns that are not custom.

    Any other column `x` is the custom field `x__c`, which must exist.
    """

    stream: str
    bulk: str
    name: str
    key: str
    identity: str
    standard: Mapping[str, str] = field(default_factory=dict)


CONTACT = Kind(
    "contacts",
    "contacts_in_bulk",
    "Contact",
    "nextmove_id__c",
    "external_id",
    {
        "email": "Email",
        "phone": "Phone",
        "first_name": "FirstName",
        "last_name": "LastName",
        "account_id": "AccountId",
        "owner_id": "OwnerId",
    },
)
TASK = Kind(
    "tasks",
    "tasks_in_bulk",
    "Task",
    "nextmove_key__c",
    "",
    {
        "contact_id": "WhoId",
        "account_id": "WhatId",
        "owner_id": "OwnerId",
        "subject": "Subject",
        "description": "Description",
        "status": "Status",
        "priority": "Priority",
        "due_on": "ActivityDate",
    },
)
OBJECTS = (CONTACT, TASK)


def key_of(kind: Kind, record: Record) -> str:
    """The external id: that of the person, or the record's key for what happens once."""
    for name in record.identity:
        replies.identifier(record, name)
    if kind.identity:
        return replies.identifier(record, kind.identity)
    if not replies.is_plain(record.key):
        raise replies.refused(record, "the key has control or invisible characters")
    return record.key


def fields_of(kind: Kind, record: Record) -> dict[str, Any]:
    """Salesforce's field names and values; an address comes from the record's identity."""
    given = {**_identity(kind, record), **replies.given(record.fields)}
    return {
        kind.standard.get(column, f"{column}__c"): value
        for column, value in given.items()
        if column != kind.identity
    }


def _identity(kind: Kind, record: Record) -> dict[str, str]:
    return {n: v for n, v in record.identity.items() if n in kind.standard and n != kind.identity}
