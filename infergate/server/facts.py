"""What a head says of its request: the path as text, the id that the client gave, its trace."""

from __future__ import annotations

import re

from msgspec import Struct

from infergate.errors import is_anthropic
from infergate.server.head import Head
from infergate.telemetry.tracecontext import TraceContext, read_trace

# Visible ASCII, since OpenAI's tunnel and AWS put `/`, `=` and `;` into ids; but for the two
# characters that would have to be escaped in JSON and in a metric's label.
_REQUEST_ID = re.compile(rb"[!#-\[\]-~]{1,128}")
_DIGITS = re.compile(rb"[0-9]{1,4}")


class Facts(Struct, frozen=True):
    """What follows from a head alone; `Request.__init__` asks for it by ``head.derived(facts)``.

    `path` is the target without its query, `path_text` the same for the log: None where the target
    is of another form, and was refused, since a password may stand in it. `own_id` is the client's
    id of the request, None where it gave none that is fit for logs and labels. `anthropic` says
    whether the client speaks Anthropic's dialect, and looks for the id in its header field.
    """

    method: str
    path: bytes
    path_text: str | None
    own_id: str | None
    anthropic: bool
    retry_count: int | None
    trace: TraceContext | None


def facts(head: Head) -> Facts:
    """Return what `head` says of its request, whole or refused. Raises nothing: what is wrong with
    a field that only describes the request makes that field count as left out."""
    path = head.target.partition(b"?")[0]
    text = path.decode("ascii") if path.startswith(b"/") or path == b"*" else None
    retries = head.fields.get(b"x-stainless-retry-count")
    return Facts(
        method=head.method.decode("ascii"),
        path=path,
        path_text=text,
        own_id=_own_id(head.fields),
        anthropic=text is not None and is_anthropic(text),
        retry_count=int(retries[0]) if retries and _DIGITS.fullmatch(retries[0]) else None,
        trace=read_trace(head.fields) if b"traceparent" in head.fields else None,
    )


def _own_id(fields: dict[bytes, list[bytes]]) -> str | None:
    """Return the first good id in ``X-Request-ID`` or else ``request-id``. Called by `facts`."""
    for name in (b"x-request-id", b"request-id"):
        for value in fields.get(name, ()):
            if _REQUEST_ID.fullmatch(value):
                return value.decode("ascii")
    return None
