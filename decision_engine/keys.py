"""Randomness that is a pure function of who, which agent and when.

Every random choice of the engine is `uniforms(key, stream)`: no generator has a state, so a
draw cannot depend on batch size, order, process or on which other actions exist.

The key of a decision is HMAC-SHA256 under the project's salt (RFC 2104). A draw mixes the key
with a stream number through the finalizer of SplitMix64 (Steele, Lea and Flood 2014, "Fast
splittable pseudorandom number generators", constants of variant 13).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from decision_engine.types import Floats, Ints, Keys

_BLOCK = 64  # bytes of a SHA-256 block
_IPAD = bytes(0x36 ^ i for i in range(256))
_OPAD = bytes(0x5C ^ i for i in range(256))

_ADDED, _TIMES_1, _TIMES_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_64_BITS, _52_BITS, _BITS_OF_ONE = 2**64 - 1, 2**52 - 1, 0x3FF << 52
# Arrays without a dimension: for a few keys, a Python number would cost more than the operation.
_GAMMA, _MIX_1, _MIX_2, _ONE, _12, _27, _30, _31 = (
    np.array(number, dtype=np.uint64)
    for number in (_ADDED, _TIMES_1, _TIMES_2, _BITS_OF_ONE, 12, 27, 30, 31)
)
_ALMOST_ONE = np.array(1 - 2.0**-53)
_FEW = 48
"""So many streams of one key are mixed more quickly side by side in one integer."""


class _Hmac:
    """HMAC-SHA256 with the padded key and a common prefix hashed once.

    Copying a hash context is several times cheaper than `hmac.new` for every row.
    """

    def __init__(self, salt: str, prefix: str) -> None:
        inner, self._outer = _padded(salt)
        self._inner = inner.copy()
        self._inner.update(prefix.encode())

    def digests(self, texts: Iterable[str]) -> bytes:
        """The 32-byte digests of prefix + text, one after the other."""
        copy_inner, copy_outer = self._inner.copy, self._outer.copy
        out = []
        if isinstance(texts, np.ndarray):
            texts = texts.tolist()
        for text in texts:
            inner, outer = copy_inner(), copy_outer()
            inner.update(text.encode())
            outer.update(inner.digest())
            out.append(outer.digest())
        return b"".join(out)


_hmac = lru_cache(maxsize=1024)(_Hmac)


@lru_cache(maxsize=1024)
def _padded(salt: str) -> tuple[Any, Any]:
    """The inner and the outer hash once they have seen the padded key; not to be updated."""
    secret = salt.encode()
    if len(secret) > _BLOCK:
        secret = hashlib.sha256(secret).digest()
    secret = secret.ljust(_BLOCK, b"\0")
    return hashlib.sha256(secret.translate(_IPAD)), hashlib.sha256(secret.translate(_OPAD))


def decision_keys(
    salt: str, agent: str, slots: str | Sequence[str] | NDArray[Any], customer_ids: Iterable[str]
) -> tuple[Keys, NDArray[Any]]:
    """The key and the id of each customer's decision of one agent in a slot: one for all or each.

    The message is agent, slot and customer, separated by a character none of the first two may
    hold, so two different triples never give the same message. Returns `keys` (n,) uint64 (the
    first 8 bytes of the digest, big-endian) and `decision_ids` (n,) object array of 64 hex digits.
    Raises ValueError when `agent` or a slot holds a unit separator (U+001F).
    """
    if isinstance(slots, np.ndarray):
        slots = slots.tolist()
    if isinstance(customer_ids, np.ndarray):
        customer_ids = customer_ids.tolist()
    each = repeat(slots) if isinstance(slots, str) else slots
    distinct = {slots} if isinstance(slots, str) else set(slots)
    if any("\x1f" in name for name in (agent, *distinct)):
        raise ValueError("`agent` and `slots` must not hold the unit separator U+001F")
    texts = (f"{slot}\x1f{customer}" for slot, customer in zip(each, customer_ids, strict=False))
    data = _hmac(salt, f"decision\x1f{agent}\x1f").digests(texts)
    text = data.hex()
    ids = np.empty(len(data) // 32, dtype=object)
    ids[:] = [text[i : i + 64] for i in range(0, len(text), 64)]
    return _leading(data), ids


def keys_of(decision_ids: Sequence[str] | NDArray[Any]) -> Keys:
    """The keys (n,) of logged decision ids (64 hex digits each)."""
    return np.array([int(i[:16], 16) for i in decision_ids], dtype=np.uint64)


def customer_keys(salt: str, purpose: str, customer_ids: Iterable[str]) -> Keys:
    """Keys (n,) for something that is not a decision: `purpose` separates the uses of one salt."""
    return _leading(_hmac(salt, f"{purpose}\x1f").digests(customer_ids))


def streams(names: Sequence[str]) -> Keys:
    """The stream number (k,) of each action key (or other name): 8 bytes of its SHA-256."""
    return _leading(b"".join(hashlib.sha256(name.encode()).digest() for name in names))


def draw_streams(actions: Sequence[str]) -> Keys:
    """The streams (k + 1,) of a decision between actions: a draw for each, then the floor's."""
    # An arm of somebody's campaign may be called that; its draw is not the floor's.
    return streams([*actions, "floor" if "floor" not in actions else "\x1ffloor"])


@lru_cache(maxsize=1024)
def _stream(name: str) -> Keys:
    return streams([name])


def uniforms(keys: Keys, stream: str | Keys) -> Floats:
    """Uniform draws in the open interval (0, 1), one per key and stream: (n, k).

    `keys` (n,) uint64; `stream` a name (k = 1) or stream numbers (k,). Each value depends on its
    own key and its own stream only.
    """
    numbers = _stream(stream) if isinstance(stream, str) else stream
    if len(keys) == 1:
        parent = _mixed(keys.item() + _ADDED & _64_BITS, _64_BITS)
        if len(numbers) <= _FEW:
            return _of_one(parent, numbers)
        mixed = _mix(np.array([[parent]], dtype=np.uint64) ^ numbers)
    else:
        mixed = _mix(_mix(keys + _GAMMA)[:, None] ^ numbers)
    # 52 bits as the fraction of a number from 1 to 2, less 1, and half a bit: the largest value is
    # below 1 and the smallest above 0, exactly.
    mixed >>= _12
    mixed |= _ONE
    out = mixed.view(np.float64)
    out -= _ALMOST_ONE
    return out


def group_of(salt: str, customer_ids: Iterable[str], shares: Sequence[float]) -> Ints:
    """The group (n,) each customer is in for good, as an index into `shares`.

    The salt is the groups' own, so group membership is independent of every decision key.
    Raises ValueError unless the shares are at least 0 and sum to 1 (within 1e-9).
    """
    drawn = uniforms(customer_keys(salt, "group", customer_ids), "group")[:, 0]
    return _edges(tuple(shares)).searchsorted(drawn, side="right")


@lru_cache(maxsize=1024)
def _edges(shares: tuple[float, ...]) -> Floats:
    if min(shares, default=-1.0) < 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"`shares` must be at least 0 and sum to 1, not {list(shares)}")
    return np.array(list(accumulate(shares))[:-1])


def _leading(digests: bytes) -> Keys:
    return np.frombuffer(digests, dtype=">u8")[::4].astype(np.uint64)


def _mix(z: Keys) -> Keys:
    """The mixed numbers, in the memory of `z`."""
    shifted = z >> _30
    np.bitwise_xor(z, shifted, out=z)
    np.multiply(z, _MIX_1, out=z)
    np.right_shift(z, _27, out=shifted)
    np.bitwise_xor(z, shifted, out=z)
    np.multiply(z, _MIX_2, out=z)
    np.right_shift(z, _31, out=shifted)
    np.bitwise_xor(z, shifted, out=z)
    return z


def _of_one(parent: int, numbers: Keys) -> Floats:
    """`uniforms` (1, k) of one key that is mixed, to the bit: a few steps of one large integer."""
    lanes = _lanes(numbers.tobytes())
    mixed = _mixed(parent * lanes.ones ^ lanes.numbers, lanes.all_bits)
    mixed = mixed >> 12 & lanes.fraction | lanes.bits_of_one
    out: Floats = np.frombuffer(mixed.to_bytes(lanes.size, "little"))[::2] - _ALMOST_ONE
    return out[None]


class _Lanes(NamedTuple):
    """k numbers of 64 bits in the lower halves of the k lanes, of 128 bits, of one integer.

    So a product stays in its lane, and what a shift brings from the next one is in the upper half.
    `ones` has a 1 in each lane, and `all_bits`, `fraction` and `bits_of_one` these bits of a float;
    `size` in bytes.
    """

    numbers: int
    ones: int
    all_bits: int
    fraction: int
    bits_of_one: int
    size: int


@lru_cache(maxsize=1024)
def _lanes(numbers: bytes) -> _Lanes:
    size = 2 * len(numbers)
    each = [numbers[i : i + 8].ljust(16, b"\0") for i in range(0, len(numbers), 8)]
    ones = int.from_bytes(b"\1".ljust(16, b"\0") * len(each), "little")
    spread = int.from_bytes(b"".join(each), "little")
    return _Lanes(spread, ones, ones * _64_BITS, ones * _52_BITS, ones * _BITS_OF_ONE, size)


def _mixed(z: int, all_bits: int) -> int:
    """`_mix` of a number, or of each lane of an integer whose lanes have these bits."""
    z = (z ^ z >> 30) & all_bits
    z = z * _TIMES_1 & all_bits
    z = (z ^ z >> 27) & all_bits
    z = z * _TIMES_2 & all_bits
    return (z ^ z >> 31) & all_bits
