"""A backend to try infergate against: it speaks the same API and fails as it is told.

What it says, a `Door` of its path makes of the request; how it says it, or fails to, a `Script`
says. `reply_to` puts the two together into a `Reply`, the bytes of an answer and how they end, and
a `_Sender` sends that. Klein, which finds the method for a path, calls `Mock.answer` for each
request; all that is below it but `_Sender` sees no socket.

A *piece* is what is written in one go: of a stream one chunk, a few events at its beginning and
end, of a plain reply all of its body.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import attrs
import msgspec
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.web.http import Request
from twisted.web.server import Site
from zope.interface import implementer

from infergate.mock.asked import CREATED, Asked, Door, encode
from infergate.mock.doors import DOORS
from infergate.mock.script import Script

FLUSH = 0.05
"""Seconds that what was written gets to leave the process before a reset discards it."""

_JSON = b"application/json"
_EVENTS = b"text/event-stream"
_PAGE = b"""<!DOCTYPE html><html><body><h1>Internal Server Error</h1><pre>
Traceback (most recent call last):
  File "/srv/mock/answer.py", line 1, in answer
RuntimeError: a page that no client should see
</pre></body></html>
"""


class _Judged(msgspec.Struct):
    """Of a request, what the mock itself must be able to read."""

    messages: list[dict[str, Any]] = []


_members = msgspec.json.Decoder(dict[str, Any])


@attrs.frozen
class Reply:
    """What will be sent. `reply_to` makes it, a `_Sender` uses it up once.

    `pieces` are what is written, one after another, of `length` bytes in all, which is declared by
    ``Content-Length``; None for a stream, whose length nobody knows. `ending` is what follows the
    last piece: ``finish`` ends the body as it should, ``close`` and ``reset`` break the connection
    off, ``stall`` leaves it open and silent.
    """

    status: int
    content_type: bytes
    pieces: Iterable[bytes]
    length: int | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    ending: str = "finish"


def reply_to(body: bytes, script: Script, path: str) -> tuple[Script, Reply]:
    """Make the answer to a request; return the script that it follows, and the answer.

    `script` is that of the process, over which the ``mock`` member of the `body` counts; `path` is
    one of `DOORS`, else this raises `KeyError`. A body that is no JSON object, or a ``mock`` that
    is no script, raises nothing: its answer is a 400 that says why, under the script of the
    process. Called by `Mock.answer` for each request.
    """
    door = DOORS[path]
    try:
        members = _members.decode(body)
        msgspec.convert(members, _Judged)
        script = script.told(members.get("mock"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as why:
        return script, _whole(400, _JSON, _error(door, 400, str(why)))
    reply = _reply(door, Asked(members, script), body)
    if script.retry_after != "":
        after = (b"Retry-After", str(script.retry_after).encode())
        reply = attrs.evolve(reply, headers=(*reply.headers, after))
    if script.gzip:
        headers = (*reply.headers, (b"Content-Encoding", b"gzip"))
        reply = attrs.evolve(reply, headers=headers, pieces=_gzip(reply.pieces), length=None)
    if script.fail in ("reset", "close", "stall"):
        reply = _cut(reply, script.fail, script.fail_after)
    return script, reply


def _whole(status: int, content_type: bytes, body: bytes) -> Reply:
    """Return a reply of one piece, its length declared."""
    return Reply(status, content_type, [body], len(body))


def _reply(door: Door, asked: Asked, body: bytes) -> Reply:
    """Return what the script makes of the answer, but for how it is sent: `reply_to` adds header
    fields, compression and a connection that breaks off.

    A body of another kind (``html``, ``garbage``, ``empty``, ``redirect``) comes first, then a
    status that is an error, then the door's own answer. That is a stream where the request asks for
    one, the door has one and the script says neither ``plain`` nor ``cut_json``. With ``cut_json``
    one byte more is declared than is sent; with ``error_event`` a plain reply is an error under a
    status of 200. `body` is the request's, for ``received``.
    """
    script = asked.script
    streamed = asked.members.get("stream") is True and door.events is not None and not script.plain
    content_type = _EVENTS if streamed else _JSON
    if script.fail == "html":
        return _whole(script.status or 500, b"text/html; charset=utf-8", _PAGE)
    if script.fail == "garbage":
        return _whole(200, content_type, b"This is not JSON.\n\n")
    if script.fail == "empty":
        return _whole(200, content_type, b"")
    if script.fail == "redirect":
        return Reply(script.status or 302, _JSON, [b""], 0, ((b"Location", b"/elsewhere"),))
    if script.status not in (0, 200):
        return _whole(script.status, _JSON, _error(door, script.status, "The mock was told so."))
    if streamed and script.fail != "cut_json":
        return Reply(200, _EVENTS, _events(door, asked))
    if script.fail == "error_event":
        return _whole(200, _JSON, _error(door, 500, "The mock was told to fail."))
    document = _plain(door, asked, body)
    if script.fail == "cut_json":
        return Reply(200, _JSON, [document], len(document) + 1, ending="close")
    return _whole(200, _JSON, document)


def _plain(door: Door, asked: Asked, body: bytes) -> bytes:
    """Return the plain reply in bytes of JSON, as the door has it. Where the script says
    ``received``, an object gets the request's `body` in the member ``mock_received``, byte for
    byte."""
    document = door.plain(asked)
    if asked.script.received and isinstance(document, dict):
        document["mock_received"] = msgspec.Raw(body)
    return encode(document)


def _events(door: Door, asked: Asked) -> Iterator[bytes]:
    """Return the pieces of the stream, made one by one as they are sent. With the fault
    ``error_event`` an error follows after ``fail_after`` of them, and nothing after it. Only for a
    door that streams."""
    assert door.events is not None
    events = door.events(asked)
    if asked.script.fail == "error_event":
        failure = door.failure(_error_object(500, "The mock was told to fail."))
        return chain(islice(events, asked.script.fail_after), [failure])
    return events


def _error(door: Door, status: int, message: str) -> bytes:
    """Return the body of an error in bytes of JSON, in the dialect of the door."""
    return encode(door.error(_error_object(status, message)))


def _error_object(status: int, message: str) -> dict[str, Any]:
    """Return the members of an error as OpenAI has them; a `Door` puts them into the form of its
    own dialect. A status from 500 on is the server's fault, any other the request's."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"message": message, "type": kind, "param": None, "code": None}


def _gzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Compress the pieces, one by one, for ``Content-Encoding: gzip``. Each is flushed, so that a
    client can decode it when it comes, and a trailer follows the last."""
    stream = zlib.compressobj(wbits=31)
    for piece in pieces:
        yield stream.compress(piece) + stream.flush(zlib.Z_SYNC_FLUSH)
    yield stream.flush()


def _cut(reply: Reply, ending: str, after: int) -> Reply:
    """Return the reply that breaks off before its end, with `ending` in place of a proper one.

    Where `after` is 0 nothing is sent, the status neither. Of a stream, and of a compressed reply,
    the first `after` pieces are sent; of a plain reply half of the body, all of which was declared.
    """
    if reply.length is None or not after:
        return attrs.evolve(reply, pieces=islice(reply.pieces, after), ending=ending)
    body = b"".join(reply.pieces)
    return attrs.evolve(reply, pieces=[body[: len(body) // 2]], ending=ending)


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
        request.setHeader(b"Content-Type", _JSON)
        model = {"id": "mock", "object": "model", "created": CREATED, "owned_by": "infergate"}
        return encode({"object": "list", "data": [model]})

    @app.route("/health", methods=["GET"])
    def health(self, request: Any) -> bytes:
        """Return that the backend is well, in llama.cpp's words. No script changes it."""
        request.setHeader(b"Content-Type", _JSON)
        return b'{"status":"ok"}'
