"""What the mock was asked, and what it says to that."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from infergate.mock.asked import Asked, Door, event, text_of, typed_event
from infergate.mock.script import Script


def asked(script: Script | None = None, **members: Any) -> Asked:
    return Asked(members, script or Script())


class Words(SynchronousTestCase):
    def test_what_is_asked_in_parts(self) -> None:
        """Content parts, items and prompts of several forms are understood."""
        parts = [{"type": "text", "text": "in "}, {"type": "image_url"}, {"text": "parts"}]
        for members, text in (
            ({"messages": [{"role": "user", "content": parts}]}, "Mock: in parts"),
            ({"input": [{"role": "user", "content": [{"text": "a b"}]}]}, "Mock: a b"),
            ({"prompt": ["x", "a b"]}, "Mock: a b"),
            ({"prompt": [[1, 2]]}, "Mock: 1 2"),
            ({"prompt": {"prompt_string": "a"}}, "Mock: "),
        ):
            self.assertEqual(asked(None, **members).text, text)
        self.assertEqual(text_of({"prompt_string": "a"}), "a")

    def test_no_user(self) -> None:
        """Without a user message the reply is the bare prefix."""
        self.assertEqual(asked(messages=[{"role": "system", "content": None}]).text, "Mock: ")
        for odd in (None, 5, {}, []):
            self.assertEqual(asked(prompt=odd).text, "Mock: ")

    def test_counts_have_the_names_of_their_dialect(self) -> None:
        """A word is a token, and a script without usage has no counts at all."""
        hello = asked(input="hello big world")
        self.assertEqual(hello.counts("in", "out", "all"), {"in": 3, "out": 4, "all": 7})
        self.assertEqual(hello.usage("in"), {"usage": {"in": 3}})
        self.assertEqual(asked(Script(chunks=9), input="hello").counts("in", "out")["out"], 9)
        self.assertEqual(asked(Script(usage=False), input="hello").usage("in", "out"), {})


class Events(SynchronousTestCase):
    def test_event_is_what_an_sse_client_reads(self) -> None:
        """One line of data, below its type where it has one, and the empty line."""
        self.assertEqual(event({"n": 1}), b'data: {"n":1}\n\n')
        typed = typed_event("message_stop", n=1)
        self.assertEqual(typed, b'event: message_stop\ndata: {"type":"message_stop","n":1}\n\n')

    def test_failure_has_the_form_of_its_door(self) -> None:
        """A stream's error may differ from that of a body."""
        self.assertEqual(Door(dict).failure({"n": 1}), b'data: {"error":{"n":1}}\n\n')
        door = Door(dict, error_name="error", error_event=lambda error: [error])
        self.assertEqual(door.failure({"n": 1}), b'event: error\ndata: [{"n":1}]\n\n')
