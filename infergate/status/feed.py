"""The event stream that the page reads: one event a second for each browser that looks.

An event is one ``data:`` line of JSON and an empty line, as a browser's `EventSource` reads it:

    data: {"time":1764225000.1,"state":{"version":"1.0",...},"requests":[...],"points":[...]}

The first event of a stream has a member ``history`` besides: the points of the last hour.
"""

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
    """Sends the state of the gateway and its history to all watchers; idle, without even a timer,
    while there are none.

    `StatusSite` makes one, and calls `watch` for each request for the feed.

    `state` gives the members of an event's ``state``, `line` those of the log line of a record that
    ended at a time in Unix seconds. Both are asked once a second, for all watchers together, and
    once more for the first event of each watcher.
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
        """Make the timer, which `watch` starts and the end of the last watcher stops."""
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = self._clock

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Send `watcher` the last hour and the last exchanges now, and from then on one event a
        second.

        Returns a function that ends this, which `StatusSite.watch` calls once the client has left;
        calling it again does nothing. A watcher must not raise: in the first event what it raises
        comes out of here, in a later one it ends the timer and so the feed of everybody.
        """
        watcher(self._event(0, history=self._history.points()))
        if not self._watchers:
            self._sent = self._history.ended_count
            self._ticking.start(EVERY, now=False)
        self._watchers.append(watcher)

        def stop() -> None:
            """Take the watcher out, and stop the timer with the last one."""
            if watcher in self._watchers:
                self._watchers.remove(watcher)
            if not self._watchers and self._ticking.running:
                self._ticking.stop()

        return stop

    def _tick(self) -> None:
        """Send all watchers the exchanges that ended since the last event. Called by the timer.

        The event is made once, and every watcher is handed the same bytes.
        """
        event = self._event(self._sent)
        self._sent = self._history.ended_count
        for watcher in list(self._watchers):
            watcher(event)

    def _event(self, since: int, **more: object) -> bytes:
        """Return one whole event of the stream, with the exchanges that ended after the first
        `since` that the history was ever told of.

        `more` are further members of its JSON object. Called by `watch` for a first event, and by
        `_tick` for all others.
        """
        history = self._history
        said = {
            "time": self._now(),
            "state": {
                **self._state(),
                "recent": history.recent(),
                "limited": history.limited(),
                "callers": history.callers(),
            },
            "requests": [self._line(ended, record) for ended, record in history.new_since(since)],
            "points": history.latest(),
            **more,
        }
        return b"data: %b\n\n" % msgspec.json.encode(said)
