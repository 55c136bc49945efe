"""One-click opt-outs (RFC 8058): an address that says who leaves what, and that nobody can make.

A token is the person, the channel and the decision, encrypted by AES-SIV under a key of the
project. It is the same for the same message, tells nothing to who reads it, and no change of it
opens. It does not expire: an opt-out has to work for as long as the mail is in a mailbox.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

_SEPARATE = b"nextmove one-click opt-out"
LONGEST_TOKEN = 4096


class OptOut(NamedTuple):
    """Who, as vendors know them, leaves which channel, by the message of which decision."""

    external_id: str
    channel: str
    decision_id: str


def token_of(opt_out: OptOut, key: str) -> str:
    """The token in the address of a message's opt-out."""
    sealed = _cipher(key).encrypt(msgspec.json.encode(tuple(opt_out)), None)
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def opened(token: str, key: str) -> OptOut | None:
    """What a token says; None for one that was not made with this key."""
    if not 0 < len(token) <= LONGEST_TOKEN or not token.isascii():
        return None
    try:
        sealed = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
        return OptOut(*msgspec.json.decode(_cipher(key).decrypt(sealed, None)))
    except (ValueError, binascii.Error, InvalidTag):
        return None


def _cipher(key: str) -> AESSIV:
    return AESSIV(hashlib.blake2b(key.encode(), digest_size=64, person=_SEPARATE[:16]).digest())
