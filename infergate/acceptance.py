"""Whether the backend took a request, and what it says where it did not.

A backend that refuses says why in its body, in a line or a JSON object: that is read, but within
bounds, and made into the error for the client by `api.refusals`. A `Call` is the exchange with the
backend; `Deadlines` calls `expired` of what it watches when its `deadline` has passed.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from infergate.api.refusals import NOT_SHOWN, refusal
from infergate.backend.call import Call
from infergate.backend.connection import Response
from infergate.errors import BackendFailure, GatewayError
from infergate.reactor.deadlines import Deadlines

SUCCESS = range(200, 300)
"""Every status with which a backend has taken a request."""

REJECTION_BYTES = 65536
"""The largest refusal that is read for its message."""

REJECTION_SECONDS = 2.0
"""How long a refusal is waited for. Its status is known already, and that is what counts."""


async def rejection(call: Call, response: Response, deadlines: Deadlines) -> GatewayError:
    """Read what the backend says in a response whose status is none of `SUCCESS`, and return it as
    the error for the client.

    `BackendWorker` awaits this once the response's head is here, and raises what it returns:
    `BackendRejected` for a status that is about what the client sent (`refusals.PASSED_ON`: 400,
    404, 429 ...), and `BackendError` for any other. Of a 401 or a 403, which is about the gateway's
    own key, the body is not read and the connection closed.
    """
    status = response.code
    if status in NOT_SHOWN:
        call.discard()
        return refusal(status, b"")
    return refusal(status, await _words(call, deadlines))


async def _words(call: Call, deadlines: Deadlines) -> bytes:
    """Return the body of a refusal, at most `REJECTION_BYTES` of it; ``b""`` where it is larger,
    broken, or not whole within `REJECTION_SECONDS`.

    Called by `rejection` alone. No failure of the backend's is raised, since its status says
    enough; `CancelledError` is, where it was the client that left.
    """
    reading = Deferred.fromCoroutine(call.read_all(REJECTION_BYTES))
    patience = _Patience(reading, deadlines)
    try:
        return await reading
    except BackendFailure:
        return b""
    except CancelledError:
        # Where the time is not up, it was the client that left.
        if not patience.ended:
            raise
        return b""
    finally:
        deadlines.forget(patience)


class _Patience:
    """Cancel the reading of a refusal that takes longer than `REJECTION_SECONDS`.

    `_words` makes one, which is watched by `deadlines` from then on, and has `deadlines` forget it
    when the reading has ended. `ended` says whether it was this that cancelled the reading.
    """

    def __init__(self, reading: Deferred[bytes], deadlines: Deadlines) -> None:
        """Watch `reading` from now on."""
        self._reading = reading
        self.ended = False
        self.deadline = deadlines.now() + REJECTION_SECONDS
        deadlines.watch(self)

    def expired(self) -> None:
        """Cancel the reading. Called by `Deadlines` when the time is up; `_words` then sees a
        `CancelledError`, and by `ended` that it is not the client's."""
        self.ended = True
        self._reading.cancel()
