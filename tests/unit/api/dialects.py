"""The operations of `infergate.api`, asked and answered in memory."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from infergate.api.events import Reader, Scanner
from infergate.api.operation import Ask, Operation, Reply, Rules, Stamp, request_members
from infergate.api.operations import ROUTES
from infergate.api.steps import at_once
from infergate.api.usage import Usage
from infergate.errors import BackendError, InvalidRequest
from tests.unit import LETTERS

RULES = Rules(default_model="default", max_tokens_limit=1000)
STAMP = Stamp("r-1", 1_700_000_000)
MIB = 1 << 20
DONE = b"data: [DONE]\n\n"
HI = [{"role": "user", "content": "hi there"}]


def operation_at(path: str) -> Operation:
    return ROUTES[path][0]


def asked(path: str, body: bytes | dict[str, Any], rules: Rules = RULES) -> Ask:
    """A request as it goes on."""
    operation, route = ROUTES[path]
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return operation.check(request_members(text), route, rules)


def sent(path: str, body: bytes | dict[str, Any], rules: Rules = RULES) -> dict[str, Any]:
    """What the backend reads of it."""
    members: dict[str, Any] = json.loads(asked(path, body, rules).body())
    return members


def shaped(path: str, body: dict[str, Any], reply: Any) -> Reply:
    """What becomes of a backend's plain reply to a request."""
    text = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
    return at_once(operation_at(path).shape(text, asked(path, body), STAMP))


def echoed(path: str, body: dict[str, Any], rules: Rules = RULES) -> tuple[Any, Usage]:
    """The echo's answer, and its usage."""
    echo = operation_at(path).echo
    assert echo is not None
    reply = echo(asked(path, body, rules), STAMP)
    return json.loads(reply.body), reply.usage


def streamed(path: str, body: dict[str, Any], reply: Reply) -> list[Any]:
    """The events that a plain reply becomes, each with its type, and its data."""
    operation, ask = operation_at(path), asked(path, body)
    assert operation.as_stream is not None
    assert operation.reader is not None
    stream = at_once(operation.as_stream(reply, ask, STAMP))
    scanner = Scanner(MIB, operation.reader(ask))
    assert scanner.feed(stream) == stream
    assert scanner.complete(), stream
    return documents(stream)


def documents(stream: bytes) -> list[Any]:
    """The data of each event of a stream, whose type must be that of its ``event`` field."""
    found = []
    for block in stream.split(b"\n\n")[:-1]:
        *names, data = block.split(b"\n")
        text = data.removeprefix(b"data: ")
        document = text.decode() if text == b"[DONE]" else json.loads(text)
        if names:
            assert names == [b"event: " + document["type"].encode()], block
        found.append(document)
    return found


def event(document: Any, name: str | None = None) -> bytes:
    """An event; its ``event`` field says its type, where it has one or `name` says another."""
    if name is None and isinstance(document, dict):
        name = document.get("type")
    field = b"event: %b\n" % name.encode() if name else b""
    return field + b"data: %b\n\n" % json.dumps(document).encode()


def read(reader: Reader, *events: bytes) -> tuple[bytes, Scanner]:
    """What is given out of a stream, and what is known then."""
    scanner = Scanner(MIB, reader)
    return b"".join(map(scanner.feed, events)), scanner


def facts(scanner: Scanner) -> tuple[Any, ...]:
    reader = scanner.reader
    return (
        scanner.heard > 0,
        scanner.done,
        scanner.error,
        scanner.pending,
        scanner.complete(),
        reader.finished,
        reader.tokens,
        reader.model,
        reader.usage(10),
    )


@st.composite
def splits(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """`data` in pieces: single bytes, or cut at up to eight places."""
    if draw(st.integers(0, 5)) == 0:
        return [data[i : i + 1] for i in range(len(data))]
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@st.composite
def mixed(draw: st.DrawFn, events: list[bytes]) -> list[bytes]:
    """Events in any order, with comments, unknown events and hostile bytes between them, all their
    lines ended in one way."""
    others = [
        b": keep-alive\n\n",
        b"\n",
        b'event: new.kind\ndata: {"type":"new.kind","delta":{"x":[1]}}\n\n',
        b"data: null\n\n",
        b"data: 17\n\n",
        b"data: \xff\xfe{\n\n",
        b'data: {"type": 5}\n\n',
        b'data: {"type": "' + b"x" * 300 + b'"}\n\n',
        b"data: " + b"[" * 300 + b"\n\n",
        b"id: 7\nretry: 9\n\n",
        b"data: {\ndata: }\n\n",
    ]
    blocks = draw(st.lists(st.sampled_from([*events, *others]), max_size=12))
    ends = draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    return [block.replace(b"\n", ends) for block in blocks]


def json_values() -> st.SearchStrategy[Any]:
    """Anything that JSON can hold, types of parts and events among its texts."""
    words = """output_text refusal reasoning_text text thinking tool_use message function_call
        type content arguments name id input signature"""
    text = st.sampled_from(words.split()) | st.text(LETTERS, max_size=5)
    plain = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text
    return st.recursive(
        plain,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=6),
        max_leaves=10,
    )


class DialectTestCase(SynchronousTestCase):
    def assert_refused(
        self, path: str, body: bytes | dict[str, Any], code: str, rules: Rules = RULES
    ) -> None:
        """The request is at fault, and the error has this code and names the member."""
        error = self.assertRaises(InvalidRequest, asked, path, body, rules)
        self.assertEqual((error.status, error.code), (400, code), body)
        self.assertIn(str(error.param).partition("[")[0], error.message)

    def assert_broken(self, path: str, body: dict[str, Any], reply: Any) -> None:
        """The reply is none, and the backend at fault."""
        self.assertRaises(BackendError, shaped, path, body, reply)
