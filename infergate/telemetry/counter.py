"""Counters that are cheap to add to.

`prometheus_client`'s own makes four calls for each value, one of them under a lock, and a request
adds to up to four.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class Counter(Collector):
    """All counts of one name, which the registry calls a counter: they only grow.

    `add` is called with the values of the labels, in the order of their names, which must come out
    of bounded sets: a count is never forgotten. `show` has a count there from then on, with 0, so
    that its first increase is seen. All calls come from the reactor's thread.
    """

    def __init__(self, name: str, about: str, labels: Sequence[str]) -> None:
        self._family = name, about, tuple(labels)
        self._counts: dict[tuple[str, ...], int] = {}

    def add(self, *labels: str, count: int = 1) -> None:
        """Add `count` to the count of these labels, which begins at 0. Called several times for
        each request that ends, so it checks nothing: a wrong number of labels shows in the text of
        the metrics alone."""
        self._counts[labels] = self._counts.get(labels, 0) + count

    def show(self, *labels: str) -> None:
        """Have the count of these labels there, with 0 where nothing was added to it yet."""
        self._counts.setdefault(labels, 0)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield all counts as one family. Called by the registry for each text of ``/metrics`` that
        is written, and for each push."""
        name, about, names = self._family
        family = CounterMetricFamily(name, about, labels=names)
        for labels, count in self._counts.items():
            family.add_metric(labels, count)
        yield family
