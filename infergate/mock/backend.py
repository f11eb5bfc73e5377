"""A backend to try infergate against: it speaks the same API and fails as it is told.

What it says depends on the request alone: ``Mock: `` and the last user content, a word a
chunk. How it says it is a `Script`: the options of ``twistd infergate-mock`` for every
request, and over them, for one, the members of the object ``mock`` in its body, which the
gateway forwards like any member that it does not know. A chat is spoken here, all else in `doors`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Annotated, Any, Literal

import attrs
import msgspec
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.web.http import Request
from twisted.web.server import Site
from zope.interface import implementer

from infergate.mock.doors import CREATED, DOORS, Asked, Door, texts

CHAT_PATH = "/v1/chat/completions"

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

Seconds = Annotated[float, msgspec.Meta(ge=0, le=86400)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Status = Annotated[int, msgspec.Meta(ge=0, le=999)]
Fault = Literal[
    "reset", "close", "stall", "error_event", "garbage", "html", "empty", "redirect", "cut_json"
]


def _about(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to do with a request; each description is the help of an option."""

    delay: Annotated[Seconds, _about("seconds before the response headers")] = 0.0
    chunk_delay: Annotated[Seconds, _about("seconds from one chunk to the next")] = 0.0
    chunks: Annotated[Count, _about("content chunks to send; 0: one a word")] = 0
    status: Annotated[Status, _about("answer with this status and an error; 0: none")] = 0
    retry_after: Annotated[int | str, _about("send this Retry-After")] = ""
    fail: Annotated[
        Fault | None,
        _about(
            "break off with a reset, close or stall, or send error_event, after fail_after "
            "chunks; or answer with garbage, html, empty, redirect or cut_json"
        ),
    ] = None
    fail_after: Annotated[
        Count,
        _about("chunks before the failure, the one with the role included; 0: no headers either"),
    ] = 2
    usage: Annotated[bool, _about("false: leave usage out")] = True
    done: Annotated[
        bool, _about("false: leave out what ends a stream, such as data: [DONE] or message_stop")
    ] = True
    plain: Annotated[bool, _about("true: answer a stream request with plain JSON")] = False
    gzip: Annotated[bool, _about("true: compress the body")] = False
    received: Annotated[bool, _about("true: show the request in a plain reply")] = False
    tool_call: Annotated[str, _about("call this function with the reply as its text")] = ""


class _Part(msgspec.Struct):
    text: str = ""


class _Message(msgspec.Struct):
    role: str = ""
    content: str | list[_Part] | None = None

    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class _Request(msgspec.Struct):
    messages: list[_Message]
    model: str = "mock"
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    mock: dict[str, Any] | None = None


@attrs.frozen
class Reply:
    """What will be sent: pieces, of `length` bytes in all or None for a stream, and an ending:
    ``finish``, or what breaks the connection off."""

    status: int
    content_type: bytes
    pieces: Iterable[bytes]
    length: int | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    ending: str = "finish"


@attrs.frozen
class _Answer:
    """What is said to one request, and how an error would be said to it."""

    streamed: bool
    plain: Callable[[], bytes]
    events: Callable[[], Iterator[bytes]]
    door: Door

    def error(self, status: int, message: str) -> bytes:
        return _encode(self.door.error(_error(status, message)))


def reply_to(body: bytes, script: Script, path: str = CHAT_PATH) -> tuple[Script, Reply]:
    """The answer to a request, and the script that it follows."""
    try:
        door = DOORS.get(path)
        if door is None:
            request = _decode(body)
            script = _told(script, request.mock)
            answer = _chat_answer(request, script, body)
        else:
            members = _decode_any(body)
            script = _told(script, members.get("mock"))
            answer = _answer(door, members, script, body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as why:
        said = (door or _CHAT).error(_error(400, str(why)))
        return script, _whole(400, _JSON, _encode(said))
    reply = _reply(answer, script)
    if script.retry_after != "":
        after = (b"Retry-After", str(script.retry_after).encode())
        reply = attrs.evolve(reply, headers=(*reply.headers, after))
    if script.gzip:
        headers = (*reply.headers, (b"Content-Encoding", b"gzip"))
        reply = attrs.evolve(reply, headers=headers, pieces=_gzip(reply.pieces), length=None)
    if script.fail in ("reset", "close", "stall"):
        reply = _cut(reply, script.fail, script.fail_after)
    return script, reply


def _told(script: Script, told: Any) -> Script:
    """The script with what one request says of it."""
    if not isinstance(told, dict):
        return script
    return msgspec.convert({**msgspec.structs.asdict(script), **told}, Script)


def _chat_answer(request: _Request, script: Script, body: bytes) -> _Answer:
    return _Answer(
        request.stream,
        lambda: _completion(request, script, body),
        lambda: _events(request, script),
        _CHAT,
    )


def _answer(door: Door, members: dict[str, Any], script: Script, body: bytes) -> _Answer:
    """The same on any other route."""
    asked = texts(members)
    said = script.chunks and list(map("{} ".format, range(1, script.chunks + 1)))
    words = said or re.findall(r"\S+\s*", f"Mock: {asked[-1] if asked else ''}")
    prompt = sum(len(text.split()) for text in asked)
    known = Asked(members, words, prompt, usage=script.usage, end=script.done)

    def plain() -> bytes:
        document = door.plain(known)
        if script.received and isinstance(document, dict):
            document["mock_received"] = msgspec.Raw(body)
        return _encode(document)

    streamed = members.get("stream") is True and door.events is not None
    return _Answer(streamed, plain, lambda: (door.events or _no_events)(known), door)


def _no_events(asked: Asked) -> Iterator[bytes]:
    return iter(())


_CHAT = Door(lambda asked: None)
_decode_any = msgspec.json.Decoder(dict[str, Any]).decode
_decode = msgspec.json.Decoder(_Request).decode
_encode = msgspec.json.encode


def _whole(status: int, content_type: bytes, body: bytes) -> Reply:
    return Reply(status, content_type, [body], len(body))


def _reply(answer: _Answer, script: Script) -> Reply:
    streamed = answer.streamed and not script.plain
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
        return _whole(script.status, _JSON, answer.error(script.status, "The mock was told so."))
    if streamed and script.fail != "cut_json":
        events = answer.events()
        if script.fail == "error_event":
            failure = answer.door.failure(_error(500, "The mock was told to fail."))
            events = chain(islice(events, script.fail_after), [failure])
        return Reply(200, _EVENTS, events)
    if script.fail == "error_event":
        return _whole(200, _JSON, answer.error(500, "The mock was told to fail."))
    document = answer.plain()
    if script.fail == "cut_json":
        return Reply(200, _JSON, [document], len(document) + 1, ending="close")
    return _whole(200, _JSON, document)


def _error(status: int, message: str) -> dict[str, Any]:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"message": message, "type": kind, "param": None, "code": None}


def _words(request: _Request, script: Script) -> Iterable[str]:
    """The content of the reply, in chunks."""
    if script.chunks:
        return map("{} ".format, range(1, script.chunks + 1))
    users = (message.text() for message in reversed(request.messages) if message.role == "user")
    return re.findall(r"\S+\s*", f"Mock: {next(users, '')}")


def _call(request: _Request, script: Script) -> dict[str, Any]:
    arguments = _encode({"text": "".join(_words(request, script))}).decode("utf-8")
    function = {"name": script.tool_call, "arguments": arguments}
    return {"id": "call-mock", "type": "function", "function": function}


def _call_in_pieces(request: _Request, script: Script) -> Iterator[dict[str, Any]]:
    call = _call(request, script)
    pieces = re.findall(r"\S+\s*", call["function"]["arguments"])
    call["function"]["arguments"] = ""
    yield {"index": 0, **call}
    for piece in pieces:
        yield {"index": 0, "function": {"arguments": piece}}


def _usage(request: _Request, script: Script) -> dict[str, int]:
    prompt = sum(len(message.text().split()) for message in request.messages)
    reply = script.chunks or sum(1 for _ in _words(request, script))
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return dict(zip(names, (prompt, reply, prompt + reply), strict=True))


def _reason(script: Script) -> str:
    return "tool_calls" if script.tool_call else "stop"


def _completion(request: _Request, script: Script, body: bytes) -> bytes:
    message: dict[str, object] = {"role": "assistant", "content": None}
    if script.tool_call:
        message["tool_calls"] = [_call(request, script)]
    else:
        message["content"] = "".join(_words(request, script))
    document: dict[str, object] = {
        "id": "chatcmpl-mock",
        "object": "chat.completion",
        "created": CREATED,
        "model": request.model,
        "choices": [{"index": 0, "message": message, "finish_reason": _reason(script)}],
    }
    if script.usage:
        document["usage"] = _usage(request, script)
    if script.received:
        document["mock_received"] = msgspec.Raw(body)
    return _encode(document)


def _events(request: _Request, script: Script) -> Iterator[bytes]:
    """As llama.cpp sends them: the role, the words, and in one piece the finish reason, the
    usage where it was asked for, and the end."""
    head = b'data: {"id":"chatcmpl-mock","object":"chat.completion.chunk","created":%d,' % CREATED
    head += b'"model":%b,"choices":[' % _encode(request.model)
    choice = b'{"index":0,"delta":%b,"finish_reason":%b}]}\n\n'
    yield head + choice % (b'{"role":"assistant","content":null}', b"null")
    before, after = head + b'{"index":0,"delta":{"content":', b'},"finish_reason":null}]}\n\n'
    if script.tool_call:
        for piece in _call_in_pieces(request, script):
            yield head + choice % (_encode({"tool_calls": [piece]}), b"null")
    else:
        for word in _words(request, script):
            yield before + _encode(word) + after
    last = head + choice % (b"{}", _encode(_reason(script)))
    if script.usage and (request.stream_options or {}).get("include_usage"):
        last += head + b'],"usage":%b}\n\n' % _encode(_usage(request, script))
    yield last + (b"data: [DONE]\n\n" if script.done else b"")


def _gzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    stream = zlib.compressobj(wbits=31)
    for piece in pieces:
        yield stream.compress(piece) + stream.flush(zlib.Z_SYNC_FLUSH)
    yield stream.flush()


def _cut(reply: Reply, ending: str, after: int) -> Reply:
    if reply.length is None or not after:
        return attrs.evolve(reply, pieces=islice(reply.pieces, after), ending=ending)
    body = b"".join(reply.pieces)
    return attrs.evolve(reply, pieces=[body[: len(body) // 2]], ending=ending)


@implementer(IPushProducer)
class _Sender:
    """Sends the pieces of a reply, `interval` seconds from one to the next, or as fast as the
    client takes them. Nothing is sent, the headers neither, before there is a piece."""

    _timer: IDelayedCall | None = None
    _paused = False

    def __init__(self, request: Any, reply: Reply, script: Script, clock: IReactorTime) -> None:
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
        self._request.unregisterProducer()
        if self._ending == "reset":
            abort = self._request.channel.transport.abortConnection
            self._timer = self._clock.callLater(FLUSH, abort)
        elif self._ending == "close":
            self._request.channel.loseConnection()
        elif self._ending == "finish":
            self.sent.callback(None)

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        if self._timer is None:
            self._send()

    def stopProducing(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


class _QuietSite(Site):  # the log to read is the gateway's
    noisy = False

    def log(self, request: Request) -> None:
        pass


class Mock:
    """The mock backend's routes, answered by `script` on `clock`."""

    app = Klein()

    def __init__(self, script: Script, clock: IReactorTime) -> None:
        self._script = script
        self._clock = clock

    def site(self) -> Site:
        return _QuietSite(  # type: ignore[no-untyped-call]
            self.app.resource(), reactor=self._clock, parsePOSTFormSubmission=False
        )

    def answer(self, request: Any) -> Deferred[None]:
        """The ``x-mock-request-id`` of the answer is the X-Request-ID that came."""
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

    for _path in (CHAT_PATH, *DOORS):
        app.route(_path, methods=["POST"])(answer)

    @app.route("/v1/models", methods=["GET"])
    def models(self, request: Any) -> bytes:
        request.setHeader(b"Content-Type", _JSON)
        model = {"id": "mock", "object": "model", "created": CREATED, "owned_by": "infergate"}
        return _encode({"object": "list", "data": [model]})

    @app.route("/health", methods=["GET"])
    def health(self, request: Any) -> bytes:
        request.setHeader(b"Content-Type", _JSON)
        return b'{"status":"ok"}'
