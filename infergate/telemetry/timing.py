"""``Server-Timing``: where the time of an operation went, as far as its client can be told (W3C
Server Timing)."""

from __future__ import annotations

from infergate.telemetry.record import Record


def server_timing(record: Record) -> bytes | None:
    """Return what is known when the head of the answer goes out: `admission` (who it is, and what
    is left of its limits), `checks` (of the body, once it is there), and `backend`, from the call
    to the head of a reply or the first event of a stream.

    The header field's value has milliseconds: ``admission;dur=0.21, checks;dur=0.08,
    backend;dur=81.40``. None where nothing is known. Called by `Request.begin` for the answer to an
    operation.
    """
    parts = [
        (b"admission", record.admission_seconds),
        (b"checks", record.check_seconds),
        (b"backend", record.answer_seconds),
    ]
    known = [b"%b;dur=%.2f" % (name, took * 1000) for name, took in parts if took is not None]
    return b", ".join(known) or None
