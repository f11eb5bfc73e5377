"""The last hour and the last exchanges, out of the record and of nothing else.

Always kept, in a bounded memory of under 2 MiB, so that the page shows the past when it is opened.
Nothing is sent while no browser has it open.

An *interval* is ten seconds that begin at a multiple of ten, in Unix seconds; what ended within it
is summed up as one *point* of the page's plots. `Feed` reads all of this; nothing here raises.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from typing import Any

import attrs

from infergate.status.durations import Durations
from infergate.telemetry.batch import Batch
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


@attrs.define
class _Interval:
    """What ended within one `INTERVAL`; `began` is in Unix seconds.

    `outcomes` counts exchanges by the outcome of their record; `first_tokens` has only those in
    which a first token came.
    """

    began: int
    outcomes: Counter[str] = attrs.field(factory=Counter)
    latencies: Durations = attrs.field(factory=Durations)
    first_tokens: Durations = attrs.field(factory=Durations)
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, records: list[Record]) -> None:
        """Add closed records. Called by `History` with those that the page shows."""
        self.outcomes.update([record.outcome for record in records])
        self.latencies.add([record.duration for record in records])
        self.first_tokens.add(
            [one.first_token - one.opened for one in records if one.first_token is not None]
        )
        self.prompt_tokens += sum([record.usage.prompt_tokens for record in records])
        self.completion_tokens += sum([record.usage.completion_tokens for record in records])

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
    """Told of every exchange by `batch`, once its record is closed.

    `StatusSite` makes one. `now` is the calendar's clock, in Unix seconds. The page is not about
    probes, nor about the routes in `hidden`. Whatever is read is as of now.
    """

    def __init__(self, batch: Batch, now: Callable[[], float], hidden: Collection[str]) -> None:
        self._settle = batch.settle
        batch.tell(self._ended)
        self._now = now
        self._hidden = hidden
        self._last: deque[tuple[float, Record]] = deque(maxlen=LAST_EXCHANGES)
        self._count = 0
        self._limited: Counter[str] = Counter()
        self._points: deque[dict[str, Any]] = deque(maxlen=POINTS)
        self._interval = _Interval(_interval_of(now()))
        self._closed: deque[_Interval] = deque(maxlen=RECENT // INTERVAL - 1)
        self._callers: dict[str, list[int]] = {}

    @property
    def ended_count(self) -> int:
        """Return how many exchanges have ended that the page shows. `new_since` takes it, to give
        those that ended later."""
        self._settle()
        return self._count

    def limited(self) -> dict[str, int]:
        """Return how many exchanges each limit refused, by the limit's name."""
        self._settle()
        return dict(self._limited)

    def new_since(self, count: int) -> list[tuple[float, Record]]:
        """Return the exchanges that ended since `ended_count` was `count`, the oldest first: each
        with its end in Unix seconds. Of more than `LAST_EXCHANGES` only the last ones are left."""
        missed = min(self.ended_count - count, len(self._last))
        return [self._last[index] for index in range(len(self._last) - missed, len(self._last))]

    def latest(self) -> list[dict[str, Any]]:
        """Return the interval under way, as a point of the plots, and before it the one that closed
        last: who reads them each second has missed what ended in that interval's last second."""
        self._look()
        last = [self._points[-1]] if self._points else []
        return [*last, self._interval.point(self._now())]

    def recent(self) -> dict[str, list[float | None]]:
        """Return percentiles of what ended within the last minute, in seconds: one interval alone
        has too few values. They are 50th, 90th and 99th, under ``latency`` and ``first_token``."""
        self._look()
        latency, first_token = Durations(), Durations()
        for interval in (*self._closed, self._interval):
            if interval.began > self._interval.began - RECENT:
                latency.add_all(interval.latencies)
                first_token.add_all(interval.first_tokens)
        return {"latency": latency.percentiles(), "first_token": first_token.percentiles()}

    def points(self) -> list[dict[str, Any]]:
        """Return the last hour, oldest first: one point for each closed interval in which something
        ended."""
        self._look()
        return list(self._points)

    def callers(self) -> list[dict[str, Any]]:
        """Return requests and tokens of each caller since the process started, most tokens first.

        Where `MAX_CALLERS` names are taken, ``other`` stands for all callers that come later.
        """
        self._settle()
        ordered = sorted(self._callers.items(), key=lambda item: (-item[1][1], item[0]))
        return [
            {"caller": caller, "requests": requests, "tokens": tokens}
            for caller, (requests, tokens) in ordered
        ]

    def _ended(self, records: Sequence[Record]) -> None:
        """Add the exchanges that the page shows to the last ones, to the interval in which they
        ended, and to the usage of their callers. Called by the batch.

        Keeps the records themselves, for as long as they are among the last `LAST_EXCHANGES`.
        """
        shown = [one for one in records if not one.probe and one.route not in self._hidden]
        if not shown:
            return
        times = [one.epoch * 1e-9 + (one.closed or 0) for one in shown]
        if _interval_of(min(times)) == _interval_of(max(times)):
            self._roll(times[0])
            self._interval.add(shown)
        else:
            ended = zip(times, shown, strict=True)
            for began, together in groupby(ended, lambda one: _interval_of(one[0])):
                self._roll(began)
                self._interval.add([record for _, record in together])
        self._last.extend(zip(times, shown, strict=True))
        self._count += len(shown)
        self._limited.update([one.limit for one in shown if one.limit is not None])
        for record in shown:
            caller = record.caller
            if caller is not None:
                used = self._callers.get(caller) or self._usage_of(caller)
                used[0] += 1
                used[1] += record.usage.total_tokens

    def _usage_of(self, caller: str) -> list[int]:
        """Return the requests and tokens of a caller who is new, to be added to; those of ``other``
        where no place for a name is left. Called by `_ended`."""
        if len(self._callers) >= MAX_CALLERS:
            caller = "other"
        return self._callers.setdefault(caller, [0, 0])

    def _look(self) -> None:
        """Bring everything up to now: no timer does it. Called before intervals are read."""
        self._settle()
        self._roll(self._now())

    def _roll(self, now: float) -> None:
        """Close the interval where its time is over at `now`, in Unix seconds, and forget what is
        older than an hour.

        An interval in which nothing ended is no point. A clock that is set back closes the
        interval, too, but for an exchange that ended just before the interval began, and is told of
        late.
        """
        begin = _interval_of(now)
        if begin not in (self._interval.began, self._interval.began - INTERVAL):
            if self._interval.outcomes:
                self._points.append(self._interval.point(begin))
                self._closed.append(self._interval)
            self._interval = _Interval(begin)
        while self._points and self._points[0]["time"] < begin - 3600:
            self._points.popleft()


def _interval_of(now: float) -> int:
    """Return when the interval began that `now` is in: the last multiple of `INTERVAL`, in Unix
    seconds."""
    return int(now) - int(now) % INTERVAL
