"""Identifiers in the one form in which they are compared, as dbt's macros clean them.

Each function is the same as the macro of its name in `dbt_project/macros/`.
"""

from __future__ import annotations

import re

BLANKS = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007"
    "\u2008\u2009\u200a\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"
)
"""What may surround an identifier without being part of it."""

_NOT_PHONE = re.compile(r"[^0-9+]")


def clean_id(value: str | None) -> str | None:
    """No surrounding blanks; None when nothing is left."""
    return (value.strip(BLANKS) or None) if value is not None else None


def clean_email(value: str | None) -> str | None:
    """As `clean_id`, in lower case; None for what is no address.

    Something like `none`, written down for many, would make one person of them.
    """
    cleaned = clean_id(value)
    return _lower(cleaned) if cleaned is not None and "@" in cleaned else None


def clean_phone(value: str | None) -> str | None:
    """Digits and plus only; None when nothing is left."""
    return (_NOT_PHONE.sub("", value) or None) if value is not None else None


def _lower(value: str) -> str:
    """Letter by letter, as databases do it: no final sigma, one letter for one."""
    if value.isascii():
        return value.lower()
    return "".join(letter.lower()[0] for letter in value)
