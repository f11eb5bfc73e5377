"""Bodies that are large and odd: what takes most time and memory of a naive reader."""

from __future__ import annotations

from collections.abc import Callable

HI = b'"messages":[{"role":"user","content":"a"}]'


def _filled(before: bytes, item: bytes, after: bytes) -> Callable[[int], bytes]:
    """As many of `item` as there is room for, with commas between them."""

    def body(size: int) -> bytes:
        count = max((size - len(before) - len(after)) // (len(item) + 1), 1)
        return before + b",".join([item] * count) + after

    return body


def _numbered(before: bytes, item: bytes, after: bytes) -> Callable[[int], bytes]:
    """The same where each item has a number in it, as wide as any."""

    def body(size: int) -> bytes:
        count = max((size - len(before) - len(after)) // (len(item % b"0000000") + 1), 1)
        items = (item % (b"%07x" % number) for number in range(count))
        return before + b",".join(items) + after

    return body


def _text(before: bytes, unit: bytes, after: bytes) -> Callable[[int], bytes]:
    return lambda size: before + unit * ((size - len(before) - len(after)) // len(unit)) + after


_MESSAGE = b'{"messages":[{"role":"user","content":"a",'
_X = b"{" + HI + b',"x":['

BODIES: dict[str, Callable[[int], bytes]] = {
    "messages with another member": _filled(
        b'{"messages":[', b'{"role":"user","content":"a","x":1}', b"]}"
    ),
    "smallest messages": _filled(b'{"messages":[', b'{"role":"","content":""}', b"]}"),
    "messages with escaped names": _filled(
        b'{"messages":[', b'{"r\\u006fle":"user","content":"a","x":1}', b"]}"
    ),
    "messages with nested names": _filled(
        b'{"messages":[', b'{"role":"user","content":"a","x":{"role":1}}', b"]}"
    ),
    "messages without text": _filled(b'{"messages":[', b'{"role":"a","content":[]}', b"]}"),
    "repeated pairs in a message": _filled(_MESSAGE, b'"x":1', b"}]}"),
    "repeated pairs and a decoy": _filled(_MESSAGE + b'"y":"role",', b'"x":1', b"}]}"),
    "different pairs in a message": _numbered(_MESSAGE, b'"%b":1', b"}]}"),
    "empty objects in a message": _filled(_MESSAGE + b'"x":[', b"{}", b"]}]}"),
    "content parts": _filled(b'{"messages":[{"role":"user","content":[', b'{"type":"a"}', b"]}]}"),
    "content parts with nested types": _filled(
        b'{"messages":[{"role":"user","content":[', b'{"type":"a","b":{"type":1}}', b"]}]}"
    ),
    "long content": _text(b'{"messages":[{"role":"user","content":"', b"word ", b'"}]}'),
    "escaped content": _text(b'{"messages":[{"role":"user","content":"', rb"\u4e2d", b'"}]}'),
    "content beyond the BMP": _text(
        b'{"messages":[{"role":"user","content":"\xf0\x9f\x98\x80', b"x", b'"}]}'
    ),
    "members at the top": _numbered(b"{" + HI + b",", b'"%b":1', b"}"),
    "escaped members at the top": _numbered(b"{" + HI + b",", rb'"\u0078%b":1', b"}"),
    "stream options": _numbered(b"{" + HI + b',"stream":true,"stream_options":{', b'"%b":1', b"}}"),
    "stop sequences": _filled(b"{" + HI + b',"stop":[', b'"a"', b"]}"),
    "empty objects": _filled(_X, b"{}", b"]}"),
    "nested objects": _filled(_X, b'{"a":{"a":{"a":1}}}', b"]}"),
    "numbers": _filled(_X, b"1", b"]}"),
    "strings": _filled(_X, b'"a"', b"]}"),
    "strings with brackets": _filled(_X, b'"[["', b"]}"),
    "one string of brackets": _text(b"{" + HI + b',"x":"', b"[", b'"}'),
    "one string of digits": _text(b"{" + HI + b',"x":"', b"1", b'"}'),
    "one string of backslashes": _text(b"{" + HI + b',"x":"', rb"\\", b'"}'),
    "a hundred deep": _filled(_X, b"[" * 100 + b"]" * 100, b"]}"),
    "three hundred deep": _filled(_X, b"[" * 300 + b"]" * 300, b"]}"),
    "as deep as it is long": _text(b"{" + HI + b',"x":', b"[", b""),
    "truncated": lambda size: BODIES["messages with another member"](size)[:-9],
    "not an object": _filled(b"[", b"{}", b"]"),
}
"""By name, what makes a body of about as many bytes as are asked for."""

_CHOICE = b'{"message":{"content":"a"}}'

REPLIES: dict[str, Callable[[int], bytes]] = {
    "choices": _filled(b'{"choices":[', b'{"message":{}}', b"]}"),
    "choices that are none": _filled(b'{"choices":[{"message":{}},', b"0", b"]}"),
    "members at the top": _numbered(b'{"choices":[' + _CHOICE + b"],", b'"%b":1', b"}"),
    "members of a choice": _numbered(b'{"choices":[{"message":{},', b'"%b":1', b"}]}"),
    "members of a message": _numbered(b'{"choices":[{"message":{', b'"%b":1', b"}}]}"),
    "tool calls": _filled(b'{"choices":[{"message":{"tool_calls":[', b"{}", b"]}}]}"),
    "members of a tool call": _numbered(
        b'{"choices":[{"message":{"tool_calls":[{', b'"%b":1', b"}]}}]}"
    ),
    "usage": _numbered(b'{"choices":[' + _CHOICE + b'],"usage":{', b'"%b":1', b"}}"),
    "a long text": _text(b'{"choices":[{"message":{"content":"', b"word ", b'"}}]}'),
    "empty objects": _filled(b'{"choices":[' + _CHOICE + b'],"x":[', b"{}", b"]}"),
}
"""The same of a backend's replies to a chat."""


_SYSTEM = b'{"max_tokens":5,"messages":[{"role":"user","content":"a"}],"system":['

OTHERS: dict[str, dict[str, Callable[[int], bytes]]] = {
    "/v1/completions": {
        "tokens": _filled(b'{"prompt":[', b"1", b"]}"),
        "prompts": _filled(b'{"prompt":[', b'"a"', b"]}"),
        "lists of tokens": _filled(b'{"prompt":[', b"[1,1,1]", b"]}"),
        "empty lists": _filled(b'{"prompt":[', b"[]", b"]}"),
        "objects": _filled(b'{"prompt":[', b'{"prompt_string":"a"}', b"]}"),
        "a mixture": _filled(b'{"prompt":[', b'1,"a"', b"]}"),
    },
    "/v1/embeddings": {"texts": _filled(b'{"input":[', b'"a"', b"]}")},
    "/v1/responses": {
        "items": _filled(b'{"input":[', b'{"role":"user","content":"a"}', b"]}"),
        "empty items": _filled(b'{"input":[', b"{}", b"]}"),
    },
    "/v1/messages": {
        "system blocks": _filled(_SYSTEM, b'{"type":"text","text":"a"}', b"]}"),
        "results of tools": _filled(
            b'{"max_tokens":5,"messages":[',
            b'{"role":"user","content":[{"type":"tool_result","content":[{"type":"text"}]}]}',
            b"]}",
        ),
    },
    "/v1/rerank": {"documents": _filled(b'{"query":"a","documents":[', b'"a"', b"]}")},
    "/tokenize": {"pieces": _filled(b'{"content":[', b'"a"', b"]}")},
    "/infill": {"tokens": _filled(b'{"prompt":[', b"1", b"]}")},
}
"""By its route, bodies of another operation."""
