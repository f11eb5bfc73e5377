"""Whether the backend can be reached, as far as is known: by its traffic, and by its health."""

from __future__ import annotations

from infergate.telemetry.record import Record


class Reachability:
    """What was learnt last. `ended` is called with each closed record, `heard` with what the
    backend's health route said; `value` is the metric."""

    def __init__(self) -> None:
        self._up: bool | None = None

    def heard(self, up: bool) -> None:
        """Keep whether the backend is there, as its health route said. Called by `Health` after
        each probe."""
        self._up = up

    def ended(self, record: Record) -> None:
        """Learn from a closed record whether the backend is there. Called for each, as one of the
        `Accounts`.

        A success is a good answer. One that does not come, or 503, says that it is away or loads;
        any other failure says nothing of whether it is there.
        """
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
        return None if self._up is None else float(self._up)
