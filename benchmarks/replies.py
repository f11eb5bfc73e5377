"""What the model server answers, in bytes: a plain completion, and the parts of a stream."""

from __future__ import annotations

import json
from typing import Any

_STAMP = b"0" * 16
_TEXT = "An answer of about as many words as a short one has. " * 4


def _document(kind: str, choice: dict[str, Any] | None, usage: bool) -> bytes:
    document = {"id": "chatcmpl-1", "object": kind, "created": 1700000000, "model": "bench"}
    choices = [] if choice is None else [{"index": 0, "finish_reason": "stop"} | choice]
    counts = {"prompt_tokens": 40, "completion_tokens": 60, "total_tokens": 100}
    used = {"usage": counts} if usage else {}
    whole = {**document, "choices": choices, **used}
    return json.dumps(whole, separators=(",", ":")).encode()


def _chunk(choice: dict[str, Any] | None, usage: bool = False) -> bytes:
    return _event(_document("chat.completion.chunk", choice, usage))


def _event(data: bytes) -> bytes:
    """One event, as an HTTP chunk."""
    return b"%x\r\ndata: %b\n\n\r\n" % (len(data) + 8, data)


_REPLY = _document("chat.completion", {"message": {"role": "assistant", "content": _TEXT}}, True)
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(_REPLY),
    _REPLY,
)
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_DELTA = {"delta": {"content": f"@{_STAMP.decode()}"}, "finish_reason": None}
_BEFORE, _AFTER = _chunk(_DELTA).split(_STAMP)
FINISH = _chunk({"delta": {}})
USAGE = _chunk(None, usage=True)
END = _event(b"[DONE]") + b"0\r\n\r\n"


def chunk(microsecond: int) -> bytes:
    """One chunk of a stream, with the time at which it was written as its text."""
    return _BEFORE + b"%016d" % microsecond + _AFTER
