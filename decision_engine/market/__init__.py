"""A simulated market with known truth, for the demo, the tests and the benchmarks.

It reaches the product only as a company's tools would: raw tables, messages that a vendor
delivered, and what people did with them. Nothing here is random beyond the seed, and what is
sent to one person changes nothing in the life of another.
"""

from __future__ import annotations

from decision_engine.market.response import ActionView
from decision_engine.market.world import Market

__all__ = ["ActionView", "Market"]
