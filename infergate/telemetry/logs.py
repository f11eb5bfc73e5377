"""The log of the process: one event for each exchange that has ended, and the levels of events.

An *event* is Twisted's: a dictionary with a level, a time and a format. An exchange's event holds
its record; `jsonlines` or `textlines` makes a line of it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import Any

from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel
from zope.interface import provider

from infergate.telemetry.record import Record
from infergate.telemetry.repeats import Repeats

_log = Logger(namespace="infergate")

_LEVELS = {
    "backend_error": LogLevel.error,
    "backend_unavailable": LogLevel.error,
    "timeout": LogLevel.error,
    "internal_error": LogLevel.error,
    "overloaded": LogLevel.warn,
    "shutdown": LogLevel.warn,
    "rate_limited": LogLevel.warn,
}
"""The levels of outcomes other than ``info``: at ``error`` is what an operator has to mend, so that
`LOG_LEVEL=warn` shows an outage and leaves out what clients get wrong."""


class RequestLog:
    """Emits one event for each closed record; `compose` has it called once for each, after the
    metrics.

    `probes` says whether probes that succeed are of level ``info``, as everything else is, or of
    ``debug``. The event holds the record itself: an observer that writes nothing of it costs no
    more than a look at its level.
    """

    def __init__(self, *, probes: bool) -> None:
        self._probe_level = LogLevel.info if probes else LogLevel.debug

    def __call__(self, record: Record) -> None:
        """Emit the event of a closed record; an observer that writes it does so before this
        returns."""
        # As `Logger.emit` does it, which formats the event's source and time in a slower way.
        _log.observer(
            {
                "log_logger": _log,
                "log_level": self._level(record),
                "log_namespace": _log.namespace,
                "log_source": None,
                "log_format": "request",
                "log_time": time(),
                "record": record,
            }
        )

    def _level(self, record: Record) -> Any:
        """Return the level of an exchange: that of its outcome, or of a probe that succeeded.

        A probe, or any HEAD request, that is answered with 503 is at ``warn``: ``/readyz`` says so
        that the gateway is not ready. Called for each closed record.
        """
        level = _LEVELS.get(record.outcome, LogLevel.info)
        if record.outcome == "ok" and (record.probe or record.method == "HEAD"):
            return LogLevel.warn if record.status == 503 else self._probe_level
        return level


def observer(
    write: Callable[[str], object], line: Callable[[LogEvent], str], level: str
) -> ILogObserver:
    """Return the observer of the application: of each event from `level` up, it hands the text that
    `line` makes of it to `write`.

    Twisted calls it for every event of the process, whoever logs it: Twisted itself, Python's
    warnings, what something prints. Events that are not to be written cost no text. What `write`
    raises is caught by Twisted, and costs that event alone.

    Called once, by `tap`. Raises `InvalidLogLevelError` where `level` is no name of a level of
    Twisted's, as ``info`` is one.
    """
    lowest = LogLevel.levelWithName(level)
    written = frozenset(one for one in LogLevel.iterconstants() if one >= lowest)
    repeats = Repeats()

    def write_line(event: LogEvent) -> None:
        """Write an event that has such a level, unless too many of its kind came just now."""
        if event.get("log_level") in written and repeats.lets_in(event):
            write(line(event))

    observed: ILogObserver = provider(ILogObserver)(write_line)
    return observed
