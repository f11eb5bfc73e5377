"""One closed record to everybody who accounts for it.

A *view* is whatever is told of each closed record at once: whether the backend can be reached, the
ledger, the log. What may be told of many together is in the `Batch`. A *crowded* event loop
iteration is one that deals with four events or more, such as sockets that can be read
(`reactor.epoll.CROWD`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from infergate.reactor.epoll import iteration_of
from infergate.telemetry.batch import Batch
from infergate.telemetry.record import Record

_log = Logger(namespace="infergate")


class Accounts:
    """Tells every one of `views`, in their order, of each record that is closed, and adds it to the
    `batch`.

    The edges call `ended` once for each record; what the record itself wants done at its end is
    done then. Where the event loop iteration of `reactor` is crowded, the views are told at its
    end, one view after the other of all records that were closed in it: what a view executes and
    reads is then in the caches of the CPU for all of them but the first, which is a twentieth of
    what a plain request costs. `stop` is called by the service, before anything that a view writes
    to is closed.

    What a view raises is logged, and costs nothing but, in that view, the record.
    """

    def __init__(
        self, views: Sequence[Callable[[Record], None]], batch: Batch, reactor: IReactorTime
    ) -> None:
        self._views = views
        self._batch = batch
        self._reactor = reactor
        self._iteration = iteration_of(reactor)
        self._waiting: list[Record] = []
        self._epoch = 0
        self._epoch_until = -math.inf

    def ended(self, record: Record) -> None:
        """Account for a closed record: now, or at the end of a crowded iteration.

        Called by an edge for each record, once, in the reactor's thread. Raises nothing that a view
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
        """Tell the views, those of the batch too, of all that was closed: nothing more will be.
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
        """Tell each view in turn of all records that wait, the batch after them, and log what a
        view raises. Called by `ended` and `stop`, or at the end of a crowded iteration."""
        records, self._waiting = self._waiting, []
        for view in self._views:
            for record in records:
                try:
                    view(record)
                except Exception:
                    _log.failure("An exchange was not accounted for", request_id=record.request_id)
        self._batch.add(records)
