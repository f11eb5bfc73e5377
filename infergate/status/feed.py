"""The event stream that the page reads: one line a second for each who looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from infergate.status.history import History
from infergate.telemetry.record import Record

EVERY = 1.0
"""Seconds between two lines."""

Watcher = Callable[[bytes], None]
"""Takes one whole event; a browser that does not read is its own affair."""


@attrs.define(eq=False, repr=False)
class Feed:
    """Sends what is and what was to all who look; idle, without even a timer, while nobody does.

    `state` gives the members of a line's ``state``, `line` those of the log line of a record that
    ended at a time in Unix seconds. Both are asked once a second, for all watchers together.
    """

    _history: History
    _state: Callable[[], dict[str, Any]]
    _line: Callable[[float, Record], dict[str, Any]]
    _now: Callable[[], float]
    _clock: IReactorTime
    _watchers: list[Watcher] = attrs.field(factory=list, init=False)
    _sent: int = attrs.field(default=0, init=False)
    _ticking: LoopingCall = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = self._clock

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Send `watcher` the last hour and the last exchanges now, and then a line a second.
        Gives back what ends that."""
        if not self._watchers:
            self._sent = self._history.ended_count
            self._ticking.start(EVERY, now=False)
        watcher(self._event(0, history=self._history.points()))
        self._watchers.append(watcher)

        def stop() -> None:
            if watcher in self._watchers:
                self._watchers.remove(watcher)
            if not self._watchers and self._ticking.running:
                self._ticking.stop()

        return stop

    def _tick(self) -> None:
        event = self._event(self._sent)
        self._sent = self._history.ended_count
        for watcher in list(self._watchers):
            watcher(event)

    def _event(self, since: int, **more: object) -> bytes:
        """One event of the stream, with the exchanges that ended after the first `since`."""
        history = self._history
        said = {
            "time": self._now(),
            "state": {
                **self._state(),
                "in_flight": len(history.in_flight),
                "recent": history.recent(),
                "limited": dict(history.limited),
                "callers": history.callers(),
            },
            "requests": [self._line(ended, record) for ended, record in history.new_since(since)],
            "points": history.latest(),
            **more,
        }
        return b"data: %b\n\n" % msgspec.json.encode(said)
