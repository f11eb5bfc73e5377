"""How late the event loop is: what one long computation costs everybody else."""

from __future__ import annotations

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from infergate.telemetry.histogram import Histogram

INTERVAL = 0.1
"""Seconds between two timers whose lateness is recorded."""


@attrs.define(eq=False, repr=False)
class Lag:
    """Records in `histogram` how late a timer of `clock` is, ten times a second.

    `start` is called once, then `stop` once. The time that the process has to wait for a CPU is in
    it too.
    """

    _histogram: Histogram
    _clock: IReactorTime
    _due: float = attrs.field(default=0.0, init=False)
    _timer: IDelayedCall | None = attrs.field(default=None, init=False)

    def start(self) -> None:
        """Begin to measure: set the next timer, and keep when it is due. Called by the service, and
        by each timer that has fired."""
        self._due = self._clock.seconds() + INTERVAL
        self._timer = self._clock.callLater(INTERVAL, self._fire)

    def stop(self) -> None:
        """Cancel the timer that is set; nothing is recorded from then on. Called by the service."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _fire(self) -> None:
        """Record how late this timer is, in seconds, and set the next one. Called by the clock."""
        self._histogram.observe([max(0.0, self._clock.seconds() - self._due)])
        self.start()
