"""OpenAI's three dialects of a completion, as the mock speaks them."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from infergate.mock.asked import Asked, Door
from infergate.mock.openai import CHAT, COMPLETIONS, RESPONSES
from infergate.mock.script import Script

MESSAGES = [{"role": "user", "content": "hello big world"}]


def asked(script: Script | None = None, **members: Any) -> Asked:
    return Asked({"messages": MESSAGES, **members}, script or Script())


def events(door: Door, request: Asked) -> list[Any]:
    """The data of each event of a stream, decoded where it is JSON."""
    assert door.events is not None
    said = [one.rpartition(b"data: ")[2] for one in b"".join(door.events(request)).split(b"\n\n")]
    return [json.loads(data) if data[:1] == b"{" else data for data in said if data]


class Chat(SynchronousTestCase):
    def test_streamed_usage(self) -> None:
        """With include_usage, the chunk before [DONE] has the usage and no choice."""
        *_, chunk, done = events(CHAT, asked(stream_options={"include_usage": True}))
        self.assertEqual((chunk["choices"], chunk["usage"]["total_tokens"]), ([], 7))
        self.assertEqual(done, b"[DONE]")
        self.assertNotIn("usage", events(CHAT, asked())[-2])

    def test_tool_call(self) -> None:
        """If asked, it calls a function: plain in one piece, streamed name first."""
        request = asked(Script(tool_call="say"))
        (choice,) = CHAT.plain(request)["choices"]
        self.assertEqual(choice["finish_reason"], "tool_calls")
        self.assertIsNone(choice["message"]["content"])
        (call,) = choice["message"]["tool_calls"]
        self.assertEqual(call["function"]["name"], "say")
        self.assertEqual(
            json.loads(call["function"]["arguments"]), {"text": "Mock: hello big world"}
        )
        choices = [chunk["choices"][0] for chunk in events(CHAT, request)[:-1]]
        pieces = [piece for c in choices for piece in c["delta"].get("tool_calls", [])]
        self.assertEqual(pieces[0]["function"], {"name": "say", "arguments": ""})
        joined = "".join(piece["function"]["arguments"] for piece in pieces)
        self.assertEqual(joined, call["function"]["arguments"])
        self.assertEqual(choices[-1]["finish_reason"], "tool_calls")


class Completions(SynchronousTestCase):
    def test_joined_stream_is_the_plain_text(self) -> None:
        """A client that streams gets the same text and usage as one that does not."""
        plain = COMPLETIONS.plain(asked())
        *chunks, done = events(COMPLETIONS, asked())
        text = "".join(chunk["choices"][0]["text"] for chunk in chunks)
        self.assertEqual(text, plain["choices"][0]["text"])
        self.assertEqual((chunks[-1]["usage"], done), (plain["usage"], b"[DONE]"))
        self.assertEqual(events(COMPLETIONS, asked(Script(done=False)))[-1], chunks[-1])


class Responses(SynchronousTestCase):
    def test_stream_is_numbered_and_ends_with_the_plain_reply(self) -> None:
        """As OpenAI's helpers need it: no number is missing, and the last event has it all."""
        said = events(RESPONSES, asked())
        self.assertEqual([one["sequence_number"] for one in said], [*range(len(said))])
        self.assertEqual(said[-1]["type"], "response.completed")
        self.assertEqual(said[-1]["response"], RESPONSES.plain(asked()))

    def test_failure_stands_in_a_response(self) -> None:
        """An error in a stream is a response that has failed, and has no output."""
        name, _, data = RESPONSES.failure({"message": "no"}).partition(b"\n")
        failed = json.loads(data.removeprefix(b"data: "))["response"]
        self.assertEqual(name, b"event: response.failed")
        self.assertEqual((failed["status"], failed["output"]), ("failed", []))
        self.assertEqual(failed["error"]["message"], "no")
