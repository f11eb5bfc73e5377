"""``Server-Timing``: where the time of an operation went, as far as its client can be told (W3C
Server Timing)."""

from __future__ import annotations

from infergate.telemetry.record import Record

_ALL = b"admission;dur=%.2f, checks;dur=%.2f, backend;dur=%.2f"


def server_timing(record: Record) -> bytes | None:
    """Return what is known when the head of the answer goes out: `admission` (who it is, and what
    is left of its limits), `checks` (of the body, once it is there), and `backend`, from the call
    to the head of a reply or the first event of a stream.

    The header field's value has milliseconds: ``admission;dur=0.21, checks;dur=0.08,
    backend;dur=81.40``. None where nothing is known. Called by `Request._opening` for the
    answer to an operation.
    """
    admission, checks, backend = (
        record.admission_seconds,
        record.check_seconds,
        record.answer_seconds,
    )
    if admission is None:
        return None
    if checks is None:
        return b"admission;dur=%.2f" % (admission * 1000)
    if backend is None:
        return b"admission;dur=%.2f, checks;dur=%.2f" % (admission * 1000, checks * 1000)
    return _ALL % (admission * 1000, checks * 1000, backend * 1000)
