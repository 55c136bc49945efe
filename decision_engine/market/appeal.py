"""What a creative means to people: effects drawn from the seed and the creative's name alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from decision_engine.types import Floats

TRAITS = ("everybody", "gold", "silver", "thrift", "recency", "visited", "experience",
          "taste", "pair")  # fmt: skip
"""What an effect may hang on. The last two show in no raw column."""

SPREAD = np.array([0.50, 0.70, 0.45, 0.50, 0.32, 0.50, 0.30, 0.42, 0.42])
"""Standard deviation of the effects on the score, by trait, over creatives."""


class Appeal:
    """Effects of creatives by name; they turn into other ones at `drift` radians per day."""

    def __init__(self, seed: int, drift: float) -> None:
        self._seed = seed
        self._drift = drift
        self._known: dict[str, Floats] = {}

    def scores(self, traits: Floats, creatives: Sequence[str], days: Floats) -> Floats:
        """(n, k): traits (n, 9) as in TRAITS, k creatives, `days` (n,) since day 0."""
        now = traits @ self._effects(creatives, 0)
        if not self._drift:
            return now
        later = traits @ self._effects(creatives, 1)
        angle = (self._drift * np.maximum(days, 0.0))[:, None]
        turned: Floats = np.cos(angle) * now + np.sin(angle) * later
        return turned

    def _effects(self, creatives: Sequence[str], phase: int) -> Floats:
        effects: Floats = np.stack([self._of(name)[phase] for name in creatives], axis=1)
        return effects

    def _of(self, name: str) -> Floats:
        """(2, 9): the effects of now and those the drift turns them into."""
        if name not in self._known:
            digest = hashlib.sha256(f"{self._seed}|{name}".encode()).digest()
            rng = np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))
            self._known[name] = np.clip(rng.standard_normal((2, len(TRAITS))), -1.6, 1.6) * SPREAD
        return self._known[name]
