"""The identifiers that each tool knows people by. No tool knows all of them.

Addresses are at example.com and example.net (RFC 2606); phone numbers are of the ranges kept
for fiction: 555-0100 to 555-0199 in North America, Ofcom's drama numbers in Britain.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from decision_engine.market.people import COUNTRIES, People, generator
from decision_engine.market.schemas import ids, pick
from decision_engine.types import Bools, Ints

FIRST_NAMES = (
    "Ada", "Alan", "Amir", "Anna", "Bea", "Ben", "Carla", "Chen", "Clara", "Dana", "David", "Ella",
    "Emil", "Erin", "Faye", "Finn", "Grace", "Hana", "Hugo", "Ines", "Ivan", "Jack", "Jana", "Joel",
    "Kai", "Lena", "Leo", "Lucy", "Mara", "Max", "Mia", "Nils", "Noor", "Olga", "Omar", "Pia",
    "Ravi", "Rosa", "Sam", "Tara", "Theo", "Uma", "Vera", "Wes", "Yara", "Zoe",
)  # fmt: skip
LAST_NAMES = (
    "Adler", "Baker", "Brook", "Carter", "Cole", "Diaz", "Drew", "Ellis", "Farr", "Ford", "Gray",
    "Hale", "Hart", "Hill", "Ito", "Jones", "Kent", "Khan", "Lane", "Lee", "Lowe", "Marsh", "Moss",
    "Nash", "Novak", "Okoro", "Park", "Patel", "Quinn", "Reed", "Rossi", "Sato", "Shaw", "Silva",
    "Stone", "Tran", "Vale", "Voss", "Wade", "Webb", "West", "Wolf", "York", "Zhang",
)  # fmt: skip
_BRITISH = (
    "+447700900", "+441134960", "+441144960", "+441154960", "+441164960", "+441174960",
    "+441184960", "+441214960", "+441314960", "+441414960", "+441514960", "+441614960",
    "+442079460", "+441914980", "+442896496", "+442920180", "+441632960",
)  # fmt: skip


@dataclass(frozen=True)
class Identifiers:
    """Arrow text arrays over t people, NULL where a person has no such identifier.

    A quarter of the people gave sales another address than the shop. A phone number, or a user
    id in their account, gives away that both are one person.
    """

    people: People
    seed: int

    @cached_property
    def number(self) -> Ints:
        """A number (t,) in no order, so that ids do not give the order of people away."""
        return 1000 + generator(self.seed, 0, "numbers").permutation(len(self.people))

    @cached_property
    def first_name(self) -> pa.Array:
        """First names; they repeat."""
        return pick(FIRST_NAMES, self.number % len(FIRST_NAMES))

    @cached_property
    def last_name(self) -> pa.Array:
        """Last names; they repeat."""
        return pick(LAST_NAMES, self.number * 7 % len(LAST_NAMES))

    @cached_property
    def email(self) -> pa.Array:
        """The address that the shop, the web site and support know."""
        local = pc.utf8_lower(_join(self.first_name, ".", self.last_name, _text(self.number)))
        return _join(local, "@example.com")

    @cached_property
    def has_other_crm_email(self) -> Bools:
        """Whom (t,) sales knows by another address than the shop."""
        return generator(self.seed, 0, "crm email").random(len(self.people)) < 0.25

    @cached_property
    def links_by_phone(self) -> Bools:
        """Whose (t,) phone number gives away that both addresses are of one person."""
        drawn = generator(self.seed, 0, "links").random(len(self.people)) < 0.5
        return drawn & self.has_phone

    @cached_property
    def crm_email(self) -> pa.Array:
        """The address that sales knows."""
        other = _join(self.last_name, "-", _text(self.number * 3), "@example.net")
        return pc.if_else(pa.array(self.has_other_crm_email), other, self.email)

    @cached_property
    def user_id(self) -> pa.Array:
        """The id of the account; on rows only while people are logged in."""
        return ids("u", self.number * 13)

    @cached_property
    def contact_id(self) -> pa.Array:
        """The id in the CRM."""
        return ids("crm", self.number * 11)

    @cached_property
    def shop_customer_id(self) -> pa.Array:
        """The id on orders."""
        return ids("shop", self.number * 17)

    @cached_property
    def has_phone(self) -> Bools:
        """Whoever wants messages there has one, as long as the fictional ranges last."""
        has: Bools = np.asarray(self.phone.is_valid())
        return has

    @cached_property
    def phone(self) -> pa.Array:
        """Phone numbers in international form without blanks."""
        wants = self.people.has_channel[:, 2]
        numbers: list[str | None] = [None] * len(self.people)
        supply = {"US": _american(), "GB": _british()}
        for person in np.flatnonzero(wants).tolist():
            numbers[person] = next(supply[COUNTRIES[self.people.zone[person]]], None)
        return pa.array(numbers, pa.string())

    @cached_property
    def crm_phone(self) -> pa.Array:
        """As people in sales type it: with blanks."""
        return _join(
            pc.utf8_slice_codeunits(self.phone, 0, 3), " ", pc.utf8_slice_codeunits(self.phone, 3)
        )

    def anonymous_id(self, who: Ints, device: Ints) -> pa.Array:
        """The id (n,) in the browser or app of a person's device (0, 1 or 2)."""
        return self._anonymous_ids.take(pa.array(who * 3 + device))

    @cached_property
    def _anonymous_ids(self) -> pa.Array:
        numbers = generator(self.seed, 0, "devices").permutation(3 * len(self.people))
        return ids("anon", numbers + 100_000)

    @cached_property
    def _people_by_email(self) -> dict[str, int]:
        both = [*self.email.to_pylist(), *self.crm_email.to_pylist()]
        return {email.lower(): i % len(self.people) for i, email in enumerate(both)}

    def person_of(self, email: str) -> int | None:
        """The person behind either of their addresses."""
        return self._people_by_email.get(email.strip().lower())


def _text(numbers: Ints) -> pa.Array:
    return pa.array(numbers).cast(pa.string())


def _join(*parts: pa.Array | str) -> pa.Array:
    texts = [pa.scalar(p) if isinstance(p, str) else p for p in parts]
    return pc.binary_join_element_wise(*texts, "")


def _american() -> Iterator[str]:
    """About 71,000 numbers: the fictional hundred of every area code there could be."""
    codes = [a for a in range(200, 990) if a // 10 % 10 != 9 and a % 100 != 11]
    return (f"+1{area}55501{line:02d}" for line in range(100) for area in codes)


def _british() -> Iterator[str]:
    """17,000 numbers."""
    return (f"{prefix}{line:03d}" for line in range(1000) for prefix in _BRITISH)
