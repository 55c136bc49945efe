"""Counters, gauges and histograms in the text format of Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Protocol, TypeVar

CONTENT_TYPE = "text/plain; version=0.0.4"


class Metric(Protocol):
    """Something with a name, a kind and samples."""

    name: str
    text: str
    kind: str

    def samples(self) -> list[str]:
        """The lines below the header."""
        ...


M = TypeVar("M", bound=Metric)


class Counter:
    """A count that only grows, by the values of its labels.

    Label values must come from a closed set of ours, never from outside.
    """

    kind = "counter"

    def __init__(self, name: str, text: str, *labels: str) -> None:
        self.name, self.text = name, text
        self._labels = labels
        self._values: dict[tuple[str, ...], float] = {} if labels else {(): 0}

    def add(self, *values: str, n: float = 1) -> None:
        """Count `n` more for these label values."""
        self._values[values] = self._values.get(values, 0) + n

    def samples(self) -> list[str]:
        """One line for each combination of label values seen."""
        return [
            f"{self.name}{_braces(self._labels, values)} {count}"
            for values, count in sorted(self._values.items())
        ]


class Gauge:
    """A value as it is at the moment it is asked for."""

    kind = "gauge"

    def __init__(self, name: str, text: str, value: Callable[[], float]) -> None:
        self.name, self.text, self._value = name, text, value

    def samples(self) -> list[str]:
        """The value."""
        return [f"{self.name} {self._value()}"]


class Histogram:
    """How often a value was at most each of some bounds."""

    kind = "histogram"

    def __init__(self, name: str, text: str, bounds: tuple[float, ...]) -> None:
        self.name, self.text = name, text
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self) -> list[str]:
        """Cumulative buckets, sum and count."""
        lines, total = [], 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            lines.append(f'{self.name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{self.name}_sum {self._sum}", f"{self.name}_count {total}"]


class Registry:
    """All metrics of the process, in the order they were added."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """A new counter."""
        return self._added(Counter(name, text, *labels))

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> Gauge:
        """A new gauge."""
        return self._added(Gauge(name, text, value))

    def histogram(self, name: str, text: str, bounds: tuple[float, ...]) -> Histogram:
        """A new histogram."""
        return self._added(Histogram(name, text, bounds))

    def _added(self, metric: M) -> M:
        if metric.name in self._metrics:
            raise ValueError(f"there is a metric {metric.name} already")
        self._metrics[metric.name] = metric
        return metric

    def text(self) -> str:
        """What `/metrics` answers."""
        lines: list[str] = []
        for metric in self._metrics.values():
            lines += [f"# HELP {metric.name} {metric.text}", f"# TYPE {metric.name} {metric.kind}"]
            lines += metric.samples()
        return "\n".join(lines) + "\n"


def _braces(labels: tuple[str, ...], values: tuple[str, ...]) -> str:
    pairs = ",".join(f'{k}="{v}"' for k, v in zip(labels, values, strict=True))
    return f"{{{pairs}}}" if pairs else ""
