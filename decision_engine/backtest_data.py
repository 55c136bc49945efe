"""A past campaign from a file or a frame: arms, rewards, propensities and encoded context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from connectors.errors import ConfigurationError
from decision_engine.config import ContextFeature
from decision_engine.errors import unknown
from decision_engine.evaluate import Log
from decision_engine.features import design, feature_names
from decision_engine.sample_ratio import sample_ratio
from decision_engine.types import Column, Contexts, Floats

MIN_ARM = 100
"""Rows an arm needs: half of them must still say something."""

MAX_LEVELS = 20
"""Distinct values of a text column that get a feature of their own."""

SKEWED = 2.0
"""A column of no negative values whose skewness is above this enters as log(1 + x)."""

BALANCE_ALPHA = 0.001
"""Differences in context between actions less likely than this are no chance."""

_ENDINGS = (".csv", ".csv.gz", ".parquet")
_MISSING = ["", "NA", "NaN", "nan", "NULL", "null"]  # not "None": it is a fine name of an action


@dataclass(frozen=True)
class Campaign:
    """n logged rows of k arms: `log` holds indices into `arms`, `x` (n, d) the raw context.

    `features` (d,) name the columns of x; `dropped` context columns were constant.
    """

    arms: tuple[str, ...]
    log: Log
    x: Floats
    features: tuple[str, ...]
    dropped: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.log)


def read_table(path: Path) -> pd.DataFrame:
    """A CSV, CSV.gz or Parquet file as a frame. Raises ConfigurationError."""
    if not path.name.lower().endswith(_ENDINGS):
        raise _error(f"{path}: not a {', '.join(_ENDINGS)} file; convert it to one of these")
    if not path.is_file():
        raise _error(f"{path}: no such file; give the path of the campaign's file")
    try:
        if path.name.lower().endswith(".parquet"):
            return pd.read_parquet(path)
        return pd.read_csv(path, keep_default_na=False, na_values=_MISSING, low_memory=False)
    except (ValueError, OSError, EOFError) as error:
        raise _error(f"{path}: cannot be read ({error}); check that it is what it says") from error


def read_campaign(
    frame: pd.DataFrame,
    action: str,
    reward: str,
    context: Sequence[str],
    propensity: str | None = None,
) -> Campaign:
    """Check and encode the named columns; nothing about the context depends on rewards.

    Without `propensity` the arms must have been drawn with equal probability, and their sizes
    are tested for it. Raises ConfigurationError naming the column and the fix.
    """
    _check_names(frame, [action, reward, *context, *([propensity] if propensity else [])])
    if len({action, reward, propensity} | set(context)) != len(context) + 3:
        raise _error("action, reward, propensity and context must be different columns")
    arms, codes = _arms(frame[action])
    rewards = _numbers(frame[reward], "the reward")
    p = _propensities(frame, propensity, arms, codes)
    found = {c: context_of(frame[c]) for c in context}
    features = tuple(f for f in found.values() if f is not None)
    columns = {f.column: _column(frame[f.column]) for f in features}
    x = design(Contexts(frame.index.to_numpy(dtype=object), columns), features)
    dropped = tuple(c for c, feature in found.items() if feature is None)
    return Campaign(arms, Log(codes, rewards, p), x, feature_names(features), dropped)


def unbalanced(campaign: Campaign) -> tuple[str, ...]:
    """Context features whose means differ between actions by more than chance allows.

    One-way F test per feature over rows weighted equally, at 0.001 over all features
    (Bonferroni). Only of meaning for a log with equal propensities.
    """
    n, k, d = len(campaign), len(campaign.arms), len(campaign.features)
    member = np.eye(k)[campaign.log.action]
    centred = campaign.x - campaign.x.mean(axis=0)
    means = member.T @ centred / member.sum(axis=0)[:, None]
    between = member.sum(axis=0) @ means**2
    within = np.maximum((centred**2).sum(axis=0) - between, 1e-300)
    p = special.fdtrc(k - 1, n - k, between / (k - 1) / (within / (n - k)))
    return tuple(f for f, low in zip(campaign.features, p * d < BALANCE_ALPHA, strict=True) if low)


def context_of(column: pd.Series) -> ContextFeature | None:
    """How a column enters as context, or None when it is constant.

    Numbers as they are, or as log(1 + x) when skewed; anything else one 0/1 feature per value,
    the most frequent ones; of two values one says it all.
    """
    name = str(column.name)
    present = column.replace([np.inf, -np.inf], np.nan).dropna()
    if present.nunique() < 2:
        return None
    if pd.api.types.is_datetime64_any_dtype(column):
        raise _error(f"column '{name}': a date is no context; give the days since it as a number")
    if not pd.api.types.is_numeric_dtype(column):
        counts = present.astype(str).value_counts()
        ranked = sorted(counts.index, key=lambda level: (-counts[level], level))
        shown = ranked[:1] if len(ranked) == 2 else ranked[:MAX_LEVELS]
        return ContextFeature(name, "one_of", tuple(shown))
    return ContextFeature(name, "log1p" if _is_skewed(present) else "identity")


def _is_skewed(present: pd.Series) -> bool:
    values = present.to_numpy(dtype=np.float64)
    standard = (values - values.mean()) / values.std()
    is_count = values.min() >= 0 and len(np.unique(values)) > 2
    return bool(is_count and float((standard**3).mean()) > SKEWED)


def _column(column: pd.Series) -> Column:
    valid = column.notna().to_numpy(dtype=bool)
    if pd.api.types.is_numeric_dtype(column):
        return Column(column.to_numpy(dtype=np.float64, na_value=np.nan), valid)
    return Column(column.astype(str).to_numpy(dtype=object), valid)


def _arms(column: pd.Series) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    missing = column.isna().to_numpy(dtype=bool)
    if missing.any():
        raise _error(f"column '{column.name}': {_rows(missing)} no action; drop them")
    levels, codes = np.unique(column.astype(str).to_numpy(dtype=str), return_inverse=True)
    arms = tuple(str(level) for level in levels)
    counts = np.bincount(codes, minlength=len(arms))
    if len(arms) < 2:
        raise _error(f"column '{column.name}': has one action only; nothing can be compared")
    if counts.min() < MIN_ARM:
        arm = arms[int(counts.argmin())]
        raise _error(
            f"column '{column.name}': '{arm}' has {counts.min()} rows, fewer than {MIN_ARM}; "
            "leave such actions out, or name the right column"
        )
    return arms, codes.astype(np.int64)


def _numbers(column: pd.Series, what: str) -> Floats:
    numeric = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    bad = ~np.isfinite(numeric)
    if bad.any():
        shown = column[bad].iloc[0]
        raise _error(
            f"column '{column.name}': {_rows(bad)} no finite number, such as {shown!r}; "
            f"{what} must be numeric in every row"
        )
    return numeric


def _propensities(
    frame: pd.DataFrame, column: str | None, arms: tuple[str, ...], codes: NDArray[np.int64]
) -> Floats:
    if column is None:
        _check_equal_shares(arms, codes)
        return np.full(len(codes), 1 / len(arms), dtype=np.float64)
    p = _numbers(frame[column], "the propensity")
    if not ((p > 0) & (p <= 1)).all():
        raise _error(f"column '{column}': a propensity must be above 0 and at most 1")
    return p


def _check_equal_shares(arms: tuple[str, ...], codes: NDArray[np.int64]) -> None:
    counts = np.bincount(codes, minlength=len(arms)).astype(np.int64)
    if sample_ratio(counts[None], np.full((1, len(arms)), 1 / len(arms))).verdict == "refused":
        sizes = ", ".join(f"{arm} {n}" for arm, n in zip(arms, counts, strict=True))
        raise _error(
            f"actions were not drawn with equal probability ({sizes}); "
            "name the column with each row's propensity"
        )


def _check_names(frame: pd.DataFrame, names: Sequence[str]) -> None:
    missing = [unknown("column", n, map(str, frame.columns)) for n in names if n not in frame]
    if missing:
        raise _error("\n".join(missing))


def _rows(bad: NDArray[np.bool_]) -> str:
    n = int(bad.sum())
    return f"{n} row{'s have' if n > 1 else ' has'}"


def _error(problem: str) -> ConfigurationError:
    return ConfigurationError(problem)
