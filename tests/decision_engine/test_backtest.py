"""Backtests of simulated campaigns with known truth, of bad files, and of a real e-mail test."""

from __future__ import annotations

import json
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from connectors.errors import ConfigurationError
from decision_engine.backtest import BacktestResult, backtest, run_backtest
from decision_engine.backtest_data import context_of, read_campaign, read_table
from decision_engine.backtest_report import render, shown_interval
from decision_engine.backtest_runs import ReplayValue, over_splits
from decision_engine.evaluate import Estimate
from decision_engine.lift import Interval

HILLSTROM = Path(__file__).parents[3] / "shared" / "datasets" / "hillstrom.csv.gz"
HILLSTROM_CONTEXT = ["recency", "history", "mens", "womens", "zip_code", "newbie", "channel"]


def campaign(n: int = 6000, seed: int = 4, interaction: float = 0.2) -> pd.DataFrame:
    """Arms a and b are equal on average; each is better by `interaction` for one half."""
    rng = np.random.default_rng(seed)
    loyal, arm = rng.integers(0, 2, n), rng.choice(["a", "b", "none"], n)
    rate = 0.3 + interaction / 2 * np.where((arm == "a") == (loyal == 1), 1, -1)
    rate = np.where(arm == "none", 0.1, rate)
    return pd.DataFrame(
        {
            "arm": arm,
            "won": (rng.random(n) < rate).astype(int),
            "loyal": loyal,
            "age": rng.normal(40, 9, n),
            "spend": rng.lognormal(2, 1, n),
            "city": rng.choice(["Rome", "Oslo", "Lima"], n),
            "planet": "Earth",
        }
    )


CONTEXT = ["loyal", "age", "spend", "city", "planet"]


@cache
def result_with_context() -> BacktestResult:
    return backtest(campaign(), action="arm", reward="won", context=CONTEXT, shuffles=3)


def runs_of(result: BacktestResult) -> dict[str, ReplayValue]:
    return {run.policy: run for run in result.replay}


# Encoding


def test_the_frozen_rule_of_the_context() -> None:
    found = read_campaign(campaign(), "arm", "won", CONTEXT)
    expected = ("loyal", "age", "log1p(spend)", "city=Lima", "city=Oslo", "city=Rome")
    assert sorted(found.features) == sorted(expected)
    assert found.dropped == ("planet",)
    assert found.x.shape == (6000, 6)
    frame = campaign()
    spend = found.x[:, found.features.index("log1p(spend)")]
    assert spend == pytest.approx(np.log1p(frame["spend"].to_numpy()))
    oslo = found.x[:, found.features.index("city=Oslo")]
    assert oslo.tolist() == (frame["city"] == "Oslo").astype(float).tolist()


def test_encoding_does_not_look_at_rewards() -> None:
    frame = campaign()
    flipped = frame.assign(won=1 - frame["won"])
    a, b = (read_campaign(f, "arm", "won", CONTEXT) for f in (frame, flipped))
    assert a.features == b.features
    assert (a.x == b.x).all()


def test_many_levels_two_levels_and_missing_values() -> None:
    many = context_of(pd.Series([f"v{i % 30:02}" for i in range(3000)], name="code"))
    assert many is not None
    assert len(many.one_of) == 20
    two = context_of(pd.Series(["x", "y", "y"], name="flag"))
    assert two is not None
    assert two.one_of == ("y",)
    frame = campaign()
    frame.loc[:99, "age"] = np.nan
    frame.loc[:99, "city"] = None
    found = read_campaign(frame, "arm", "won", CONTEXT)
    assert np.isfinite(found.x).all()
    assert not found.x[:100, [f.startswith("city") for f in found.features]].any()


# Errors


@pytest.mark.parametrize(
    ("change", "arguments", "named"),
    [
        ({}, {"reward": "wonn"}, "'wonn'.*'won'"),
        ({}, {"context": ["agee"]}, "'agee'.*'age'"),
        ({"won": "yes"}, {}, "'won'.*'yes'.*numeric"),
        ({"won": np.nan}, {}, "'won'.*numeric"),
        ({"arm": "a"}, {}, "'arm'.*one action"),
        ({"arm": None}, {}, "'arm'.*no action"),
        ({"p": 1.5}, {"propensity": "p"}, "'p'.*above 0"),
        ({}, {"context": ["won"]}, "different columns"),
    ],
)
def test_a_bad_frame_is_one_clear_error(
    change: dict[str, Any], arguments: dict[str, Any], named: str
) -> None:
    frame = campaign(600).assign(**change)
    given = {"action": "arm", "reward": "won", "context": ["loyal"], **arguments}
    with pytest.raises(ConfigurationError, match=named):
        backtest(frame, **given)


def test_a_date_is_refused_as_context() -> None:
    frame = campaign(600)
    frame["seen"] = pd.date_range("2026-01-01", periods=600)
    with pytest.raises(ConfigurationError, match=r"'seen'.*days since"):
        backtest(frame, action="arm", reward="won", context=["seen"])


def test_an_action_with_too_few_rows_is_named() -> None:
    frame = campaign(600)
    frame.loc[:50, "arm"] = "rare"
    with pytest.raises(ConfigurationError, match=r"'arm': 'rare' has 51 rows, fewer than 100"):
        backtest(frame, action="arm", reward="won")


def test_unequal_arms_need_a_propensity() -> None:
    frame = campaign(3000)
    frame = frame[(frame["arm"] != "a") | (frame.index % 2 == 0)]
    with pytest.raises(ConfigurationError, match=r"equal probability.*propensity"):
        backtest(frame, action="arm", reward="won")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gone\.csv: no such file"):
        read_table(tmp_path / "gone.csv")
    with pytest.raises(ConfigurationError, match=r"log\.xlsx: not a \.csv"):
        read_table(tmp_path / "log.xlsx")
    for name in ("bad.parquet", "bad.csv.gz", "empty.csv"):
        (tmp_path / name).write_bytes(b"" if name == "empty.csv" else b"not what it says")
        with pytest.raises(ConfigurationError, match=f"{name}: cannot be read"):
            read_table(tmp_path / name)


def test_the_three_file_kinds_read_the_same(tmp_path: Path) -> None:
    frame = campaign(600).replace({"arm": {"none": "None"}})
    frame.to_csv(tmp_path / "f.csv", index=False)
    frame.to_csv(tmp_path / "f.csv.gz", index=False)
    frame.to_parquet(tmp_path / "f.parquet")
    for name in ("f.csv", "f.csv.gz", "f.parquet"):
        found = read_campaign(read_table(tmp_path / name), "arm", "won", CONTEXT)
        assert found.arms == ("None", "a", "b")
        assert found.x == pytest.approx(read_campaign(frame, "arm", "won", CONTEXT).x)


# Results


def test_context_that_matters_is_found_and_pays() -> None:
    result = result_with_context()
    runs = runs_of(result)
    assert runs["linear_thompson"].against_best.low > 0
    assert runs["weighted_thompson"].mean.value < runs["linear_thompson"].mean.value
    # Truth: 0.4 for the right arm of each half, 0.3 for either arm alone.
    assert result.context_gain.low < 0.1 < result.context_gain.high
    assert result.context_gain.low > 0
    assert result.conclusions[-1].startswith("Context pays")


def test_context_that_does_not_matter_is_said_not_to_pay() -> None:
    frame = campaign(interaction=0.0)
    result = backtest(frame, action="arm", reward="won", context=CONTEXT, shuffles=2)
    assert "no held-out gain" in result.conclusions[-1]
    assert "weighted_thompson" in result.conclusions[-1]


def test_without_context_there_is_none_to_judge() -> None:
    result = backtest(campaign(900), action="arm", reward="won", shuffles=2)
    assert result.features == ()
    assert result.conclusions[-1] == "No context was given to judge."


def test_context_known_only_after_the_action_is_noticed() -> None:
    frame = campaign(1500)
    frame["spent"] = frame["won"] * frame["spend"]
    given: dict[str, Any] = {"action": "arm", "reward": "won", "shuffles": 2}
    fine = backtest(frame, context=["age", "spend"], **given)
    assert not fine.conclusions[0].startswith("Beware")
    leaked = backtest(frame, context=["age", "spent"], **given)
    assert leaked.conclusions[0].startswith("Beware")
    assert "spent" in leaked.conclusions[0]


def test_held_out_values_are_the_known_ones() -> None:
    held = {h.policy: h for h in result_with_context().held_out}
    truth = {"uniform": 0.7 / 3, "best action": 0.3, "linear_thompson": 0.4}
    for policy, value in truth.items():
        for e in (held[policy].ips, held[policy].snips, held[policy].dr):
            # A median over splits of one data set: within 4 of its own standard errors.
            assert abs(e.value - value) < 4 * e.standard_error


def test_a_skewed_log_with_propensities_gives_the_same_answers() -> None:
    frame = campaign(24_000)
    p = np.where(frame["arm"] == "none", 0.9, 0.3)
    kept = frame[np.random.default_rng(8).random(len(frame)) < p].copy()
    share = {"none": 0.9 / 1.5, "a": 0.3 / 1.5, "b": 0.3 / 1.5}
    kept["p"] = kept["arm"].map(share)
    result = backtest(
        kept, action="arm", reward="won", context=["loyal"], propensity="p", shuffles=2
    )
    truth = {t.arm: t.mean for t in result.truth}
    for arm, value in {"a": 0.3, "b": 0.3, "none": 0.1}.items():
        assert abs(truth[arm].value - value) < 4 * (truth[arm].high - truth[arm].low) / 3.92
    uniform = runs_of(result)["uniform"].mean.value
    assert uniform == pytest.approx(0.7 / 3, abs=4 * np.sqrt(0.18 / (24_000 * 0.3 / 3)))


def test_the_same_seed_gives_the_same_result_and_another_does_not() -> None:
    first, second, other = (
        backtest(campaign(900), action="arm", reward="won", context=["age"], shuffles=2, seed=s)
        for s in (1, 1, 2)
    )
    assert first.replay == second.replay
    assert first.held_out == second.held_out
    assert first.replay != other.replay


def test_result_as_json_frame_and_tables() -> None:
    result = result_with_context()
    plain = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert plain["truth"][0]["mean"].keys() == {"value", "low", "high"}
    assert plain["context_gain"]["verdict"] == "estimated"
    frame = result.to_frame()
    assert list(frame.columns) == ["section", "policy", "measure", "value", "low", "high"]
    assert len(frame) == 3 + 4 * 3 + 3 * 6
    out = StringIO()
    Console(width=100, file=out).print(render(result))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    for run in result.replay:
        assert any(run.policy in line for line in lines)
    assert not any("…" in line for line in lines)


@pytest.mark.parametrize(
    ("half", "shown"),
    [
        (0.0052, "0.183 ± 0.005"),
        (0.0034, "0.1828 ± 0.0034"),
        (0.0, "0.18276"),
        (np.inf, "0.18276"),
    ],
)
def test_shown_digits_follow_the_interval(half: float, shown: str) -> None:
    assert shown_interval(Interval(0.18276, 0.18276 - half, 0.18276 + half)) == shown


def test_a_refused_number_is_a_dash() -> None:
    assert shown_interval(Interval(np.nan, np.nan, np.nan)) == "-"


def test_progress_is_told() -> None:
    told: list[str] = []
    frame = campaign(600)
    backtest(frame, action="arm", reward="won", shuffles=2, progress=told.append)
    assert any("shuffle 2 of 2" in text for text in told)


def test_splits_are_combined_with_the_luck_of_the_split() -> None:
    def estimate(value: float) -> Estimate:
        return Estimate("dr", value, 0.3, value - 0.6, value + 0.6, 100, 90.0)

    found = over_splits([estimate(1.0), estimate(1.4), estimate(1.8)])
    assert found.value == 1.4
    assert found.standard_error == pytest.approx(np.sqrt(0.09 + 0.16))
    refused = Estimate("dr", np.nan, np.nan, np.nan, np.nan, 100, 9.0, "refused", "why")
    assert over_splits([estimate(1.0), refused]) is refused


# A real randomised e-mail test (Hillstrom 2008)


@pytest.mark.skipif(not HILLSTROM.exists(), reason="the Hillstrom file is not on this machine")
@pytest.mark.parametrize("shuffles", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_hillstrom(shuffles: int) -> None:
    result = run_backtest(HILLSTROM, "segment", "visit", HILLSTROM_CONTEXT, shuffles=shuffles)
    truth = {t.arm: round(t.mean.value, 5) for t in result.truth}
    assert truth == {"Mens E-Mail": 0.18276, "Womens E-Mail": 0.15140, "No E-Mail": 0.10617}
    runs = runs_of(result)
    assert runs["linear_thompson"].mean.value >= 0.1795
    assert runs["best action"].mean.value == pytest.approx(0.18276, abs=5e-6)
    assert runs["uniform"].mean.value == pytest.approx(0.1468, abs=0.002)
    assert "no held-out gain" in result.conclusions[-1]
