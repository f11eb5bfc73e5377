"""One closed record to the log at once, and to everybody else with others.

A *crowded* event loop iteration is one that deals with four events or more, such as sockets that
can be read (`reactor.epoll.CROWD`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from infergate.reactor.epoll import iteration_of
from infergate.telemetry.batch import Batch
from infergate.telemetry.record import Record

_log = Logger(namespace="infergate")


class Accounts:
    """Hands each record that is closed to `log`, and adds it to the `batch`.

    The edges call `ended` once for each record; what the record itself wants done at its end is
    done then. Where the event loop iteration of `reactor` is crowded, all records that were closed
    in it are logged at its end: what that executes and reads is then in the caches of the CPU for
    all of them but the first. `stop` is called by the service, before anything that is told of the
    records is closed.

    What `log` raises is logged, and costs nothing but the line of that record.
    """

    def __init__(self, log: Callable[[Record], None], batch: Batch, reactor: IReactorTime) -> None:
        self._log = log
        self._batch = batch
        self._reactor = reactor
        self._iteration = iteration_of(reactor)
        self._waiting: list[Record] = []
        self._epoch = 0
        self._epoch_until = -math.inf

    def ended(self, record: Record) -> None:
        """Account for a closed record: now, or at the end of a crowded iteration.

        Called by an edge for each record, once, in the reactor's thread. Raises nothing that `log`
        raises; what is to be called at the record's end (`Record.at_end`) is called first, and has
        to raise nothing itself.
        """
        record.finish()
        assert record.closed is not None
        if record.closed > self._epoch_until:
            self._look_at_calendar()
        record.epoch = self._epoch
        iteration = self._iteration
        self._waiting.append(record)
        if iteration is None or not iteration.crowded:
            self._tell()
        elif len(self._waiting) == 1:
            iteration.at_end.append(self._tell)

    def start(self) -> None:
        """Do nothing: the service starts its parts, and nothing has ended yet."""

    def stop(self) -> None:
        """Log all that was closed, and tell the views of the batch: nothing more will be.
        Called by the service when the last exchange has ended."""
        self._tell()
        self._batch.settle()

    def _look_at_calendar(self) -> None:
        """Find out at what time since 1970 the clock of the records was at 0: anew for each second,
        since the calendar may be set. Called by `ended`."""
        now = self._reactor.seconds()
        self._epoch = time.time_ns() - int(now * 1e9)
        self._epoch_until = now + 1

    def _tell(self) -> None:
        """Log all records that wait, and add them to the batch. Called by `ended` and `stop`, or at
        the end of a crowded iteration."""
        records, self._waiting = self._waiting, []
        for record in records:
            try:
                self._log(record)
            except Exception:
                _log.failure("An exchange was not logged", request_id=record.request_id)
        self._batch.add(records)
