"""The backend over treq: what every request to it carries, and how often it is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
from treq.client import HTTPClient
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from infergate import __version__
from infergate.backend.agent import OriginAgent
from infergate.backend.call import Call, Timeouts
from infergate.backend.connection import Response
from infergate.reactor.deadlines import Deadlines
from infergate.reactor.headers import Fields
from infergate.telemetry.record import Record

USER_AGENT = f"User-Agent: infergate/{__version__}\r\n".encode("ascii")
"""What every request says of its sender, unless the client's own word for itself goes on."""


@attrs.define(eq=False, repr=False)
class Backend:
    """Sends requests to the API at `base`, a URL with no ``/`` at its end, through the agent of its
    origin. `retries` counts further tries after a connection that failed before one byte of the
    request was out; `api_key` goes along as a bearer token; `well` asks whether the backend is
    well, for calls with no limit to how long the answer may take to begin.

    A path under ``/v1/`` is below the base, any other below the base without its own ``/v1``: of
    ``http://host/v1`` and of ``http://host/api/v4`` ``/v1/models`` is ``/v1/models`` and
    ``/api/v4/models``, ``/health`` is ``/health`` and ``/api/v4/health``.

    A worker calls `call` once for each request of a client, then `send` with it; so do the probes
    of `health` and what fetches a key set.
    """

    _agent: OriginAgent
    _base: str
    _deadlines: Deadlines
    _timeouts: Timeouts
    _api_key: str | None = None
    _retries: int = 1
    _well: Callable[[], Deferred[bool]] | None = None
    _client: OriginClient = attrs.field(init=False)
    # The line of the header field that every request carries.
    _credentials: bytes = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Make the client, and the line of its credentials."""
        self._client = OriginClient(self._agent)
        key = self._api_key
        self._credentials = b"Authorization: Bearer %b\r\n" % key.encode("utf-8") if key else b""

    def call(self, record: Record) -> Call:
        """Return a new exchange on behalf of the request of `record`, which gets the times of its
        phases."""
        return Call(self._deadlines, self._timeouts, record, self._well)

    def send(
        self,
        call: Call,
        method: str,
        path: str,
        fields: bytes,
        body: bytes | None,
    ) -> Awaitable[Response]:
        """Send a request for `path`, once this is awaited, and return the response, its body still
        to come: the caller reads it with `call`, or discards it.

        `fields` are lines that end in CRLF, with capitalized names (`X-Request-Id: 1`). The body is
        let go once it is written. A request is sent again only where not a byte of it can have
        reached the backend. Raises what `Call.head` does.
        """
        below_base = path.startswith("/v1/")
        url = self._base + path[3:] if below_base else self._base.removesuffix("/v1") + path
        if fields.find(b"\r\nUser-Agent: ") < 0:
            fields = USER_AGENT + fields
        headers = Fields(self._credentials + fields)
        producer = None if body is None else Body(body)

        def attempt() -> Deferred[Any]:
            """Start one try, and return treq's Deferred, which fires with a `Response`."""
            return self._client.request(method, url, headers=headers, data=producer)

        return call.head(attempt, self._retries)


class OriginClient(HTTPClient):
    """treq's client for an agent of one origin.

    treq's own is made for any site: for each request it takes the URL apart and looks for cookies
    of its host, merges and copies the header fields, and puts agents around the agent that keep
    cookies, follow redirects and decode gzip. That is a sixth of what a plain request costs. Here
    no cookie is kept or sent, since one client serves all callers, no redirect is followed and no
    compression asked for, so that a request goes to the agent as it is, and its response needs none
    of treq's wrapping, which would keep the body.
    """

    def __init__(self, agent: OriginAgent) -> None:
        super().__init__(agent)
        self._origin = agent

    def request(  # type: ignore[override]  # fewer of treq's arguments, as said above
        self, method: str, url: str, *, headers: Fields, data: IBodyProducer | None
    ) -> Deferred[Any]:
        """Send a request for an absolute `url` of the origin, in ASCII; fires with the `Response`,
        and fails as `OriginAgent.request` does. Called by `Backend.send`."""
        return self._origin.request(method.encode(), url.encode(), headers, data)


_WRITTEN: Deferred[None] = succeed(None)
"""What a body that is written at once answers with: nobody waits for it."""


@implementer(IBodyProducer)
class Body:
    """A request's body that is whole: written at once, and then let go. treq's own producer would
    take a cooperative task for it. Made by `Backend.send`, written by `Message.whole`."""

    def __init__(self, body: bytes) -> None:
        self.length = len(body)
        self._body = body

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write the body, all of it at once, and let it go; the Deferred has fired already. Called
        by `Message.whole` once there is a connection, so that a try without one leaves the body to
        the next."""
        consumer.write(self._body)
        self._body = b""
        return _WRITTEN

    def pauseProducing(self) -> None:
        """Do nothing: all is written at once, and nothing is left to hold back."""

    resumeProducing = stopProducing = pauseProducing
