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


def _named(data: bytes) -> bytes:
    """An event that says its type twice, as an HTTP chunk."""
    kind = json.loads(data)["type"].encode()
    text = b"event: %b\ndata: %b\n\n" % (kind, data)
    return b"%x\r\n%b\r\n" % (len(text), text)


def delta(path: str, number: int) -> bytes:
    """One delta of a stream in another dialect, as vLLM writes it, with ``@`` in its text."""
    if path == "/v1/responses":
        return _named(
            b'{"content_index":0,"delta":"@%016d","item_id":"msg_1","logprobs":[],"output_index":0,'
            b'"sequence_number":%d,"type":"response.output_text.delta"}' % (number, number)
        )
    return _named(
        b'{"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"@%016d"}}' % number
    )


ENDS = {
    "/v1/responses": _named(b'{"type":"response.completed","response":{}}') + b"0\r\n\r\n",
    "/v1/messages": _named(b'{"type":"message_stop"}') + b"0\r\n\r\n",
}
"""By the path, what ends such a stream well."""


def chunk(microsecond: int) -> bytes:
    """One chunk of a stream, with the time at which it was written as its text."""
    return _BEFORE + b"%016d" % microsecond + _AFTER
