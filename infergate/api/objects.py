"""Objects of JSON whose members stay as they came, taken apart and put together again.

Of ``{"id":"x", "n":1.50}`` the members are ``{"id": Raw(b'"x"'), "n": Raw(b'1.50')}``. `Raw` is
msgspec's name for a value that is still text: what kind of value it is shows in its first byte, and
what nobody looks at goes on in the bytes in which it came, 1.50 and not 1.5. A `Raw` keeps all of
the text that it is a part of in memory. Members that were put together again stand in the order of
the first, each once.

The modules of the operations use this to read a backend's reply (`read_small_reply`, `read_reply`,
`read_reply_or_array`), to complete it (`fill`, `written`, `joined`) and to make events of it
(`read_values`, `event`). What takes long is a generator, `Steps`, whose steps are short: whoever
runs it (`steps.at_once`, `reactor.slices.in_slices`) can give way to the event loop between two.

A reply that is not what it should be ends in `BrokenReply`, which is a `BackendError` and answered
with 502.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from infergate.api.steps import Steps
from infergate.api.strictjson import (
    NotJSON,
    has_more,
    has_more_values,
    member_steps,
    object_in_steps,
    read_object,
)
from infergate.errors import BrokenReply

NULL = Raw(b"null")
"""What a member that is absent is taken for: most backends and clients send null for one."""

MAX_PARSED = 16_000_000
"""Values, arrays or objects of a reply: three times what 64 MiB of embeddings have. The parser goes
through all of them in one go, which with more empty ones would take longer than a tenth of a
second."""

MAX_VALUES = 200_000
"""Values of which Python objects are made at once: a tenth of a second's worth."""

T = TypeVar("T")
_string = msgspec.json.Decoder(str)
_values = msgspec.json.Decoder(dict[str, Any])

_QUOTE, _BRACKET, _BRACE = b'"[{'

# Line ends in valid JSON stand between its tokens only, but in an event stream they end a field.
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")


def read_small_reply(body: bytes) -> dict[str, Raw]:
    """Return the members of a backend's plain reply, read at once; for a body of at most `BLOCK`
    bytes, with which `reply.shape_reply` calls it.

    Raises `BrokenReply` where the body is no valid JSON, no object, or has an ``error`` that is not
    null.
    """
    try:
        return _reply(read_object(body))
    except NotJSON as error:
        raise _not_json(error) from None


def read_reply(body: bytes) -> Steps[dict[str, Raw]]:
    """Return the members of a backend's plain reply of any size, in steps.

    The `shape` of most operations begins with it, and so does what lists models. Raises
    `BrokenReply` as `read_small_reply` does, and for a body of more than `MAX_PARSED` values.
    """
    try:
        yield from _bound_values(body)
        return _reply((yield from object_in_steps(body)))
    except NotJSON as error:
        raise _not_json(error) from None


def read_reply_or_array(body: bytes, takes_array: bool) -> Steps[dict[str, Raw] | None]:
    """Return the members of a reply as `read_reply` does; None for an array, where `takes_array`
    says that one may be a reply too.

    Called by the operations that some backends answer with an array (embeddings, rerank, infill);
    of such an array nothing is known but that it is valid JSON. Raises `BrokenReply`.
    """
    if not takes_array or not body.lstrip(b" \t\r\n").startswith(b"["):
        return (yield from read_reply(body))
    try:
        yield from _bound_values(body)
        yield from object_in_steps(body)
    except NotJSON as error:
        raise _not_json(error) from None
    return None


def _bound_values(body: bytes) -> Steps[None]:
    """Raise `BrokenReply` where the parser would take too long for the text in one go: where it
    holds more than `MAX_PARSED` commas, brackets or braces, those inside strings counted in. Called
    by `read_reply` and `read_reply_or_array`, before the parser."""
    if len(body) > MAX_PARSED:
        for byte in (b",", b"[", b"{"):
            if (yield from has_more(body, byte, MAX_PARSED)):
                raise BrokenReply(f"The backend's reply has more than {MAX_PARSED} values.")


def _reply(members: dict[str, Raw] | None) -> dict[str, Raw]:
    """Return `members` where they are those of a good reply; for `read_small_reply` and
    `read_reply`.

    Raises `BrokenReply` where there are none, since the body was no object, and where they hold an
    ``error``: some backends answer with one under a status of 200.
    """
    if members is None:
        raise BrokenReply("The backend's reply is not a JSON object.")
    if members.get("error", NULL) != NULL:
        raise BrokenReply("The backend's reply is an error under a status of success.")
    return members


def _not_json(error: NotJSON) -> BrokenReply:
    """Return the error for a reply that is not JSON; the caller raises it. The words of `error` are
    the gateway's or msgspec's and quote nothing of the reply."""
    return BrokenReply(f"The backend's reply is not valid JSON: {error}.")


def read(decoder: msgspec.json.Decoder[T], raw: Raw | bytes) -> T | None:
    """Decode one value and return it as the type of `decoder`; None where it is of another type.

    Called wherever a member is looked at that a client or a backend may have filled with anything.
    Raises nothing for that: also for text that is not UTF-8, and for one nested too deeply.
    """
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def read_values(body: bytes) -> Steps[dict[str, Any]]:
    """Return the members of a good reply as Python values, in steps.

    The `as_stream` of messages and responses calls it to make events of a plain reply. Raises
    `BrokenReply` where that cannot be, as with the number 1e999, or where there are more than
    `MAX_VALUES`.
    """
    many = yield from has_more_values(body, MAX_VALUES)
    values = None if many else read(_values, body)
    if values is None:
        raise BrokenReply("The backend's reply cannot be made a stream of.")
    return values


def event(kind: str, /, **members: object) -> bytes:
    """Return a whole server-sent event, its data one line of JSON that names the type too:

        event: message_stop
        data: {"type":"message_stop"}

    `kind` is ASCII. Called for the events that the gateway makes itself: those of a plain reply
    that becomes a stream, and the one with which a stream of responses fails.
    """
    text = in_one_line(msgspec.json.encode({"type": kind, **members}))
    return b"event: %b\ndata: %b\n\n" % (kind.encode("ascii"), text)


def read_inner(raw: Raw) -> Steps[dict[str, Raw]]:
    """Return the members of an object inside a reply, such as one choice of a completion, in steps.

    `raw` must be an object of valid JSON. Raises `BrokenReply` where it has more than `MAX_MEMBERS`
    members. Called by `reply` for the choices and calls that it writes anew.
    """
    try:
        return (yield from member_steps(raw))
    except NotJSON as error:
        raise BrokenReply(f"Of the backend's reply a part is wrong: {error}.") from None


def joined(members: dict[str, Raw]) -> bytes:
    """Return the text of the object that has these members; the inverse of `read_object`.

    For large replies, whose members may hold megabytes: `msgspec.json.encode` is quicker for a
    small one, and takes up to three times the memory of a large one.
    """
    parts: list[bytes | Raw] = []
    for name, raw in members.items():
        parts += (b"," if parts else b"{", msgspec.json.encode(name), b":", raw)
    return b"".join([*parts, b"}"] if parts else [b"{}"])


def array(items: list[bytes]) -> Raw:
    """Return the array of these items, each of which is the text of one JSON value. Called by
    `reply` and `models` for an array that they have changed."""
    return Raw(b"[%b]" % b",".join(items))


def is_object(raw: Raw) -> bool:
    """Return whether the value is an object, by its first byte; `raw` must not be empty. Called by
    whoever looks at a member without decoding it, as `is_string` and `is_array` are."""
    return memoryview(raw)[0] == _BRACE


def is_string(raw: Raw) -> bool:
    """Return whether the value is a string, by its first byte; `raw` must not be empty."""
    return memoryview(raw)[0] == _QUOTE


def is_array(raw: Raw) -> bool:
    """Return whether the value is an array, by its first byte; `raw` must not be empty."""
    return memoryview(raw)[0] == _BRACKET


def text_of(raw: Raw) -> str:
    """Return the text of a JSON string, its escapes resolved; "" for a value of any other kind.
    Called by the echo, for what it repeats."""
    return _string.decode(raw) if is_string(raw) else ""


def in_one_line(text: bytes) -> bytes:
    """Return valid JSON without line feeds and carriage returns, each replaced by a blank; `text`
    itself where it has none. In an event stream a line end would end the ``data:`` field. Called
    for whatever becomes the data of an event."""
    return text.translate(_ONE_LINE) if b"\n" in text or b"\r" in text else text


def fill(members: dict[str, Raw], name: str, value: object) -> bool:
    """Give the member `name` a value where it is absent or null, and return True; False where it
    has one.

    `reply` calls it to complete what a backend left out. `value` is anything that msgspec can
    encode.
    """
    if members.get(name, NULL) != NULL:
        return False
    members[name] = written(value)
    return True


def written(value: object) -> Raw:
    """Return a Python value as JSON, for a place among the members of an object."""
    return Raw(msgspec.json.encode(value))
