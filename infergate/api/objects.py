"""Objects of JSON whose members stay as they came, taken apart and put together again.

Of ``{"id":"x", "n":1.50}`` the members are ``{"id": Raw(b'"x"'), "n": Raw(b'1.50')}``: what each is
worth shows in its first byte, and what nobody looks at goes on in the bytes in which it came,
1.50 and not 1.5. Members that were put together again stand in the order of the first, each once.
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
    """The members of a backend's plain reply; raises `BackendError` where it is no object, or an
    error."""
    try:
        return _reply(read_object(body))
    except NotJSON as error:
        raise _not_json(error) from None


def read_reply(body: bytes) -> Steps[dict[str, Raw]]:
    """The same for a reply of any size."""
    try:
        yield from _bound_values(body)
        return _reply((yield from object_in_steps(body)))
    except NotJSON as error:
        raise _not_json(error) from None


def read_reply_or_array(body: bytes, takes_array: bool) -> Steps[dict[str, Raw] | None]:
    """The same, where an array may be a reply too; None for one."""
    if not takes_array or not body.lstrip(b" \t\r\n").startswith(b"["):
        return (yield from read_reply(body))
    try:
        yield from _bound_values(body)
        yield from object_in_steps(body)
    except NotJSON as error:
        raise _not_json(error) from None
    return None


def _bound_values(body: bytes) -> Steps[None]:
    """Raise `BackendError` where the parser would take too long for the text in one go."""
    if len(body) > MAX_PARSED:
        for byte in (b",", b"[", b"{"):
            if (yield from has_more(body, byte, MAX_PARSED)):
                raise BrokenReply(f"The backend's reply has more than {MAX_PARSED} values.")


def _reply(members: dict[str, Raw] | None) -> dict[str, Raw]:
    if members is None:
        raise BrokenReply("The backend's reply is not a JSON object.")
    if members.get("error", NULL) != NULL:
        raise BrokenReply("The backend's reply is an error under a status of success.")
    return members


def _not_json(error: NotJSON) -> BrokenReply:
    return BrokenReply(f"The backend's reply is not valid JSON: {error}.")


def read(decoder: msgspec.json.Decoder[T], raw: Raw | bytes) -> T | None:
    """A value of the decoder's type; None where it is of another."""
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def read_values(body: bytes) -> Steps[dict[str, Any]]:
    """The members of a good reply as Python values; raises `BackendError` where that cannot be,
    as with the number 1e999, or where there are more than `MAX_VALUES`."""
    many = yield from has_more_values(body, MAX_VALUES)
    values = None if many else read(_values, body)
    if values is None:
        raise BrokenReply("The backend's reply cannot be made a stream of.")
    return values


def event(kind: str, /, **members: object) -> bytes:
    """A server-sent event of a type, its data an object of JSON that names the type too."""
    text = in_one_line(msgspec.json.encode({"type": kind, **members}))
    return b"event: %b\ndata: %b\n\n" % (kind.encode("ascii"), text)


def read_inner(raw: Raw) -> Steps[dict[str, Raw]]:
    """The members of an object inside a reply; raises `BackendError`."""
    try:
        return (yield from member_steps(raw))
    except NotJSON as error:
        raise BrokenReply(f"Of the backend's reply a part is wrong: {error}.") from None


def joined(members: dict[str, Raw]) -> bytes:
    """The object that has these members. `msgspec.json.encode` is quicker for a small one, and
    takes up to three times the memory of a large one."""
    parts: list[bytes | Raw] = []
    for name, raw in members.items():
        parts += (b"," if parts else b"{", msgspec.json.encode(name), b":", raw)
    return b"".join([*parts, b"}"] if parts else [b"{}"])


def array(items: list[bytes]) -> Raw:
    return Raw(b"[%b]" % b",".join(items))


def is_object(raw: Raw) -> bool:
    return memoryview(raw)[0] == _BRACE


def is_string(raw: Raw) -> bool:
    return memoryview(raw)[0] == _QUOTE


def is_array(raw: Raw) -> bool:
    return memoryview(raw)[0] == _BRACKET


def text_of(raw: Raw) -> str:
    """A string; "" for anything else."""
    return _string.decode(raw) if is_string(raw) else ""


def in_one_line(text: bytes) -> bytes:
    return text.translate(_ONE_LINE) if b"\n" in text or b"\r" in text else text


def fill(members: dict[str, Raw], name: str, value: object) -> bool:
    """Give a member that is absent or null a value; False where it has one."""
    if members.get(name, NULL) != NULL:
        return False
    members[name] = written(value)
    return True


def written(value: object) -> Raw:
    return Raw(msgspec.json.encode(value))
