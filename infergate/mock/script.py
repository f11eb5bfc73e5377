"""How the mock answers: a `Script`, of ``twistd infergate-mock`` for every request, and over it,
for one, the members of the object ``mock`` in its body.

    {"messages": [...], "stream": true, "mock": {"fail": "reset", "fail_after": 3}}

The gateway forwards that member like any that it does not know.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

Seconds = Annotated[float, msgspec.Meta(ge=0, le=86400)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Status = Annotated[int, msgspec.Meta(ge=0, le=999)]
Fault = Literal[
    "reset", "close", "stall", "error_event", "garbage", "html", "empty", "redirect", "cut_json"
]


def _about(text: str) -> msgspec.Meta:
    """Return the annotation that holds the help of an option; `tap` reads it off the fields of
    `Script`."""
    return msgspec.Meta(description=text)


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to do with a request; each description is the help of an option.

    `told` and `tap.script_from` make one by way of msgspec, which refuses a value out of bounds and
    a member of an unknown name.
    """

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

    def told(self, mock: Any) -> Script:
        """Return the script with what one request says of it: the members of `mock`, the object in
        its body, in place of those here. The same script where `mock` is no object, None included.

        Raises `msgspec.ValidationError` for a member that is not known or whose value is not
        allowed, as in ``{"fail": "never"}``. Called by `reply_to`, which answers that with a 400.
        """
        if not isinstance(mock, dict):
            return self
        return msgspec.convert({**msgspec.structs.asdict(self), **mock}, Script)
