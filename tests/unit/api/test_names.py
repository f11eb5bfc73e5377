"""Names of members, counted in a text."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from infergate.api import names
from infergate.api.names import count_names, in_plain_letters, says_all, without_spelled_letters
from infergate.api.steps import at_once

STRINGS = st.sampled_from(["text", "role", "content", "type", "x", "", "\\", ","])


@st.composite
def spelled(draw: st.DrawFn) -> tuple[bytes, int]:
    """An object some of whose letters are spelled as \\u0061, and how many members it has that are
    named ``text``."""
    pairs = draw(st.lists(st.tuples(STRINGS, STRINGS), max_size=6))
    upper = draw(st.booleans())

    def spell(text: str) -> str:
        if not draw(st.booleans()):
            return json.dumps(text)
        codes = [f"{ord(letter):04X}" if upper else f"{ord(letter):04x}" for letter in text]
        return '"' + "".join(rf"\u{code}" for code in codes) + '"'

    text = ",".join(f"{spell(name)}:{spell(value)}" for name, value in pairs)
    return f"{{{text}}}".encode(), [name for name, _ in pairs].count("text")


class NameTests(SynchronousTestCase):
    @given(spelled())
    def test_count_is_never_less_than_the_names_that_are_there(
        self, written: tuple[bytes, int]
    ) -> None:
        """However its letters are spelled, no name escapes the count."""
        text, there = written
        self.assertGreaterEqual(count_names(without_spelled_letters(text), b"text"), there)

    @given(st.lists(spelled(), max_size=4), st.integers(6, 30))
    def test_blocks_do_not_change_the_letters(
        self, written: list[tuple[bytes, int]], size: int
    ) -> None:
        """A long text has the letters in plain that it would have in one go."""
        text = b"[%b]" % b",".join(text for text, _ in written)
        self.patch(names, "BATCH", size)
        counted = at_once(in_plain_letters(text))
        for name in (b"text", b"role"):
            self.assertEqual(
                count_names(counted, name), count_names(without_spelled_letters(text), name)
            )

    def test_member_given_twice_is_missed_by_what_it_says(self) -> None:
        """Objects that were read say less than their text, where a member stands there twice."""
        for text, whole in ((b'[{"a":1,"b":""}]', True), (b'[{"a":1,"a":2}]', False)):
            self.assertIs(says_all(json.loads(text), text), whole)
