"""What the mock answers, and how an answer ends: the bytes, before anything is sent.

What it says, a `Door` of its path makes of the request; how it says it, or fails to, a `Script`
says. `reply_to` puts the two together into a `Reply`.

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

from infergate.mock.asked import Asked, Door, encode
from infergate.mock.doors import DOORS
from infergate.mock.script import Script

JSON = b"application/json"
"""What most answers say that they are, in ``Content-Type``."""

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
        return script, _whole(400, JSON, _error(door, 400, str(why)))
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
    content_type = _EVENTS if streamed else JSON
    if script.fail == "html":
        return _whole(script.status or 500, b"text/html; charset=utf-8", _PAGE)
    if script.fail == "garbage":
        return _whole(200, content_type, b"This is not JSON.\n\n")
    if script.fail == "empty":
        return _whole(200, content_type, b"")
    if script.fail == "redirect":
        return Reply(script.status or 302, JSON, [b""], 0, ((b"Location", b"/elsewhere"),))
    if script.status not in (0, 200):
        return _whole(script.status, JSON, _error(door, script.status, "The mock was told so."))
    if streamed and script.fail != "cut_json":
        return Reply(200, _EVENTS, _events(door, asked))
    if script.fail == "error_event":
        return _whole(200, JSON, _error(door, 500, "The mock was told to fail."))
    document = _plain(door, asked, body)
    if script.fail == "cut_json":
        return Reply(200, JSON, [document], len(document) + 1, ending="close")
    return _whole(200, JSON, document)


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
