"""Who may call our webhooks, one module a vendor.

A module has `verify(call, secret) -> bool`, `parse(call) -> list[Event]` and `KNOWN`: a call and
a secret that are known to belong together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from connectors.errors import ConfigurationError
from connectors.inbound import (
    braze,
    customerio,
    hubspot,
    iterable,
    klaviyo,
    sendgrid,
    standard,
)
from connectors.inbound._call import Call
from connectors.inbound._events import Event

__all__ = ["VENDORS", "Call", "Vendor", "self_test"]


@dataclass(frozen=True)
class Vendor:
    """How a vendor's webhook calls are checked and read."""

    verify: Callable[[Call, str], bool]
    parse: Callable[[Call], list[Event]]
    known: tuple[Call, str]
    needs_url: bool = False


VENDORS = {
    "braze": Vendor(braze.verify, braze.parse, braze.KNOWN),
    "customerio": Vendor(customerio.verify, customerio.parse, customerio.KNOWN),
    "hubspot": Vendor(hubspot.verify, hubspot.parse, hubspot.KNOWN, needs_url=True),
    "iterable": Vendor(iterable.verify, iterable.parse, iterable.KNOWN),
    "klaviyo": Vendor(klaviyo.verify, klaviyo.parse, klaviyo.KNOWN),
    "sendgrid": Vendor(sendgrid.verify, sendgrid.parse, sendgrid.KNOWN),
    "standard": Vendor(standard.verify, standard.parse, standard.KNOWN),
}


def self_test(name: str) -> None:
    """Raise ConfigurationError unless a vendor's known answer is taken and its forgeries are not.

    A signature check that cannot work in this process (another library, another build) must not
    begin to take calls.
    """
    vendor, (call, secret) = VENDORS[name], VENDORS[name].known
    forged = {header: f"{value}x" for header, value in call.headers.items()}
    is_right = vendor.verify(call, secret)
    is_fooled = (
        vendor.verify(replace(call, headers=forged), secret)
        or vendor.verify(replace(call, headers={}), secret)
        or vendor.verify(call, "")
    )
    if not is_right or is_fooled:
        raise ConfigurationError(
            f"the check of {name}'s webhooks does not work on this machine",
            "reinstall nextmove and the package cryptography",
        )
