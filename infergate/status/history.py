"""The last hour and the last exchanges, out of the record and of nothing else.

Always kept, in a bounded memory of under 2 MiB, so that whoever opens the page sees what was: only
the sending costs nothing while nobody looks.

An *interval* is ten seconds that begin at a multiple of ten, in Unix seconds; what ended within it
is summed up as one *point* of the page's plots. `Feed` reads all of this; nothing here raises.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import attrs

from infergate.telemetry.record import Record

LAST_EXCHANGES = 200
"""Exchanges that the page can show whole."""

INTERVAL = 10
"""Seconds that one point of a plot stands for."""

RECENT = 60
"""Seconds that the percentiles of now are of."""

POINTS = 3600 // INTERVAL
"""Points of a plot: an hour."""

MAX_CALLERS = 100
"""Names of callers whose usage is kept; those of others add up under ``other``."""

# Upper bounds of a histogram from 1 ms to 17 minutes, each a fifth above the one before: a
# percentile read from it is at most that much too high.
_BOUNDS = tuple(0.001 * 1.2**power for power in range(77))


class _Durations:
    """A histogram of seconds, for its percentiles: it keeps 78 counts, however many values it
    has."""

    __slots__ = ("_counts", "_total")

    def __init__(self) -> None:
        self._counts = [0] * (len(_BOUNDS) + 1)
        self._total = 0

    def add(self, seconds: float) -> None:
        """Count a value in the first bucket whose upper bound it does not exceed, the last bucket
        being for what is above all bounds. Called by `_Interval.add`."""
        self._counts[bisect_left(_BOUNDS, seconds)] += 1
        self._total += 1

    def add_all(self, other: _Durations) -> None:
        """Add what another histogram counted, which stays as it is. Called by `History.recent`."""
        both = zip(self._counts, other._counts, strict=True)
        self._counts = [mine + theirs for mine, theirs in both]
        self._total += other._total

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
        if not self._total:
            return None
        left = share * self._total
        for count, bound in zip(self._counts, (*_BOUNDS, _BOUNDS[-1]), strict=True):
            left -= count
            if left <= 0:
                return round(bound, 4)
        return round(_BOUNDS[-1], 4)


@attrs.define
class _Interval:
    """What ended within one `INTERVAL`; `began` is in Unix seconds.

    `outcomes` counts exchanges by the outcome of their record; `first_tokens` has only those in
    which a first token came.
    """

    began: int
    outcomes: Counter[str] = attrs.field(factory=Counter)
    latencies: _Durations = attrs.field(factory=_Durations)
    first_tokens: _Durations = attrs.field(factory=_Durations)
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, record: Record) -> None:
        """Add a closed record. Called by `History.ended` for each that the page shows."""
        self.outcomes[record.outcome] += 1
        self.latencies.add(record.duration)
        if record.first_token is not None:
            self.first_tokens.add(record.first_token - record.opened)
        self.prompt_tokens += record.usage.prompt_tokens
        self.completion_tokens += record.usage.completion_tokens

    def point(self, now: float) -> dict[str, Any]:
        """Return what ended as one point of the plots, ready to be written as JSON: times in
        seconds, counts of as many `seconds` as the interval lasted, or has lasted by `now`, and one
        at least."""
        return {
            "time": self.began,
            "seconds": min(INTERVAL, max(1.0, round(now - self.began, 1))),
            "outcomes": dict(self.outcomes),
            "latency": self.latencies.percentiles(),
            "first_token": self.first_tokens.percentiles(),
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }


class History:
    """Told of every exchange: `began` when it opens, `ended` once its record is closed.

    `StatusSite` makes one; `compose` has it told, by way of the site. `now` is the calendar's
    clock, in Unix seconds. `shown` says which records the page is about: neither probes nor the
    page itself. `in_flight` has the records under way, shown or not, and `limited` counts what
    limits refused, by the name of the limit.
    """

    def __init__(self, now: Callable[[], float], shown: Callable[[Record], bool]) -> None:
        self._now = now
        self._shown = shown
        self.last: deque[tuple[float, Record]] = deque(maxlen=LAST_EXCHANGES)
        """When each of the last exchanges ended, and its record; the latest stands last."""
        self.ended_count = 0
        """Exchanges that were ever put into `last`: who read it before knows what is new."""
        self.in_flight: set[Record] = set()
        self.limited: Counter[str] = Counter()
        self._points: deque[dict[str, Any]] = deque(maxlen=POINTS)
        self._interval = _Interval(self._begin())
        self._closed: deque[_Interval] = deque(maxlen=RECENT // INTERVAL - 1)
        self._callers: dict[str, list[int]] = {}

    def began(self, record: Record) -> None:
        """Count an exchange as under way, until `ended` or, by `StatusSite.forgotten`, taken
        back."""
        self.in_flight.add(record)

    def ended(self, record: Record) -> None:
        """Add a closed record to what was, where the page shows it; the caller's usage is counted,
        too.

        Keeps the record itself, for as long as it is among the last `LAST_EXCHANGES`.
        """
        self.in_flight.discard(record)
        if not self._shown(record):
            return
        now = self._now()
        if not 0 <= now - self._interval.began < INTERVAL:
            self._roll()
        self._interval.add(record)
        self.last.append((now, record))
        self.ended_count += 1
        if record.limit is not None:
            self.limited[record.limit] += 1
        if record.caller is not None:
            self._use(record.caller, record)

    def new_since(self, count: int) -> list[tuple[float, Record]]:
        """Return the exchanges that ended since `ended_count` was `count`, the oldest first: each
        with its end in Unix seconds. Of more than `LAST_EXCHANGES` only the last ones are left."""
        missed = min(self.ended_count - count, len(self.last))
        return [self.last[index] for index in range(len(self.last) - missed, len(self.last))]

    def latest(self) -> list[dict[str, Any]]:
        """Return the interval under way, as a point of the plots, and before it the one that closed
        last: who reads them each second has missed what ended in that interval's last second."""
        self._roll()
        last = [self._points[-1]] if self._points else []
        return [*last, self._interval.point(self._now())]

    def recent(self) -> dict[str, list[float | None]]:
        """Return percentiles of what ended within the last minute, in seconds: one interval alone
        has too few values. They are 50th, 90th and 99th, under ``latency`` and ``first_token``."""
        self._roll()
        latency, first_token = _Durations(), _Durations()
        for interval in (*self._closed, self._interval):
            if interval.began > self._interval.began - RECENT:
                latency.add_all(interval.latencies)
                first_token.add_all(interval.first_tokens)
        return {"latency": latency.percentiles(), "first_token": first_token.percentiles()}

    def points(self) -> list[dict[str, Any]]:
        """Return the last hour, oldest first: one point for each closed interval in which something
        ended."""
        self._roll()
        return list(self._points)

    def callers(self) -> list[dict[str, Any]]:
        """Return requests and tokens of each caller since the process started, most tokens first.

        Where `MAX_CALLERS` names are taken, ``other`` stands for all callers that come later.
        """
        ordered = sorted(self._callers.items(), key=lambda item: (-item[1][1], item[0]))
        return [
            {"caller": caller, "requests": requests, "tokens": tokens}
            for caller, (requests, tokens) in ordered
        ]

    def _use(self, caller: str, record: Record) -> None:
        """Count a request and its tokens for `caller`, or for ``other`` where no place for a name
        is left. Called by `ended` for each shown exchange whose caller is known."""
        if caller not in self._callers and len(self._callers) >= MAX_CALLERS:
            caller = "other"
        used = self._callers.setdefault(caller, [0, 0])
        used[0] += 1
        used[1] += record.usage.total_tokens

    def _begin(self) -> int:
        """Return when the interval of now began: the last multiple of `INTERVAL`, in Unix seconds.
        Called by `_roll`, and at the start."""
        now = int(self._now())
        return now - now % INTERVAL

    def _roll(self) -> None:
        """Close the interval whose time is over, and forget what is older than an hour.

        Called before anything is added or read, since no timer does it: an interval in which
        nothing ended is no point. A clock that is set back closes the interval, too.
        """
        begin = self._begin()
        if begin != self._interval.began:
            if self._interval.outcomes:
                self._points.append(self._interval.point(begin))
                self._closed.append(self._interval)
            self._interval = _Interval(begin)
        while self._points and self._points[0]["time"] < begin - 3600:
            self._points.popleft()
