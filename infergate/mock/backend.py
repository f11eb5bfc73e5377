"""A backend to try infergate against: it speaks the same API and fails as it is told.

Klein, which finds the method for a path, calls `Mock.answer` for each request; `reply_to` makes the
`Reply` of it, and a `_Sender` sends that.
"""

from __future__ import annotations

from typing import Any

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.web.http import Request
from twisted.web.server import Site
from zope.interface import implementer

from infergate.mock.asked import CREATED, encode
from infergate.mock.doors import DOORS
from infergate.mock.replies import JSON, Reply, reply_to
from infergate.mock.script import Script

FLUSH = 0.05
"""Seconds that what was written gets to leave the process before a reset discards it."""


@implementer(IPushProducer)
class _Sender:
    """Sends the pieces of a reply, `interval` seconds from one to the next, or as fast as the
    client takes them. Nothing is sent, the headers neither, before there is a piece.

    `Mock.answer` makes one for each request, its status and header fields being set. It is the push
    producer of the client's connection: Twisted calls `pauseProducing` when the client does not
    keep up, `resumeProducing` when it does, and `stopProducing` when it has left. `sent` fires once
    the body has ended as it should; Klein waits for it, and cancels it when the connection is gone
    before that, as after a ``reset``.
    """

    _timer: IDelayedCall | None = None
    _paused = False

    def __init__(self, request: Any, reply: Reply, script: Script, clock: IReactorTime) -> None:
        """Become the producer of `request`, which holds the client's connection, and have the first
        piece sent after the script's ``delay``. `clock` is the reactor."""
        self._request = request
        self._pieces = iter(reply.pieces)
        self._ending = reply.ending
        self._interval = script.chunk_delay
        self._clock = clock
        self._due = clock.seconds() + script.delay
        # Klein cancels it when the client leaves.
        self.sent: Deferred[None] = Deferred(lambda _: self.stopProducing())
        request.registerProducer(self, True)
        self._timer = clock.callLater(script.delay, self._send)

    def _send(self) -> None:
        """Write the pieces that are due, until there are none, the client is to be waited for, or a
        pause of the script begins. Called by the timer of `delay` or `chunk_delay`, and by
        `resumeProducing`."""
        self._timer = None
        while not self._paused:
            piece = next(self._pieces, None)
            if piece is None:
                self._end()
                return
            self._request.write(piece)
            if self._interval:
                # Counted from the start, so that late timers do not add up.
                self._due += self._interval
                wait = max(0, self._due - self._clock.seconds())
                self._timer = self._clock.callLater(wait, self._send)
                return

    def _end(self) -> None:
        """End the answer as the reply's `ending` says, after its last piece. A reset comes `FLUSH`
        seconds later, since it would discard what the process has not sent yet."""
        self._request.unregisterProducer()
        if self._ending == "reset":
            abort = self._request.channel.transport.abortConnection
            self._timer = self._clock.callLater(FLUSH, abort)
        elif self._ending == "close":
            self._request.channel.loseConnection()
        elif self._ending == "finish":
            self.sent.callback(None)

    def pauseProducing(self) -> None:
        """Send no more until `resumeProducing`: the client does not keep up."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Send on, unless a timer is about to: a piece that is not due yet is waited for all the
        same."""
        self._paused = False
        if self._timer is None:
            self._send()

    def stopProducing(self) -> None:
        """Send no more, ever: the client has left. Called again it does nothing."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


class _QuietSite(Site):
    """A site that logs neither its start nor its requests: the log to read is the gateway's."""

    noisy = False

    def log(self, request: Request) -> None:
        pass


class Mock:
    """The mock backend's routes, answered by `script` on `clock`, the reactor or a test's clock.

    `makeService` makes one and listens with its `site`; the methods with a route are called by
    Klein.
    """

    app = Klein()

    def __init__(self, script: Script, clock: IReactorTime) -> None:
        self._script = script
        self._clock = clock

    def site(self) -> Site:
        """Return the site to listen with. Twisted does not parse a posted form in it: a body is
        read as it is."""
        return _QuietSite(  # type: ignore[no-untyped-call]
            self.app.resource(), reactor=self._clock, parsePOSTFormSubmission=False
        )

    def answer(self, request: Any) -> Deferred[None]:
        """Answer a POST to any path of `DOORS`; the Deferred fires when all is sent, as that of
        `_Sender`.

        The whole request is here when Klein calls this. The ``x-mock-request-id`` of the answer is
        the X-Request-ID that came, by which a test sees what the gateway has sent.
        """
        path = request.path.decode("ascii")
        script, reply = reply_to(request.content.read(), self._script, path)
        request.setResponseCode(reply.status)
        request.setHeader(b"Content-Type", reply.content_type)
        if reply.length is not None:
            request.setHeader(b"Content-Length", b"%d" % reply.length)
        if request_id := request.getHeader(b"X-Request-ID"):
            request.setHeader(b"x-mock-request-id", request_id)
        for name, value in reply.headers:
            request.setHeader(name, value)
        return _Sender(request, reply, script, self._clock).sent

    for _path in DOORS:
        app.route(_path, methods=["POST"])(answer)

    @app.route("/v1/models", methods=["GET"])
    def models(self, request: Any) -> bytes:
        """Return the list of models in bytes of JSON, with the one model ``mock``. No script delays
        or fails it."""
        request.setHeader(b"Content-Type", JSON)
        model = {"id": "mock", "object": "model", "created": CREATED, "owned_by": "infergate"}
        return encode({"object": "list", "data": [model]})

    @app.route("/health", methods=["GET"])
    def health(self, request: Any) -> bytes:
        """Return that the backend is well, in llama.cpp's words. No script changes it."""
        request.setHeader(b"Content-Type", JSON)
        return b'{"status":"ok"}'
