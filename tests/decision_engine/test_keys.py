import hashlib
import hmac
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decision_engine.keys import (
    customer_keys,
    decision_keys,
    draw_streams,
    group_of,
    keys_of,
    streams,
    uniforms,
)

SALT = "a salt for the tests"
IDS = [f"customer-{i}" for i in range(20_000)]


def test_decision_id_is_hmac_sha256_of_agent_slot_and_customer() -> None:
    keys, ids = decision_keys(SALT, "welcome", "2026-01-05", ["c-1", "ü"])
    for customer, key, found in zip(["c-1", "ü"], keys, ids, strict=True):
        message = f"decision\x1fwelcome\x1f2026-01-05\x1f{customer}".encode()
        expected = hmac.new(SALT.encode(), message, hashlib.sha256)
        assert found == expected.hexdigest()
        assert int(key) == int.from_bytes(expected.digest()[:8], "big")


def test_long_salt_is_hashed_first_as_the_standard_says() -> None:
    salt = "s" * 100
    _, ids = decision_keys(salt, "a", "s", ["c"])
    message = b"decision\x1fa\x1fs\x1fc"
    assert ids[0] == hmac.new(salt.encode(), message, hashlib.sha256).hexdigest()


def test_keys_come_back_from_logged_ids() -> None:
    keys, ids = decision_keys(SALT, "welcome", "s", IDS[:100])
    assert np.array_equal(keys_of(ids), keys)


def test_no_customers_give_no_keys() -> None:
    keys, ids = decision_keys(SALT, "welcome", "s", [])
    assert len(keys) == len(ids) == 0
    assert uniforms(keys, "floor").shape == (0, 1)


@pytest.mark.parametrize(("agent", "slot"), [("a\x1fb", "s"), ("a", "s\x1f")])
def test_separator_in_agent_or_slot_is_refused(agent: str, slot: str) -> None:
    with pytest.raises(ValueError, match="unit separator"):
        decision_keys(SALT, agent, slot, ["c"])


def test_keys_differ_by_salt_agent_slot_customer_and_purpose() -> None:
    different = [
        decision_keys(SALT, "a", "s", ["c"])[0],
        decision_keys(SALT + "!", "a", "s", ["c"])[0],
        decision_keys(SALT, "b", "s", ["c"])[0],
        decision_keys(SALT, "a", "t", ["c"])[0],
        decision_keys(SALT, "a", "s", ["d"])[0],
        customer_keys(SALT, "group", ["c"]),
        customer_keys(SALT, "arbiter", ["c"]),
    ]
    assert len({int(k[0]) for k in different}) == len(different)


def test_uniforms_are_open_uniform_and_uncorrelated() -> None:
    keys, _ = decision_keys(SALT, "a", "s", IDS)
    u = uniforms(keys, streams([f"action-{i}" for i in range(8)]))
    assert u.min() > 0
    assert u.max() < 1
    counts = np.array([np.histogram(column, bins=64, range=(0, 1))[0] for column in u.T])
    expected = len(IDS) / 64
    chi2 = ((counts - expected) ** 2 / expected).sum(axis=1)
    assert (chi2 < 63 + 6 * np.sqrt(2 * 63)).all()
    correlation = np.corrcoef(u.T) - np.eye(8)
    assert np.abs(correlation).max() < 5.5 / np.sqrt(len(IDS))
    neighbours = np.corrcoef(u[:-1, 0], u[1:, 0])[0, 1]
    assert abs(neighbours) < 5.5 / np.sqrt(len(IDS))


def test_extreme_numbers_stay_inside_the_interval() -> None:
    keys = np.array([0, 1, 2**64 - 1], dtype=np.uint64)
    u = uniforms(keys, np.array([0, 2**64 - 1], dtype=np.uint64))
    assert ((u > 0) & (u < 1)).all()
    assert len(np.unique(u)) == u.size


@pytest.mark.parametrize("k", [1, 2, 48, 49])
def test_a_key_alone_draws_what_it_draws_among_others(k: int) -> None:
    rng = np.random.default_rng(k)
    keys = rng.integers(0, 2**64, 200, dtype=np.uint64)
    keys[:2] = 0, 2**64 - 1
    numbers = rng.integers(0, 2**64, k, dtype=np.uint64)
    numbers[0] = 2**64 - 1
    alone = [uniforms(keys[i : i + 1], numbers)[0] for i in range(len(keys))]
    assert np.array_equal(np.array(alone), uniforms(keys, numbers))


@pytest.mark.parametrize("flipped", ["key", "stream"])
def test_one_flipped_bit_changes_half_of_the_bits(flipped: str) -> None:
    rng = np.random.default_rng(5)
    keys = rng.integers(0, 2**64, 400, dtype=np.uint64)
    stream = streams(["action"])
    before = _bits(uniforms(keys, stream)[:, 0])
    for bit in range(64):
        one = np.uint64(1) << np.uint64(bit)
        after = uniforms(keys ^ one, stream) if flipped == "key" else uniforms(keys, stream ^ one)
        changed = (before != _bits(after[:, 0])).mean(axis=0)
        assert abs(changed.mean() - 0.5) < 0.03
        assert (np.abs(changed - 0.5) < 0.15).all()


def _bits(
    u: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    leading = (u * 2**48).astype(np.uint64).astype(">u8")
    return np.unpackbits(leading.view(np.uint8).reshape(-1, 8), axis=1)[:, 16:]


@settings(max_examples=50, deadline=None)
@given(
    names=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=12, unique=True),
    data=st.data(),
)
def test_a_draw_sees_its_own_key_and_action_only(names: Sequence[str], data: st.DataObject) -> None:
    keys, _ = decision_keys(SALT, "a", "s", IDS[:20])
    whole = uniforms(keys, streams(names))
    rows = data.draw(st.lists(st.integers(0, 19), min_size=1, max_size=20))
    columns = data.draw(st.lists(st.integers(0, len(names) - 1), min_size=1, max_size=12))
    part = uniforms(keys[rows], streams([names[c] for c in columns]))
    assert np.array_equal(part, whole[np.ix_(rows, columns)])


def test_groups_have_their_shares_and_never_move() -> None:
    shares = [0.1, 0.0, 0.2, 0.7]
    group = group_of(SALT, IDS, shares)
    found = np.bincount(group, minlength=4) / len(IDS)
    assert np.abs(found - shares).max() < 5 * np.sqrt(0.25 / len(IDS))
    assert found[1] == 0
    assert np.array_equal(group_of(SALT, IDS[:7], shares), group[:7])


def test_groups_are_independent_of_decision_draws() -> None:
    keys, _ = decision_keys(SALT, "a", "s", IDS)
    held = group_of(SALT, IDS, [0.5, 0.5])
    draw = uniforms(keys, "floor")[:, 0]
    assert abs(np.corrcoef(held, draw)[0, 1]) < 5 / np.sqrt(len(IDS))


@pytest.mark.parametrize("shares", [[], [0.5, 0.4], [1.2, -0.2]])
def test_wrong_shares_are_refused(shares: list[float]) -> None:
    with pytest.raises(ValueError, match="shares"):
        group_of(SALT, ["c"], shares)


def test_the_floor_draws_by_itself_whatever_actions_are_called() -> None:
    assert len(set(draw_streams(["floor", "wall"]).tolist())) == 3
