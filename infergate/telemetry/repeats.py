"""Messages that come again and again, such as two for each connection that no descriptor is left
for: some of each kind are logged, the rest is counted.

The log's observer asks `Repeats` of each event; whatever makes a line of one takes its text from
`message_of`, which says how many were left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs
from twisted.logger import LogEvent, formatEvent

BURST = 10
"""Messages of one kind that are logged in each `INTERVAL`."""

INTERVAL = 10.0
"""Seconds."""

KINDS = 1000
"""The most kinds that are kept apart. Beyond it all are forgotten, and have a new `BURST`."""


@attrs.define
class _Kind:
    """How often one kind of message came since `began`."""

    began: float
    count: int = 0


@attrs.define(eq=False)
class Repeats:
    """The log's observer asks whether it `lets_in` an event, for each that would be written.

    Events of one kind come from the same place in the code, with other values. The first that is
    logged after others were left out says so: its ``left_out`` is how many were. Lines that belong
    to one request are never left out: a client pays for each of them with a request.
    """

    _now: Callable[[], float] = time.monotonic
    _kinds: dict[object, _Kind] = attrs.field(factory=dict, init=False)

    def lets_in(self, event: LogEvent) -> bool:
        """Say whether an event is to be logged, and count it; that of an exchange or a request
        always is.

        Writes ``left_out`` into the event where others of its kind were left out before it. Called
        by the log's observer for each event of a level that is written; raises nothing.
        """
        if "record" in event or "request_id" in event:
            return True
        now = self._now()
        kind = self._kind(event, now)
        if now - kind.began >= INTERVAL:
            if kind.count > BURST:
                event["left_out"] = kind.count - BURST
            kind.began, kind.count = now, 0
        kind.count += 1
        return kind.count <= BURST

    def _kind(self, event: LogEvent, now: float) -> _Kind:
        """Return the count of the events that come from the same place in the code; a new one
        begins `now`. Called by `lets_in`."""
        # `message` is that of the older `log.msg`, whose format is the same for all.
        name = (event.get("log_namespace"), event.get("log_format"), event.get("message"))
        kind = self._kinds.get(name)
        if kind is None:
            if len(self._kinds) >= KINDS:
                self._kinds.clear()
            kind = self._kinds[name] = _Kind(now)
        return kind


def message_of(event: LogEvent) -> str:
    """Return the message of an event, with how many of its kind were left out before it: ``... (12
    more of this kind left out)``. Called for both kinds of log lines."""
    left_out = event.get("left_out")
    return formatEvent(event) + (f" ({left_out} more of this kind left out)" if left_out else "")
