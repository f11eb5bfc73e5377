"""``Server-Timing``: where the time of an operation went, as far as its client can be told (W3C
Server Timing)."""

from __future__ import annotations

from math import floor

from infergate.telemetry.record import Record

# Milliseconds up to 9.99 as they are written: what a check takes is looked up, in a third of the
# time.
_TEXTS = [b"%.2f" % (hundredths / 100) for hundredths in range(1000)]
_SHORT = 0.00999


def server_timing(record: Record) -> bytes | None:
    """Return what is known when the head of the answer goes out: `admission` (who it is, and what
    is left of its limits), `checks` (of the body, once it is there), and `backend`, from the call
    to the head of a reply or the first event of a stream.

    The header field's value has milliseconds: ``admission;dur=0.21, checks;dur=0.08,
    backend;dur=81.40``. None where nothing is known. Called by `Request._opening` for the
    answer to an operation.
    """
    admission, checks = record.admission_seconds, record.check_seconds
    began, answered = record.backend_began, record.answer_began
    if admission is None:
        return None
    if checks is None:
        return b"admission;dur=%.2f" % (admission * 1000)
    if began is None or answered is None:
        return b"admission;dur=%.2f, checks;dur=%.2f" % (admission * 1000, checks * 1000)
    backend = answered - began
    if admission < _SHORT and checks < _SHORT:
        return b"admission;dur=%b, checks;dur=%b, backend;dur=%.2f" % (
            _TEXTS[floor(admission * 1e5 + 0.5)],
            _TEXTS[floor(checks * 1e5 + 0.5)],
            backend * 1000,
        )
    return b"admission;dur=%.2f, checks;dur=%.2f, backend;dur=%.2f" % (
        admission * 1000,
        checks * 1000,
        backend * 1000,
    )
