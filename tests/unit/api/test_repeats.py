"""The short cut for events that differ in their text alone."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from infergate.api.repeats import Repeats, text_of
from tests.unit import LETTERS


def learnt(data: bytes) -> Repeats:
    repeats = Repeats(text_of(b"delta"))
    repeats.learn(data)
    return repeats


class Same(SynchronousTestCase):
    def test_another_text_is_the_same_event(self) -> None:
        """Whatever stands around it."""
        repeats = learnt(b'{"type":"t","delta":"a","index":0}')
        for text in (
            "b",
            " blue ",
            "\u00e9",
            "\u4e2d\u6587",
            "\U0001f642",
            "\\n",
            '\\"a\\" \\u00e9',
        ):
            self.assertTrue(repeats.count(b'{"type":"t","delta":"%b","index":0}' % text.encode()))

    def test_all_else_is_another_event(self) -> None:
        """An empty text, one that is no JSON, and another member."""
        repeats = learnt(b'{"type":"t","delta":"a","index":0}')
        for other in (
            b'{"type":"t","delta":"","index":0}',
            b'{"type":"t","delta":"\\x","index":0}',
            b'{"type":"t","delta":"\\ud83d","index":0}',
            b'{"type":"t","delta":"b\\","index":0}',
            b'{"type":"t","delta":"b","x":"c","index":0}',
            b'{"type":"t","delta":"\xff","index":0}',
            b'{"type":"t","delta":"a\x00","index":0}',
            b'{"type":"u","delta":"a","index":0}',
            b'{"type":"t","delta":"a","index":1}',
            b'{"type":"t","delta":"a","ind',
            b'{"type":"t","delta":',
            b"",
        ):
            self.assertFalse(repeats.count(other), other)

    def test_nothing_is_the_same_before_an_event_was_learnt(self) -> None:
        """Nor after one without such a text, which leaves what was learnt before it."""
        repeats = Repeats(text_of(b"delta"))
        self.assertFalse(repeats.count(b""))
        for without in (
            b'{"delta":5}',
            b'{"delta":""}',
            b'{"x":"delta"}',
            b'{"x":"\\"delta\\":\\"a\\""}',
        ):
            repeats.learn(without)
            self.assertFalse(repeats.count(without), without)
        data = b'{"delta":"a"}'
        repeats.learn(data)
        repeats.learn(b'{"delta":5}')
        self.assertTrue(repeats.count(data))

    def test_number_may_differ_too(self) -> None:
        """Before the text or behind it; what it was is known."""
        for before, between, after in (
            (b'{"delta":"', b'","sequence_number":', b',"x":1}'),
            (b'{"sequence_number": ', b',"delta": "', b'"}'),
        ):
            texts = (b"a", b"7") if before.endswith(b'"') else (b"7", b"a")
            repeats = Repeats(text_of(b"delta"), numbered=True)
            repeats.learn(before + texts[0] + between + texts[1] + after)
            for number in (b"8", b"10", b"123456789"):
                texts = (b" blue", number) if before.endswith(b'"') else (number, b" blue")
                self.assertTrue(repeats.count(before + texts[0] + between + texts[1] + after))
                self.assertEqual(repeats.number, int(number))
            for number in (
                b"",
                b"0",
                b"08",
                b"-1",
                b"1.5",
                b"1e5",
                b"1" * 30,
                b'"8"',
                b"8,9",
                b"null",
            ):
                texts = (b" blue", number) if before.endswith(b'"') else (number, b" blue")
                self.assertFalse(repeats.count(before + texts[0] + between + texts[1] + after))
            for text in (b"", b"\\", b'a"b', b"\x00"):
                texts = (text, b"8") if before.endswith(b'"') else (b"8", text)
                self.assertFalse(repeats.count(before + texts[0] + between + texts[1] + after))

    def test_number_that_is_not_found_may_not_differ(self) -> None:
        """As where its name is escaped."""
        repeats = Repeats(text_of(b"delta"), numbered=True)
        repeats.learn(b'{"delta":"a","sequence\\u005fnumber":7}')
        self.assertTrue(repeats.count(b'{"delta":"b","sequence\\u005fnumber":7}'))
        self.assertFalse(repeats.count(b'{"delta":"b","sequence\\u005fnumber":8}'))

    def test_several_are_counted_at_once(self) -> None:
        """Where nothing else is among them, and each text is whole by itself."""
        repeats = learnt(b'data: {"delta":"a"}\n\n')

        def events(*texts: bytes) -> bytes:
            return b"".join([b'data: {"delta":"%b"}\n\n' % text for text in texts])

        self.assertEqual(repeats.count(events(b"b", b'\\n\\"', "\u00e9".encode())), 3)
        for texts in (
            (b"b", b""),
            (b"b\\", b"n"),
            (b"\\ud83d", b"\\ude00"),
            (b"\xc3", b"\xa9"),
            (b"b", b'","x":"'),
        ):
            self.assertEqual(repeats.count(events(*texts)), 0, texts)
        self.assertEqual(repeats.count(events(b"b") + b": ping\n\n" + events(b"c")), 0)

    def test_several_of_any_lines_are_counted_at_once(self) -> None:
        """However many lines an event has, which of them holds the text, and how they end."""
        for around in (
            (b'event: delta\ndata: {"delta":"', b'"}\n\n'),
            (b'data: {"index":0,\ndata: "delta":"', b'",\ndata: "type":"t"}\nid: 7\n\n'),
            (b'data: {"delta":"', b'"}\r\n\r\n'),
        ):
            repeats = learnt(b"a".join(around))
            events = [text.join(around) for text in (b"b", b" c", b"longer than all around it")]
            self.assertEqual(repeats.count(b"".join(events)), 3, around)
            self.assertEqual(repeats.count(b"\n".join(events)), 0, around)

    def test_several_are_events_like_the_one_that_was_learnt(self) -> None:
        """All that stands between two texts counts, and nothing else is left out."""
        around = b'data: {"id":"0123456789","delta":"', b'","index":0}\n\n'
        repeats = learnt(b"a".join(around))
        between = around[1] + around[0]
        self.assertEqual(repeats.count(between.join([around[0] + b"a", b"b", b"c" + around[1]])), 3)
        for at in range(len(between)):
            other = between[:at] + between[at + 1 :]
            for joined in (
                b"a" + other + b"b" + between + b"c",
                b"a" + between + b"b" + other + b"c",
            ):
                self.assertEqual(repeats.count(around[0] + joined + around[1]), 0, other)

    def test_last_that_may_repeat_is_found(self) -> None:
        """From a place on; before anything is learnt there is none."""
        repeats = learnt(b'data: {"delta":"a"}\n\n')
        events = b'data: {"delta":"b"}\n\ndata: {"delta":5}\n\n'
        self.assertEqual(repeats.last_end(events, 0), 21)
        self.assertEqual(repeats.last_end(events, 21), 0)
        self.assertEqual(Repeats(text_of(b"delta")).last_end(events, 0), 0)

    @given(st.text(LETTERS), st.text(LETTERS), st.sampled_from(["delta", "x"]))
    def test_only_the_text_differs(self, first: str, second: str, name: str) -> None:
        """Two events that are the same say the same, but for one string that is not empty."""
        one, other = (
            json.dumps({"a": {name: text}, "delta": "d", "b": first}).encode()
            for text in (first, second)
        )
        if learnt(one).count(other):
            said = json.loads(other)
            self.assertEqual((said["delta"], said["b"]), ("d", first))
            self.assertTrue(said["a"][name] or not first)
