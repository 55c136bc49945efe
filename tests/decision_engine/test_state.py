from dataclasses import replace

import numpy as np
import pytest

from decision_engine.state import PolicyState, Sums, load, save
from decision_engine.testing import sample_case


def state() -> PolicyState:
    return sample_case("linear_thompson", np.random.default_rng(1), 3).state


def test_a_saved_state_comes_back_whole() -> None:
    before = state()
    after = load(save(before))
    assert after.version == before.version
    assert (after.agent, after.policy, after.actions) == (
        "welcome",
        "linear_thompson",
        before.actions,
    )
    assert np.array_equal(after.closed.gram, before.closed.gram)
    assert np.array_equal(after.open.moment, before.open.moment)
    assert after.theta.noise == before.theta.noise
    assert np.array_equal(after.theta.common, before.theta.common)
    assert save(after) == save(before)


def test_the_version_names_the_content() -> None:
    before = state()
    assert len(before.version) == 16
    changed = [
        replace(before, as_of=before.as_of + 1),
        replace(before, theta=replace(before.theta, noise=before.theta.noise * 1.001)),
        replace(before, closed=before.closed + before.closed),
        replace(before, open=before.open.scaled(0.5)),
    ]
    assert len({s.version for s in [before, *changed]}) == 5
    assert replace(before).version == before.version


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "flipped"])
def test_damaged_bytes_are_refused(damage: str) -> None:
    whole = save(state())
    middle = len(whole) // 2
    data = {
        "empty": b"",
        "cut": whole[:-200],
        "text": b"not a state",
        "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
    }[damage]
    with pytest.raises(ValueError, match="damaged"):
        load(data)


def test_another_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = save(state())
    monkeypatch.setattr("decision_engine.state.FORMAT", 2)
    with pytest.raises(ValueError, match="format 2"):
        load(data)


def test_actions_are_found_by_name() -> None:
    before = state()
    wider = before.with_actions(("new", before.actions[1]))
    assert wider.actions == (*before.actions, "new")
    assert np.array_equal(wider.closed.gram[:-1], before.closed.gram)
    assert wider.closed.weight[-1] == 0
    swapped = before.evidence((before.actions[2], "unknown", before.actions[0]))
    total = before.closed + before.open
    assert np.array_equal(swapped.moment[[0, 2]], total.moment[[2, 0]])
    assert swapped.count[1] == 0


def test_an_initial_state_has_no_evidence_and_everything_to_learn() -> None:
    start = PolicyState.initial("welcome", "weighted_thompson", (), ("f",))
    assert start.as_of == 0.0
    assert start.evidence(("a", "b")).weight.tolist() == [0.0, 0.0]


def test_sums_scale_and_subtract() -> None:
    sums = state().closed
    half = sums.scaled(0.5)
    assert np.array_equal(half.count, sums.count)
    assert np.array_equal((half.scaled(2.0) - sums).gram, np.zeros_like(sums.gram))
    assert np.array_equal(sums.weight, sums.gram[:, 0, 0])
    assert Sums.zeros(0, 3).take([-1]).moment.shape == (1, 4)
