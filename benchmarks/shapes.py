"""Documents that are as much work as their size allows: request bodies and backend replies.

Each is a function of its size in bytes, for what a parser, a validator or a copy might do with all
of them: build an object for each member, go through them twice, recurse, unescape.
"""

from __future__ import annotations

from collections.abc import Callable

Shape = Callable[[int], bytes]

_BEGIN = b'{"messages":[{"role":"user","content":"a"'
_END = b"}]}"


def _filled(before: bytes, item: bytes, after: bytes) -> Shape:
    """`item` as often as there is room for, with commas between."""

    def make(size: int) -> bytes:
        count = max((size - len(before) - len(after) + 1) // (len(item) + 1), 1)
        return before + b",".join([item] * count) + after

    return make


def _numbered(before: bytes, item: bytes, after: bytes) -> Shape:
    """The same with a number of eight digits in each, so that no two are alike."""

    def make(size: int) -> bytes:
        count = (size - len(before) - len(after) + 1) // (len(item % 0) + 1)
        return before + b",".join([item % number for number in range(count)]) + after

    return make


def _nested(opening: bytes, closing: bytes) -> Shape:
    def make(size: int) -> bytes:
        depth = (size - len(_BEGIN) - len(_END) - 5) // (len(opening) + len(closing))
        return _BEGIN + b',"x":' + opening * depth + b"1" + closing * depth + _END

    return make


def _long_text(before: bytes, unit: bytes, after: bytes) -> Shape:
    def make(size: int) -> bytes:
        return before + unit * ((size - len(before) - len(after)) // len(unit)) + after

    return make


_MESSAGE = b'{"role":"user","content":"a"}'

BODIES: dict[str, Shape] = {
    "one long string": _long_text(b'{"messages":[{"role":"user","content":"', b"word ", b'"}]}'),
    "the same, escaped": _long_text(
        b'{"messages":[{"role":"user","content":"', rb"\u00e9\n", b'"}]}'
    ),
    "the same, all letters escaped": _long_text(
        b'{"messages":[{"role":"user","content":"', rb"\u0061", b'"}]}'
    ),
    "many messages": _filled(b'{"messages":[', _MESSAGE, b"]}"),
    "messages with a member more": _filled(b'{"messages":[', _MESSAGE[:-1] + b',"x":1}', b"]}"),
    "empty objects in a message": _filled(_BEGIN + b',"x":[', b"{}", b"]" + _END),
    "empty arrays in a message": _filled(_BEGIN + b',"x":[', b"[]", b"]" + _END),
    "numbers": _filled(_BEGIN + b',"x":[', b"1.5", b"]" + _END),
    "short strings": _filled(_BEGIN + b',"x":[', b'"ab"', b"]" + _END),
    "content in parts": _filled(
        b'{"messages":[{"role":"user","content":[', b'{"type":"text","text":"a"}', b"]}]}"
    ),
    "a pair repeated": _filled(_BEGIN + b",", b'"x":1', _END),
    "a pair repeated, far in": _filled(_BEGIN + b',"x":{', b'"x":1', b"}" + _END),
    "members at the top": _numbered(b'{"messages":[' + _MESSAGE + b"],", b'"%08d":1', b"}"),
    "members in a message": _numbered(_BEGIN + b",", b'"%08d":1', _END),
    "members far in": _numbered(_BEGIN + b',"x":{', b'"%08d":1', b"}" + _END),
    "escaped names": _numbered(_BEGIN + b',"x":{', rb'"\u0061%08d":1', b"}" + _END),
    "objects of one member": _filled(_BEGIN + b',"x":[', b'{"a":1}', b"]" + _END),
    "too deep, arrays": _nested(b"[", b"]"),
    "too deep, objects": _nested(b'{"a":', b"}"),
    "truncated": lambda size: BODIES["objects of one member"](size)[: -len(_END) - 1],
    "a wrong role at the end": _filled(b'{"messages":[', _MESSAGE, b',{"role":1,"content":"a"}]}'),
    "invalid UTF-8 at the end": _long_text(
        b'{"messages":[{"role":"user","content":"', b"word ", b'\xff"}]}'
    ),
    "spaces": _long_text(b'{"messages":[' + _MESSAGE + b"]", b" ", b"}"),
    "not JSON": _long_text(b"", b"word ", b""),
}
"""Bodies for a chat request, valid and not."""

_CHOICE = b'{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"}'
_REPLY = b'{"id":"a","object":"chat.completion","created":1,"model":"a","choices":['

REPLIES: dict[str, Shape] = {
    "one long text": _long_text(
        _REPLY + b'{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"',
        b"word ",
        b'"}}]}',
    ),
    "hollow choices": _filled(b'{"choices":[', b'{"message":{}}', b"]}"),
    "whole choices": _filled(_REPLY, _CHOICE, b"]}"),
    "members at the top": _numbered(_REPLY + _CHOICE + b"],", b'"%08d":1', b"}"),
    "members in the message": _numbered(
        _REPLY + b'{"index":0,"message":{"role":"assistant","content":"a",', b'"%08d":1', b"}}]}"
    ),
    "empty objects": _filled(_REPLY + _CHOICE + b'],"x":[', b"{}", b"]}"),
    "token probabilities": _filled(
        _REPLY + _CHOICE[:-1] + b',"logprobs":{"content":[',
        b'{"token":"a","logprob":-0.5}',
        b"]}}]}",
    ),
}
"""Replies to a chat request, or what a backend might send in place of one."""

MODEL_LISTS: dict[str, Shape] = {
    "members at the top": _numbered(b'{"object":"list","data":[],', b'"%08d":1', b"}"),
    "many models": _numbered(
        b'{"object":"list","data":[', b'{"id":"m%08d","object":"model","created":0}', b"]}"
    ),
}

EVENTS: dict[str, bytes] = {
    "tiny events with CRLF": b"a:b\r\n\r\n",
    "tiny events with LF": b"a:b\n\n",
    "comments": b":\n\n",
    "events of one member": b'data: {"a":1}\n\n',
    "empty lines": b"\n",
    "an event of CRs": b"data: a\r\r",
}
"""What a stream repeats, as many as there is room for in each read of the gateway."""
