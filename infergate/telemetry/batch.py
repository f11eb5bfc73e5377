"""Closed records that are accounted for together: one by one that costs two to four times as much.

A *view* is whatever makes something of the records: the ledger, the metrics, the status page, the
traces, and what is known of the backend.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.logger import Logger

from infergate.telemetry.record import Record

TOGETHER = 256
"""Records that are accounted for together, which takes 0.2 ms where they are in the caches, another
0.2 for the ledger and 0.3 for their spans. They are kept for as long. That one request in 256 has
to wait for it does not show in a p99; one in 64 did, of a client that asks as fast as it is
answered."""

_log = Logger(namespace="infergate")


class Batch:
    """The records that have been closed and that its views do not know of yet.

    `compose` makes one; each view says by `tell` that it is to be told. `Accounts` adds what has
    ended. Views are told where a batch is full, and before anything is read: whoever reads from a
    view calls `settle` first, or the view does.

    What a view raises is logged, and costs nothing but, in that view, the records of one batch.
    """

    def __init__(self) -> None:
        """Begin with no record, and no view."""
        self._views: list[Callable[[Sequence[Record]], None]] = []
        self._records: list[Record] = []

    def tell(self, view: Callable[[Sequence[Record]], None]) -> None:
        """Have `view` called with the records of each batch, in the order in which they were
        closed. Called once by each view."""
        self._views.append(view)

    def add(self, records: Sequence[Record]) -> None:
        """Have closed records accounted for. Called by `Accounts`, once with each."""
        self._records += records
        if len(self._records) >= TOGETHER:
            self.settle()

    def settle(self) -> None:
        """Tell all views of what they do not know yet. Raises nothing that a view raises."""
        if not self._records:
            return
        records, self._records = self._records, []
        for view in self._views:
            try:
                view(records)
            except Exception:
                _log.failure("Exchanges were not accounted for", count=len(records))
