"""Whether the backend can be reached, as far as is known: by its traffic, and by its health."""

from __future__ import annotations

from collections.abc import Sequence

from infergate.telemetry.batch import Batch
from infergate.telemetry.record import Record


class Reachability:
    """What was learnt last, out of what `batch` says has ended, and by `heard`, which is called
    with what the backend's health route said; `value` is the metric."""

    def __init__(self, batch: Batch) -> None:
        self._settle = batch.settle
        batch.tell(self._ended)
        self._up: bool | None = None

    def heard(self, up: bool) -> None:
        """Keep whether the backend is there, as its health route said. Called by `Health` after
        each probe."""
        # What ended before says nothing any more.
        self._settle()
        self._up = up

    def _ended(self, records: Sequence[Record]) -> None:
        """Learn from closed records whether the backend is there. Called by the batch.

        A success is a good answer. One that does not come, or 503, says that it is away or loads;
        any other failure says nothing of whether it is there.
        """
        for record in records:
            if record.backend_status is None:
                unreachable = record.outcome == "backend_unavailable"
                if unreachable or record.cause == "BACKEND_CONNECT_TIMEOUT":
                    self._up = False
            elif record.backend_status == 503:
                self._up = False
            elif record.outcome == "ok":
                self._up = True

    def value(self) -> float | None:
        """Return 1 where the backend can be reached, 0 where not; None where nothing is known yet.
        Called when metrics are written or pushed."""
        self._settle()
        return None if self._up is None else float(self._up)
