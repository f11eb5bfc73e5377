"""A small document over HTTP, bounded in size and time: the key set of a JWT issuer.

    https://login.example/keys?tenant=1    ->    base https://login.example/v1, path /keys?tenant=1

The document is asked for with the client that asks the backend, since that already has deadlines, a
limit to a body and words for its failures.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.web.client import URI

from infergate.backend.agent import OriginAgent
from infergate.backend.call import Timeouts
from infergate.backend.client import Backend
from infergate.reactor.deadlines import Deadlines
from infergate.telemetry.record import Record

MAX_BYTES = 1 << 20
"""Bytes of a document; a longer one is refused."""

DEADLINE = 10.0
"""Seconds for the whole exchange."""

_FIELDS = b"Accept: */*\r\nConnection: close\r\n"


def base_and_path(url: str) -> tuple[str, str]:
    """Return the base of a `Backend` for the document at `url`, and the path, with its query, to
    ask it for. `infergate check` calls it too."""
    uri = URI.fromBytes(url.encode("ascii"))
    # Below a base of /v1 every path is what it says.
    base = f"{uri.scheme.decode()}://{uri.netloc.decode()}/v1"
    return base, "/" + uri.originForm.decode().removeprefix("/")


def fetcher(agent: OriginAgent, url: str, deadlines: Deadlines) -> Callable[[], Deferred[bytes]]:
    """Return a function that gets the document at `url` through the agent of its origin.

    It goes through the same client as the backend's answers, and so under the same bounds. The
    Deferred of each call fires with the body of a 200 of at most `MAX_BYTES` within `DEADLINE`, and
    fails with `ValueError` for any other status, else with a `GatewayError`. The key set
    (`access.jwks`) calls it whenever it wants the keys anew.
    """
    base, path = base_and_path(url)
    backend = Backend(
        agent,
        base,
        deadlines,
        timeouts=Timeouts(DEADLINE, DEADLINE, DEADLINE),
        retries=0,
    )

    async def fetch() -> bytes:
        """Return the body, by one exchange with the server, from its connection to the last
        byte. Raises `ValueError` for any status but 200, else as `Backend.send` and
        `Call.read_all`."""
        call = backend.call(Record(deadlines.now(), client="", request_id=""))
        response = await backend.send(call, "GET", path, _FIELDS, None)
        if response.code != 200:
            call.discard()
            raise ValueError(f"status {response.code}")
        return await call.read_all(MAX_BYTES)

    return lambda: Deferred.fromCoroutine(fetch())
