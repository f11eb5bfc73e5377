"""Whether the backend took a request, and what it says where it did not."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from infergate.api.refusals import NOT_SHOWN, refusal
from infergate.backend.call import Call
from infergate.backend.connection import Response
from infergate.errors import BackendFailure
from infergate.reactor.deadlines import Deadlines

REJECTION_BYTES = 65536
"""The largest refusal that is read for its message."""

REJECTION_SECONDS = 2.0
"""How long a refusal is waited for. Its status is known already, and that is what counts."""


async def accepted(call: Call, response: Response, deadlines: Deadlines) -> None:
    """Return where the backend answers with a success; the worker calls this once the response's
    head is here. Raises `BackendRejected` where it refuses the request, else `BackendError`."""
    status = response.code
    if 200 <= status < 300:
        return
    if status in NOT_SHOWN:
        call.discard()
        raise refusal(status, b"")
    raise refusal(status, await _words(call, deadlines))


async def _words(call: Call, deadlines: Deadlines) -> bytes:
    """What the backend says; nothing where that is broken, or late, or a whole book."""
    reading = Deferred.fromCoroutine(call.read_all(REJECTION_BYTES))
    patience = _Patience(reading, deadlines)
    try:
        return await reading
    except BackendFailure:
        return b""
    except CancelledError:
        # Else it was the client that left.
        if not patience.ended:
            raise
        return b""
    finally:
        deadlines.forget(patience)


class _Patience:
    """Cancels what takes longer than `REJECTION_SECONDS`; watched from when it is made."""

    def __init__(self, reading: Deferred[bytes], deadlines: Deadlines) -> None:
        self._reading = reading
        self.ended = False
        self.deadline = deadlines.now() + REJECTION_SECONDS
        deadlines.watch(self)

    def expired(self) -> None:
        self.ended = True
        self._reading.cancel()
