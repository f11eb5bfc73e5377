"""One closed record to everybody who accounts for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.logger import Logger

from infergate.reactor.epoll import iteration_of
from infergate.telemetry.record import Record

_log = Logger(namespace="infergate")


class Accounts:
    """Tells every one of `views`, in their order, of each record that is closed.

    The edges call `ended` once for each record; what the record itself wants done at its end is
    done then. Where the event loop iteration of `reactor` is crowded, the views are told at its
    end, one view after the other of all records that were closed in it: what a view executes and
    reads is then in the caches of the CPU for all of them but the first, which is a twentieth of
    what a plain request costs. `stop` is called by the service, before anything that a view writes
    to is closed.

    What a view raises is logged, and costs nothing but that record in that view.
    """

    def __init__(self, views: Sequence[Callable[[Record], None]], reactor: object) -> None:
        self._views = views
        self._reactor = reactor
        self._waiting: list[Record] = []

    def ended(self, record: Record) -> None:
        """Account for a closed record: now, or at the end of a crowded iteration."""
        record.finish()
        iteration = iteration_of(self._reactor)
        self._waiting.append(record)
        if iteration is None or not iteration.crowded:
            self._tell()
        elif len(self._waiting) == 1:
            iteration.at_end.append(self._tell)

    def start(self) -> None:
        """Nothing has ended yet."""

    def stop(self) -> None:
        """Tell of what was closed in this iteration: it may be the last one."""
        self._tell()

    def _tell(self) -> None:
        records, self._waiting = self._waiting, []
        for view in self._views:
            for record in records:
                try:
                    view(record)
                except Exception:
                    _log.failure("An exchange was not accounted for", request_id=record.request_id)
