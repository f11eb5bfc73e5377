"""The chat reply: the backend's, the echo's, and either as a stream."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from infergate.api.chat import CHAT
from infergate.api.operation import Ask, Rules, Stamp, request_members
from infergate.api.reply import (
    CHAT_KIND,
    as_chunks,
    shape_reply,
)
from infergate.api.steps import at_once
from infergate.api.usage import NO_USAGE, Usage
from infergate.errors import BackendError

CHOICE = b'{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"length"}'
USAGE = b'{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}'


ASK = Ask(CHAT.routes[0], "m", False, {})
STAMP = Stamp("r-1", 7)


def shape(body: bytes) -> tuple[bytes, Usage]:
    reply = at_once(shape_reply(body, ASK, STAMP, CHAT_KIND))
    return reply.body, reply.usage


def ask(body: bytes) -> Ask:
    return CHAT.check(request_members(body), CHAT.routes[0], Rules("d", 1))


def shaped(body: bytes) -> Any:
    return json.loads(shape(body)[0])


def with_usage(text: bytes) -> bytes:
    return b'{"choices":[%b],"usage":%b}' % (CHOICE, text)


class ShapeTests(SynchronousTestCase):
    def test_whole_reply_changes_in_its_id_alone(self) -> None:
        """Of a whole reply the id alone is replaced; every other byte of a value stays."""
        body = (
            b'{ "x":1E400, "id":"%b","object":"o","created":1.0,"model":"b",\n"choices":[ '
            + CHOICE
            + b' ],"usage": {"prompt_tokens":1, "completion_tokens":2,"total_tokens":9,"d":{}},'
            b'"timings":null,"y":"\\u0041"}'
        )
        reply, usage = shape(body % b"chatcmpl-1")
        compact = body.replace(b'{ "x"', b'{"x"').replace(b', "id"', b',"id"')
        compact = compact.replace(b',\n"choices":[ ', b',"choices":[ ')
        self.assertEqual(reply, compact.replace(b'"usage": ', b'"usage":') % b"r-1")
        self.assertEqual(usage, Usage(1, 2, 9, "backend"))

    def test_what_was_left_out_is_filled_in(self) -> None:
        """What the backend left out or gave as null is there, and no number is made up."""
        for body in (
            b'{"choices":[{"message":{"content":"a"}},{"message":{},"finish_reason":"length"}]}',
            b'{"id":null,"object":null,"created":null,"model":null,"usage":null,"error":null,'
            b'"choices":[{"index":null,"message":{"content":"a"},"finish_reason":null},'
            b'{"index":1,"message":{},"finish_reason":"length"}]}',
        ):
            reply, usage = shape(body)
            document = json.loads(reply)
            document.pop("error", None)
            self.assertEqual(
                document,
                {
                    "id": "r-1",
                    "object": "chat.completion",
                    "created": 7,
                    "model": "m",
                    "choices": [
                        {"index": 0, "message": {"content": "a"}, "finish_reason": "stop"},
                        {"index": 1, "message": {}, "finish_reason": "length"},
                    ],
                    "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
                },
            )
            self.assertEqual(usage, NO_USAGE)

    def test_filled_choice_keeps_its_other_members(self) -> None:
        """A choice that something is filled in to keeps its other members byte for byte."""
        reply, _ = shape(b'{"choices":[{"message":{ "content" : "\\/" },"logprobs":{"a":1.0}}]}')
        self.assertIn(b'{"message":{ "content" : "\\/" },"logprobs":{"a":1.0},', reply)

    def test_usage(self) -> None:
        """Usage is read as far as it can be believed, and never a reason to fail."""
        for text, usage in (
            (USAGE, Usage(1, 2, 3, "backend")),
            (b'{"prompt_tokens":1,"completion_tokens":2}', Usage(1, 2, 3, "backend")),
            (b'{"prompt_tokens":1}', Usage(1, 0, 1, "backend")),
            (b'{"prompt_tokens":0,"total_tokens":0}', Usage(0, 0, 0, "backend")),
            (b'{"prompt_tokens":-1,"completion_tokens":2}', NO_USAGE),
            (b'{"prompt_tokens":1.5,"completion_tokens":"2"}', NO_USAGE),
            (b'{"prompt_tokens":true,"total_tokens":null}', NO_USAGE),
            (b'{"prompt_tokens":%b}' % (b"9" * 400), NO_USAGE),
            (b"{}", NO_USAGE),
        ):
            reply, read = shape(with_usage(text))
            self.assertEqual(read, usage, text)
            self.assertIn(b'"usage":' + text, reply)

    def test_usage_that_is_no_object_is_none(self) -> None:
        """A usage that is no object is as good as none."""
        for text in (b"null", b"5", b"[]", b'"a"'):
            reply, usage = shape(with_usage(text))
            self.assertEqual(usage, NO_USAGE)
            self.assertEqual(json.loads(reply)["usage"]["total_tokens"], 0)

    def test_reply_that_is_no_completion_is_the_backends_error(self) -> None:
        """A reply that is no completion is the backend's error, whatever its status was."""
        good = b'"choices":[%b]' % CHOICE
        for body in (
            b"",
            b"<html></html>",
            b"{" + good,
            b"{" + good + b',"x":NaN}',
            b"{" + good + b',"x":"\xff"}',
            b"{" + good + b',"x":' + b"[" * 200 + b"]" * 200 + b"}",
            b"[" * 100_000,
            b"{" + good + b"}{}",
            b"[]",
            b"null",
            b'"a"',
            b"{}",
            b'{"choices":null}',
            b'{"choices":[]}',
            b'{"choices":{}}',
            b'{"choices":"a"}',
            b'{"choices":[null]}',
            b'{"choices":[[]]}',
            b'{"choices":[{}]}',
            b'{"choices":[{"text":"a"}]}',
            b'{"choices":[{"message":null}]}',
            b'{"choices":[{"message":"a"}]}',
            b'{"choices":[%b,{}]}' % CHOICE,
            b'{"error":{"message":"a"}}',
            b"{" + good + b',"error":{"message":"a"}}',
            b"{" + good + b',"error":"a"}',
        ):
            error = self.assertRaises(BackendError, shape, body)
            self.assertEqual(error.code, "backend_error")

    @given(
        st.dictionaries(
            st.sampled_from(["id", "error", "choices", "usage", "model", "object", "x"]),
            st.recursive(
                st.none() | st.integers() | st.floats() | st.just("a"),
                lambda inner: (
                    st.lists(inner, max_size=2)
                    | st.dictionaries(st.sampled_from(["message", "index", "total_tokens"]), inner)
                ),
                max_leaves=8,
            ),
        )
    )
    def test_any_reply_is_a_completion_or_an_error(self, document: dict[str, Any]) -> None:
        """Whatever a backend answers, it is a completion or the backend's error."""
        try:
            reply, _ = shape(json.dumps(document).encode())
        except BackendError:
            return
        stream = at_once(as_chunks(reply, True, CHAT_KIND))
        self.assertTrue(stream.endswith(b"\n\ndata: [DONE]\n\n"))


class EchoTests(SynchronousTestCase):
    def echo(self, messages: list[Any]) -> tuple[Any, Usage]:
        body = json.dumps({"messages": messages, "model": "m"}).encode()
        assert CHAT.echo is not None
        reply = CHAT.echo(ask(body), STAMP)
        return json.loads(reply.body), reply.usage

    def test_reply(self) -> None:
        """The echo is a whole completion with the prompt in it, its words counted."""
        reply, usage = self.echo(
            [{"role": "system", "content": "be  kind\n"}, {"role": "user", "content": "é x y"}]
        )
        self.assertEqual(
            reply,
            {
                "id": "r-1",
                "object": "chat.completion",
                "created": 7,
                "model": "m",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": "Echo: é x y"},
                        "finish_reason": "stop",
                    }
                ],
                "usage": {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9},
            },
        )
        self.assertEqual(usage, Usage(5, 4, 9, "counted"))

    def test_last_user_message_is_echoed(self) -> None:
        """The echo holds the last of the user's messages, though it has no text."""
        user, system = {"role": "user", "content": "a"}, {"role": "system", "content": "s"}
        for messages, content in (
            ([user, {**user, "content": "b"}, system], "Echo: b"),
            ([user, {**user, "content": []}], "Echo: "),
        ):
            reply, _ = self.echo(messages)
            self.assertEqual(reply["choices"][0]["message"]["content"], content)

    def test_echo_without_a_user_message_is_empty(self) -> None:
        """Without a user message nothing stands after the colon."""
        reply, _ = self.echo([{"role": "system", "content": "a"}])
        self.assertEqual(reply["choices"][0]["message"]["content"], "Echo: ")


class ChunkTests(SynchronousTestCase):
    def events(self, body: bytes, include_usage: bool = False) -> list[Any]:
        """The chunks of a stream, which must end as a stream does."""
        stream = at_once(as_chunks(shape(body)[0], include_usage, CHAT_KIND))
        self.assertTrue(stream.endswith(b"\n\ndata: [DONE]\n\n"))
        self.assertNotIn(b"\r", stream)
        *events, end, rest = stream.split(b"\n\n")
        self.assertEqual((end, rest), (b"data: [DONE]", b""))
        for event in events:
            self.assertTrue(event.startswith(b"data: {"))
            self.assertNotIn(b"\n", event)
        return [json.loads(event[6:]) for event in events]

    def test_whole_reply_is_in_one_chunk(self) -> None:
        """The whole reply is in one chunk, with each message as a delta."""
        body = b'{"choices":[{"message":{"role":"assistant","content":"a"},"logprobs":{"b":1}}],'
        (chunk,) = self.events(body + b'"usage":%b,"system_fingerprint":"f"}' % USAGE)
        self.assertEqual(
            chunk,
            {
                "id": "r-1",
                "object": "chat.completion.chunk",
                "created": 7,
                "model": "m",
                "choices": [
                    {
                        "index": 0,
                        "delta": {"role": "assistant", "content": "a"},
                        "logprobs": {"b": 1},
                        "finish_reason": "stop",
                    }
                ],
                "system_fingerprint": "f",
            },
        )

    def test_usage(self) -> None:
        """A client that asked for it gets the usage in a chunk of its own, zeros if need be."""
        for text, total in ((USAGE, 3), (b"null", 0)):
            chunk, last = self.events(with_usage(text), include_usage=True)
            self.assertNotIn("usage", chunk)
            self.assertEqual(last["usage"]["total_tokens"], total)
            self.assertEqual(
                {name: last[name] for name in ("id", "object", "created", "model", "choices")},
                {
                    "id": "r-1",
                    "object": "chat.completion.chunk",
                    "created": 7,
                    "model": "m",
                    "choices": [],
                },
            )

    def test_tool_calls_are_numbered(self) -> None:
        """Tool calls are numbered, as clients of a stream need them to be."""
        (chunk,) = self.events(
            b'{"choices":[{"message":{"content":null,"tool_calls":'
            b'[{"id":"a"},{"id":"b","index":5},{"id":"c","index":null}]}}]}'
        )
        calls = chunk["choices"][0]["delta"]["tool_calls"]
        self.assertEqual(
            [(call["id"], call["index"]) for call in calls], [("a", 0), ("b", 5), ("c", 2)]
        )

    def test_tool_calls_that_are_none_are_passed_on(self) -> None:
        """Tool calls that are none are passed on as they are."""
        for text in (b"null", b"[]", b"5", b"[null]"):
            body = b'{"choices":[{"message":{"tool_calls":%b}}]}' % text
            (chunk,) = self.events(body)
            self.assertEqual(chunk["choices"][0]["delta"]["tool_calls"], json.loads(text))

    def test_reply_in_many_lines_is_one_event(self) -> None:
        """A backend that writes its JSON in many lines does not break the event."""
        body = json.dumps(json.loads(with_usage(USAGE)) | {"x": {"y": [1, "a\n"]}}, indent=2)
        self.assertEqual(
            self.events(body.encode()), self.events(body.replace("\n", "\r\n").encode())
        )

    def test_echo_streams_as_a_reply_does(self) -> None:
        """The echo streams as a backend's plain reply does."""
        assert CHAT.echo is not None
        request = ask(b'{"messages":[{"role":"user","content":"a"}]}')
        stream = at_once(as_chunks(CHAT.echo(request, STAMP).body, False, CHAT_KIND))
        self.assertIn(b'"delta":{"role":"assistant","content":"Echo: a"}', stream)
