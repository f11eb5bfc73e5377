"""The text of ``/metrics``, written anew no more often than it is worth.

With many models it takes some 0.1 s to write, in which the process serves nobody else. Whoever
asks more often than that is worth gets the text that was written last.
"""

from __future__ import annotations

from collections.abc import Callable

from infergate.telemetry.metrics import Metrics

SHARE = 0.1
"""The part of all time that may go into writing the text."""

BURST = 0.5
"""Seconds of writing that may come at once after a time without any."""


class Exposition:
    """The text of `metrics` for whoever scrapes, rationed by the clock `now`."""

    def __init__(self, metrics: Metrics, now: Callable[[], float]) -> None:
        self._metrics = metrics
        self._now = now
        self._text = b""
        self._asked = now()
        self._budget = BURST

    def text(self) -> bytes:
        """The text as it is now, or as it was when it was last written."""
        began = self._now()
        self._budget = min(self._budget + SHARE * (began - self._asked), BURST)
        self._asked = began
        if self._budget > 0:
            self._text = self._metrics.text()
            self._budget -= self._now() - began
        return self._text
