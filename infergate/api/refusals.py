"""What a backend says when it refuses or fails, and what the client is told of it.

The backend's own words pass where they are fit to be shown: a sentence, and the error object that
clients look into (an agent shortens its history when it reads ``context_length_exceeded`` there).

    {"error":{"message":"too long","type":"...","code":400}}     OpenAI, llama.cpp, vLLM
    {"object":"error","message":"too long","code":400}           vLLM before
    {"detail":[{"loc":["body","n"],"msg":"must be 1"}]}          FastAPI: body.n: must be 1
    {"error":{"error":{"message":"too long"}}}                   a proxy around one of these
    model not found                                              a line of text

What becomes of it is decided by the status: one that is about what the client sent is passed on
(`PASSED_ON`), one that is about the gateway's own key is kept from the client (`NOT_SHOWN`), and
all others are the backend's failure, a 502 of the gateway's.
"""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
from msgspec import Raw, Struct

from infergate.api.objects import NULL, read
from infergate.api.screening import fit_to_show
from infergate.api.steps import at_once
from infergate.api.strictjson import NotJSON, member_steps, read_object
from infergate.errors import BackendError, BackendRejected, GatewayError, HeaderList

PASSED_ON = frozenset({400, 404, 409, 413, 415, 422, 429, 501})
"""Statuses with which a backend refuses what the client sent, or says that it does not offer the
operation: nothing has failed."""

NOT_SHOWN = frozenset({401, 403})
"""Statuses that are about the gateway's own key: what is said with them is none of the client's
business."""

NOT_BEGUN = frozenset({503, 529})
"""Statuses with which a backend says that it cannot begin now: it loads its model, or has too much
to do. Asking again costs nothing."""

MAX_MESSAGE = 2000
"""Characters of a backend's message that are passed on: a sentence, not a dump."""

MAX_DETAIL = 16384
"""Bytes of a backend's error object that are passed on; a larger one is left out."""

MAX_NESTED = 8
"""Error objects that are opened to find the innermost one with a message."""


_string = msgspec.json.Decoder(str)
_code = msgspec.json.Decoder(int)


class _Fault(Struct, gc=False):
    """An entry of the list in which FastAPI says what is wrong with a request."""

    msg: str
    loc: list[Any] = []


_faults = msgspec.json.Decoder(list[_Fault])


@attrs.frozen
class Said:
    """What may be shown of a refusal: its message, and its error object as it came. Both are None
    where the backend said nothing that is fit to be shown."""

    message: str | None = None
    detail: Raw | None = None
    code: int | None = None
    """The ``code`` of the error object, where that is a number."""


def refusal(status: int, body: bytes, headers: HeaderList = ()) -> GatewayError:
    """Return the error for a backend that answered `status`, which is no success, with `body`.

    `acceptance` calls it, and returns what it returns: `BackendRejected` for a status of
    `PASSED_ON`, `BackendError` for any other. `headers` go with the answer. The body of one of
    `NOT_SHOWN` is not read; a body that cannot be read only leaves the error with a message of the
    gateway's own.
    """
    said = Said() if status in NOT_SHOWN else read_refusal(body)
    if status in PASSED_ON:
        message = said.message or f"The backend refused the request with status {status}."
        return BackendRejected(status, message, said.detail, headers)
    return BackendError(
        said.message or f"The backend answered with status {status}.",
        detail=said.detail,
        prompt_sent=status not in NOT_BEGUN,
        headers=headers,
        cause=f"backend answered {status}",
    )


def first_event_refusal(data: bytes) -> GatewayError:
    """Return the error for a stream that begins with an error object, `data`.

    Its ``code``, where that is a status of one of the three groups above, decides as the status of
    a response would: a `BackendRejected` or a `BackendError`. Called by the relay, which raises it,
    where no status has been sent to the client yet.
    """
    code = read_refusal(data).code
    if code is not None and (code in PASSED_ON or code in NOT_SHOWN or code in NOT_BEGUN):
        return refusal(code, data)
    said = read_refusal(data)
    return BackendError(
        said.message or "The backend began its stream with an error.",
        detail=said.detail,
        cause="the stream began with an error",
    )


def read_refusal(body: bytes) -> Said:
    """Return what is said in the forms of OpenAI, llama.cpp, vLLM and FastAPI, or in one line of
    text.

    An empty `Said` where the body holds HTML or a traceback, or says nothing that can be read.
    Raises nothing. Called for a refusal, for the first event of a stream, and by `infergate check`.
    """
    if not fit_to_show(body):
        return Said()
    try:
        refused = read_object(body)
    except NotJSON:
        return Said(_one_line(body))
    if refused is None:
        return Said()
    # In a stream of ``/v1/responses`` the error of a response that has failed stands inside it.
    failed = refused.get("response", NULL)
    if "error" not in refused and bytes(failed).startswith(b"{"):
        refused = {name: raw for name, raw in _members(failed).items() if name == "error"}
    detail, members = _innermost(Raw(body), refused)
    message = _message(members)
    if message is None and members is not refused:
        message = _message(refused)
    # Of an object that only says `detail` or `message` there is no more to see than that.
    marks = (read(_string, refused.get(name, NULL)) for name in ("object", "type"))
    is_error = members is not refused or "error" in marks
    if message is not None:
        message = message[:MAX_MESSAGE]
    shown = detail if is_error and len(bytes(detail)) <= MAX_DETAIL else None
    return Said(message, shown, read(_code, members.get("code", NULL)) if is_error else None)


def _innermost(raw: Raw, members: dict[str, Raw]) -> tuple[Raw, dict[str, Raw]]:
    """Find the error object that is meant, and return its text and its members.

    Of objects inside one another, as proxies make them, it is the innermost with a message, or the
    outermost where none has one. No more than `MAX_NESTED` are opened. For `read_refusal`.
    """
    found = outermost = (raw, members)
    for _ in range(MAX_NESTED):
        inner = next(
            (
                member
                for name in ("error", "detail")
                if (member := members.get(name, NULL)) and bytes(member).startswith(b"{")
            ),
            None,
        )
        if inner is None:
            break
        raw, members = inner, _members(inner)
        if outermost[1] is found[1] or _message(members) is not None:
            found = raw, members
    return found


def _members(raw: Raw) -> dict[str, Raw]:
    """Return the members of an object of valid JSON; none where there are more than `MAX_MEMBERS`.
    For `read_refusal` and `_innermost`."""
    try:
        return at_once(member_steps(raw))
    except NotJSON:
        return {}


def _message(members: dict[str, Raw]) -> str | None:
    """Return the sentence of an error object, under whichever name it stands; None where there is
    none. For `read_refusal` and `_innermost`."""
    for name in ("message", "error", "detail", "msg"):
        raw = members.get(name, NULL)
        if message := read(_string, raw) or _first_fault(raw):
            return message
    return None


def _first_fault(raw: Raw) -> str | None:
    """Return the first entry of FastAPI's list, as ``body.messages.0.role: Field required``; None
    where `raw` is no such list. For `_message`."""
    faults = read(_faults, raw)
    if not faults:
        return None
    place = ".".join(str(step) for step in faults[0].loc if isinstance(step, (str, int)))
    return f"{place}: {faults[0].msg}" if place else faults[0].msg


def _one_line(body: bytes) -> str | None:
    """Return a body that is one line of plain text, cut to `MAX_MESSAGE` characters, as proxies and
    small backends answer with; None for anything else, JSON and markup among it. For
    `read_refusal`, where the body is not JSON."""
    try:
        line = body.decode().strip()
    except UnicodeDecodeError:
        return None
    if not line or not line.isprintable() or line[0] in '{["<':
        return None
    return line[:MAX_MESSAGE]
