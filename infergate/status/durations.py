"""How long exchanges took, in a few counts, out of which the page's percentiles are read."""

from __future__ import annotations

from collections.abc import Iterable

from infergate.telemetry.histogram import in_buckets

# Upper bounds of a histogram from 1 ms to 17 minutes, each a fifth above the one before: a
# percentile read from it is at most that much too high.
_BOUNDS = tuple(0.001 * 1.2**power for power in range(77))


class Durations:
    """A histogram of seconds, for its percentiles: it keeps 78 counts, however many values it has.

    `History` makes two for each interval, calls `add` for what ends within it, and puts the last
    ones together by `add_all`. Nothing here raises.
    """

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts = [0] * (len(_BOUNDS) + 1)

    def add(self, values: Iterable[float]) -> None:
        """Count each value in the first bucket whose upper bound it does not exceed, the last
        bucket being for what is above all bounds."""
        for bucket, count, _ in in_buckets(values, _BOUNDS):
            self._counts[bucket] += count

    def add_all(self, other: Durations) -> None:
        """Add what another histogram counted, which stays as it is."""
        both = zip(self._counts, other._counts, strict=True)
        self._counts = [mine + theirs for mine, theirs in both]

    def percentiles(self) -> list[float | None]:
        """Return the 50th, 90th and 99th percentile, in seconds; each is None where nothing was
        counted."""
        return [self.percentile(share) for share in (0.5, 0.9, 0.99)]

    def percentile(self, share: float) -> float | None:
        """Return the seconds that `share`, such as 0.9, of all values took at most; None without
        values.

        What is returned is the upper bound of the bucket that the percentile falls into, and so up
        to a fifth too high. Values under 1 ms count as 1 ms, those above the last bound as that.
        """
        total = sum(self._counts)
        if not total:
            return None
        left = share * total
        for count, bound in zip(self._counts, (*_BOUNDS, _BOUNDS[-1]), strict=True):
            left -= count
            if left <= 0:
                return round(bound, 4)
        return round(_BOUNDS[-1], 4)
