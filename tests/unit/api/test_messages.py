"""The messages of a chat, however many there are and wherever the fault stands."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from infergate.api import batches, messages, names
from infergate.api.messages import MAX_NAMES_SOUGHT, BadMessage, check_messages, texts
from tests.unit import LETTERS

GOOD = '{"role":"user","content":"a"}'
NESTED = '{"role":"user","content":"a","x":{"role":1,"content":"b"}}'
PARTS = '{"role":"user","content":[{"type":"text","text":"a"},{"type":"text"}]}'

BAD = [
    ('{"role":"user","content":5}', ".content"),
    ('{"role":"user","content":5,"x":{"content":"a"}}', ".content"),
    ('{"role":"user"}', ".content"),
    ('{"role":"user","x":{"content":"a"}}', ".content"),
    ('{"role":"user","content":[{"type":"text","text":5}]}', ".content[0].text"),
    ('{"role":"user","content":[{"type":"a","text":5,"x":{"text":"a"}}]}', ".content[0].text"),
    ('{"role":"user","content":"a","r\\u006Fle":"b"}', ".role"),
    ('{"role":"user","content":"a","\\u0063ontent":"b"}', ".content"),
    ('{"role":"user","content":"%s","\\u0063ontent":"b"}' % ("a" * 99), ".content"),
    ('{"role":"user","content":[{"type":"text","text":"a","\\u0074ext":"b"}]}', ".content[0].text"),
    ('{"role":"assistant","tool_calls":[1],"tool_call\\u0073":[2]}', ".tool_calls"),
    ('{"role":"user","content":[{"type":"a","typ\\u0065":"b"}]}', ".content[0].type"),
]


def check(*written: str) -> None:
    for _ in check_messages(Raw(f"[{','.join(written)}]".encode())):
        pass


class CheckTests(SynchronousTestCase):
    def test_fault_is_found_among_many(self) -> None:
        """A fault is found, and named by its message, among many messages as in one alone."""
        for others, before, after in (
            (GOOD, 0, 0),
            (GOOD, 150, 0),
            (NESTED, 3, 3),
            (NESTED, 150, 0),
            (PARTS, 3, 3),
            (PARTS, 0, 150),
            (GOOD, 2500, 10),
        ):
            for bad, path in BAD:
                error = self.assertRaises(
                    BadMessage, check, *[others] * before, bad, *[others] * after
                )
                self.assertEqual(error.path, f"[{before}]{path}")

    def test_first_fault_is_named(self) -> None:
        """Of two faults in what messages say that of the first is named."""
        for count in (1, 200):
            for bad, path in BAD[:6]:
                error = self.assertRaises(
                    BadMessage, check, *[GOOD] * count, bad, *[GOOD] * count, '{"role":"user"}'
                )
                self.assertEqual(error.path, f"[{count}]{path}", bad)

    def test_wrong_type_is_named_by_its_message(self) -> None:
        """What msgspec finds wrong has the number of its message, and of its part."""
        for bad, path in (
            ('{"role":5,"content":"a"}', "[2500].role"),
            ('{"role":"user","content":[{"type":5}]}', "[2500].content[0].type"),
            ("5", "[2500]"),
        ):
            error = self.assertRaises(msgspec.ValidationError, check, *[GOOD] * 2500, bad, GOOD)
            self.assertTrue(str(error).endswith(f" - at `${path}`"), error)

    def test_names_within_values_do_no_harm(self) -> None:
        """Names that stand in the values of a message are not its own, in any number of it."""
        for message in (NESTED, NESTED.replace(":1", ':{"role":"role"}')):
            check(*[message] * 1500)
        check('{"role":"a","content":"b","x":[' + ",".join(['{"role":1}'] * 10_000) + "]}")

    def test_parts_within_parts_are_not_the_messages_own(self) -> None:
        """The results of tools hold parts, with types and texts that are not those of the message;
        what is wrong beside them is found all the same."""
        inner = '{"type":"tool_result","content":[{"type":"text","text":"a"}]}'
        result = f'{{"role":"user","content":[{inner}]}}'
        check(*[result] * 300)
        for bad, path in BAD[4:6] + BAD[9:]:
            error = self.assertRaises(BadMessage, check, *[result] * 200, bad, *[result] * 200)
            self.assertEqual(error.path, f"[200]{path}")

    def test_search_for_a_repeated_name_is_bounded(self) -> None:
        """A message of very many members, one of which may be there twice, is refused."""
        many = ",".join(['"x":1'] * (MAX_NAMES_SOUGHT + 1)) + "}"
        error = self.assertRaises(BadMessage, check, '{"role":"a","content":"role",' + many)
        self.assertEqual(error.path, "[0]")
        check('{"role":"a","content":"b",' + many)

    @given(st.data())
    def test_batches_do_not_change_the_verdict(self, data: st.DataObject) -> None:
        """Cut into batches messages are judged as they are at once; of several faults another
        one may be named."""
        choices = [GOOD, NESTED, PARTS, *(bad for bad, _ in BAD)]
        written = data.draw(st.lists(st.sampled_from(choices), min_size=1, max_size=8))

        def verdict() -> str | None:
            try:
                check(*written)
            except BadMessage as error:
                return error.path
            return None

        at_once = verdict()
        size, few = batches.BATCH, messages.FEW
        try:
            # No batch is shorter than a letter that is spelled out, which is never cut in two.
            batches.BATCH = messages.BATCH = names.BATCH = data.draw(
                st.integers(len(r"\u0061"), 200)
            )
            messages.FEW = data.draw(st.integers(0, 4))
            self.assertIs(verdict() is None, at_once is None)
        finally:
            batches.BATCH = messages.BATCH = names.BATCH = size
            messages.FEW = few


class TextTests(SynchronousTestCase):
    @given(st.lists(st.text(LETTERS, max_size=5), max_size=5))
    def test_texts_are_those_that_were_written(self, written: list[str]) -> None:
        """Every text comes back, from a string and from parts."""
        strings: list[Any] = [{"role": "user", "content": text} for text in written]
        parts = [{"role": "user", "content": [{"type": "text", "text": text}]} for text in written]
        for document in (strings, parts):
            raw = Raw(json.dumps(document).encode())
            self.assertEqual([text for _, text in texts(raw)], written)


class SpelledLetters(SynchronousTestCase):
    """Text in which letters are spelled as \\u0061."""

    def test_text_of_spelled_letters_takes_no_more_memory_than_other_text(self) -> None:
        """A body that is all escapes is judged in little more than three times its own size."""
        spelled = rb"\u0041\u0061\u0074" * 20_000
        for content in (b'"%b"' % spelled, b'[{"type":"text","text":"%b"}]' % spelled):
            raw = Raw(b'[{"role":"user","content":%b}]' % content)
            tracemalloc.start()
            for _ in check_messages(raw):
                pass
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            self.assertLess(peak, 4 * len(content))

    def test_parts_of_type_text_are_judged_without_looking_at_their_names(self) -> None:
        """The word in ``"type":"text"`` is not taken for a second member `text`."""
        part = '{"type":"text","text":"a"}'
        text = f'[{{"role":"user","content":[{",".join([part] * 5000)}]}}]'
        self.patch(messages, "member_names", None)
        self.patch(messages, "says_all", None)
        for _ in check_messages(Raw(text.encode())):
            pass
